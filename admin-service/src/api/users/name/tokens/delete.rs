//! `DELETE /users/{name}/tokens?status=expired`: tidies up.

use axum::extract::State;
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

/// How many tokens were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = Deleted)]
pub(super) struct DeletedBody {
    #[schema(example = 3)]
    deleted: u64,
}

/// Delete a user's expired tokens
///
/// All of them or the first `limit`, and no others.
#[utoipa::path(
    delete, path = "/users/{name}/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name."), StatusQuery),
    responses(
        (status = 200, description = "How many were deleted.", body = DeletedBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn delete_expired_tokens(
    owner: TokensOf,
    Parameters(query): Parameters<StatusQuery>,
    State(app): State<App>,
) -> Result<Json<DeletedBody>, ApiError> {
    if query.status.as_deref() != Some("expired") {
        let message = "Only expired tokens can be deleted together: add `?status=expired`";
        return Err(ApiError::new(Code::InvalidQuery, message).with("parameter", "status"));
    }
    let limit = query.limit()?;
    let deleted = app.store.delete_expired_of_user(&owner.origin(), &owner.user, limit).await?;
    Ok(Json(DeletedBody { deleted }))
}
