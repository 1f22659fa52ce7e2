//! `DELETE /users/{name}/tokens?status=expired`: tidies up.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::Parameters;
use crate::app::App;
use crate::auth::TokensOf;
use crate::error::{ApiError, Code, ErrorBody};

/// Which tokens to delete.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatusQuery {
    /// Must be `expired`: nothing else is deleted in bulk.
    #[param(required = true, example = "expired", pattern = "^expired$")]
    status: Option<String>,
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
/// All of them, and no others.
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
    let deleted = app.store.delete_expired_of_user(&owner.origin(), &owner.user).await?;
    Ok(Json(DeletedBody { deleted }))
}
