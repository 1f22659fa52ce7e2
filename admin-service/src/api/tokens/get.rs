//! `GET /tokens`: looks for tokens among those of all users.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::TokenBody;
use crate::api::extract::{Parameters, parameter, time_parameter};
use crate::api::page::{ListKey, PageBody, invalid_cursor};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::page::{InvalidCursor, Page, PageRequest};
use crate::domain::token_search::{TokenFilter, TokenPlace};
use crate::error::ApiError;
use crate::json::Json;
use crate::store::StoreError;

/// Which tokens to list: those that meet all that is given.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TokensQuery {
    /// Of the user of this name.
    #[param(example = "alice")]
    user: Option<String>,
    /// With this status.
    #[param(pattern = "^(active|expired|revoked)$", example = "active")]
    status: Option<String>,
    /// With this text, in upper or lower case, in their name, description or hint, or in the name of their user.
    #[param(min_length = 1, max_length = 100, example = "deploy")]
    q: Option<String>,
    /// That expire before this time, or have expired. Then those that expire first come first.
    #[param(format = DateTime)]
    expires_before: Option<String>,
    /// That were last used before this time, or were made before it and never used.
    #[param(format = DateTime)]
    last_used_before: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before, of the same list with the same filters.
    #[param(pattern = "^[A-Za-z0-9_-]{22,32}[.][A-Za-z0-9_-]{11}$")]
    cursor: Option<String>,
}

impl TokensQuery {
    fn check(&self) -> Result<(TokenFilter, PageRequest<TokenPlace>), ApiError> {
        let filter = TokenFilter {
            user: parameter("user", self.user.as_deref())?,
            status: parameter("status", self.status.as_deref())?,
            text: parameter("q", self.q.as_deref())?,
            expires_before: time_parameter("expires_before", self.expires_before.as_deref())?,
            last_used_before: time_parameter("last_used_before", self.last_used_before.as_deref())?,
        };
        let page = page_of(&filter, &self.key(), self.limit.as_deref(), self.cursor.as_deref())?;
        Ok((filter, page))
    }

    fn key(&self) -> ListKey {
        let filters = [
            // Names are compared without case, so either spelling lists the same.
            ("user", &self.user.as_deref().map(str::to_ascii_lowercase)),
            ("status", &self.status),
            ("q", &self.q),
            ("expires_before", &self.expires_before),
            ("last_used_before", &self.last_used_before),
        ];
        ListKey::of("tokens", &filters.map(|(name, value)| (name, value.as_deref())))
    }
}

/// Which page of a search is asked for. A cursor of a list in another order is none.
pub(in crate::api) fn page_of(
    filter: &TokenFilter,
    key: &ListKey,
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Result<PageRequest<TokenPlace>, ApiError> {
    let page: PageRequest<TokenPlace> = key.page(limit, cursor)?;
    if page.cursor.is_some_and(|place| place.order() != filter.order()) {
        return Err(invalid_cursor(&InvalidCursor));
    }
    Ok(page)
}

/// Look for tokens
///
/// Among those of all users, in the order in which they were made; with `expires_before` or `status=expired` those that
/// expire first come first. A page may have fewer items than it could, even none, and others after it: it is the last one
/// where `next_cursor` is null.
#[utoipa::path(
    get, path = "/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(TokensQuery),
    responses((status = 200, description = "A page of tokens.", body = PageBody<TokenBody>)),
)]
pub(super) async fn search_tokens(
    _: Admin,
    Parameters(query): Parameters<TokensQuery>,
    State(app): State<App>,
) -> Result<Json<PageBody<TokenBody>>, ApiError> {
    let (key, (filter, page)) = (query.key(), query.check()?);
    let page = match app.store.search_tokens(&filter, page).await {
        // Whoever filters by what is not there finds nothing.
        Err(StoreError::UserNotFound(_)) => Page { items: Vec::new(), next_cursor: None },
        found => found?,
    };
    let now = app.sources.now();
    Ok(Json(PageBody::of(page, &key, |token| TokenBody::of(token, now))))
}
