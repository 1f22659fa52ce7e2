//! `GET /users/{name}/tokens`: one user's tokens, in pages.

use axum::Json;
use axum::extract::State;

use crate::api::extract::Parameters;
use crate::api::page::{PageBody, PageQuery};
use crate::api::tokens::TokenBody;
use crate::app::App;
use crate::auth::TokensOf;
use crate::error::{ApiError, ErrorBody};

/// List a user's tokens
///
/// In the order in which they were made, with those that are expired or revoked and not deleted yet. A caller without
/// `latchkey:admin` sees its own.
#[utoipa::path(
    get, path = "/users/{name}/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name."), PageQuery),
    responses(
        (status = 200, description = "A page of tokens.", body = PageBody<TokenBody>),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn list_tokens(
    owner: TokensOf,
    Parameters(query): Parameters<PageQuery>,
    State(app): State<App>,
) -> Result<Json<PageBody<TokenBody>>, ApiError> {
    let page = app.store.tokens_of_user(&owner.user, query.check()?).await?;
    let now = app.sources.now();
    Ok(Json(PageBody::of(page, |token| TokenBody::of(token, now))))
}
