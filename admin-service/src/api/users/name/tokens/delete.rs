//! `DELETE /users/{name}/tokens?status=expired`: tidies up.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{Parameters, bad_parameter};
use crate::app::App;
use crate::auth::TokensOf;
use crate::error::{ApiError, Code, ErrorBody};
use crate::json::Json;

/// Which tokens to delete.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatusQuery {
    /// Must be `expired`: nothing else is deleted in bulk.
    #[param(required = true, example = "expired", pattern = "^expired$")]
    status: Option<String>,
    /// How many at most, 1 to 10,000; without it, all. Where fewer are deleted, there are no more.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Option<String>,
}

/// The most that `limit` may be.
const MOST: u32 = 10_000;

impl StatusQuery {
    fn limit(&self) -> Result<Option<u32>, ApiError> {
        let Some(text) = &self.limit else { return Ok(None) };
        let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        let refused = || bad_parameter("limit", &format!("must be a number, 1 to {MOST}"));
        limit.map(Some).ok_or_else(refused)
    }
}

/// After how long no other batch is begun: one that waits for others may take the rest of the request's time.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);

/// How many tokens were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = Deleted)]
pub(super) struct DeletedBody {
    #[schema(example = 3)]
    deleted: u64,
    /// True where expired tokens may be left: the request's time was up (202), or `limit` was reached (200). Send it again for
    /// these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

/// Delete a user's expired tokens
///
/// All of them or the first `limit`, and no others. Of very many, as many as there is time for: the answer is 202 then, and the request may
/// be sent again until it is 200.
#[utoipa::path(
    delete, path = "/users/{name}/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name."), StatusQuery),
    responses(
        (status = 200, description = "How many were deleted: all, or as many as `limit` says.", body = DeletedBody,
         example = json!({"deleted": 3})),
        (status = 202, description = "How many were deleted until the request's time was up; there may be more.", body = DeletedBody,
         example = json!({"deleted": 77_000, "more": true})),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn delete_expired_tokens(
    owner: TokensOf,
    Parameters(query): Parameters<StatusQuery>,
    State(app): State<App>,
) -> Result<(StatusCode, Json<DeletedBody>), ApiError> {
    if query.status.as_deref() != Some("expired") {
        let message = "Only expired tokens can be deleted together: add `?status=expired`";
        return Err(ApiError::new(Code::InvalidQuery, message).with("parameter", "status"));
    }
    let limit = query.limit()?;
    let done = app.store.delete_expired_of_user(&owner.origin(), &owner.user, limit, BEGIN_WITHIN).await?;
    let as_asked = !done.more || limit.is_some_and(|limit| done.deleted >= u64::from(limit));
    let status = if as_asked { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(DeletedBody { deleted: done.deleted, more: done.more })))
}
