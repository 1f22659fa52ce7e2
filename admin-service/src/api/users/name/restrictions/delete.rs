//! `DELETE /users/{name}/restrictions`: one user's limits are as for everyone.

use axum::extract::State;
use axum::http::StatusCode;

use crate::api::extract::NoParameters;
use crate::api::users::name::Named;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::user_restrictions::UserRestrictions;
use crate::error::{ApiError, ErrorBody};

/// Take a user's own limits away
///
/// Those of `/restrictions` hold for it from now on. Repeatable.
#[utoipa::path(
    delete, path = "/users/{name}/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    responses(
        (status = 204, description = "The user has no limits of its own."),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
        (status = 409, description = "`user_not_active`: the user was deleted, and stays as it is.", body = ErrorBody),
    ),
)]
pub(super) async fn delete_user_restrictions(
    admin: Admin,
    Named(name): Named,
    _: NoParameters,
    State(app): State<App>,
) -> Result<StatusCode, ApiError> {
    app.store.put_user_restrictions(&admin.origin(), &name, &UserRestrictions::default()).await?;
    Ok(StatusCode::NO_CONTENT)
}
