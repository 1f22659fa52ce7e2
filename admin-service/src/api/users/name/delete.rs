//! `DELETE /users/{name}`: deletes a user for good.

use axum::extract::State;
use axum::http::StatusCode;

use super::Named;
use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};

/// Delete a user
///
/// Refuses all the user's tokens at once, at every edge. It cannot be undone. The name stays taken until the
/// scheduler prunes the user, as long after as expired tokens are kept. Repeatable.
#[utoipa::path(
    delete, path = "/users/{name}", tag = "users",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    responses(
        (status = 204, description = "The user is deleted."),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn delete_user(
    admin: Admin,
    Named(name): Named,
    _: NoParameters,
    State(app): State<App>,
) -> Result<StatusCode, ApiError> {
    app.store.delete_user(&admin.origin(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
