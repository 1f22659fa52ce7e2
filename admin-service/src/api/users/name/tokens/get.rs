//! `GET /users/{name}/tokens`: one user's tokens, in pages.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::extract::{Parameters, time_parameter};
use crate::api::page::{ListKey, PageBody};
use crate::api::tokens::TokenBody;
use crate::api::tokens::get::page_of;
use crate::app::App;
use crate::auth::TokensOf;
use crate::domain::token_search::TokenFilter;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// Which tokens to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TokensOfUserQuery {
    /// Only those that expire before this time, or have expired. Then those that expire first come first.
    #[param(format = DateTime)]
    expires_before: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before, of the same list with the same filters.
    #[param(pattern = "^[A-Za-z0-9_-]{22,32}[.][A-Za-z0-9_-]{11}$")]
    cursor: Option<String>,
}

/// List a user's tokens
///
/// In the order in which they were made, with those that are expired or revoked and not deleted yet; with
/// `expires_before` those that expire first come first. A caller without
/// `latchkey:admin` sees its own.
#[utoipa::path(
    get, path = "/users/{name}/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name."), TokensOfUserQuery),
    responses(
        (status = 200, description = "A page of tokens.", body = PageBody<TokenBody>),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn list_tokens(
    owner: TokensOf,
    Parameters(query): Parameters<TokensOfUserQuery>,
    State(app): State<App>,
) -> Result<Json<PageBody<TokenBody>>, ApiError> {
    let expires_before = time_parameter("expires_before", query.expires_before.as_deref())?;
    let filters = [("user", Some(owner.user.as_str())), ("expires_before", query.expires_before.as_deref())];
    let key = ListKey::of("tokens of a user", &filters);
    let filter = TokenFilter { user: Some(owner.user), expires_before, ..TokenFilter::default() };
    let page = page_of(&filter, &key, query.limit.as_deref(), query.cursor.as_deref())?;
    let page = app.store.search_tokens(&filter, page).await?;
    let now = app.sources.now();
    Ok(Json(PageBody::of(page, &key, |token| TokenBody::of(token, now))))
}
