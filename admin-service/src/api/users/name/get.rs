//! `GET /users/{name}`: one user.

use crate::json::Json;
use axum::extract::State;

use super::Named;
use crate::api::extract::NoParameters;
use crate::api::users::UserBody;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};

/// One user
#[utoipa::path(
    get, path = "/users/{name}", tag = "users",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    responses(
        (status = 200, description = "The user, deleted or not.", body = UserBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn get_user(
    _: Admin,
    Named(name): Named,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<UserBody>, ApiError> {
    let user = app.store.user(&name).await?;
    Ok(Json(UserBody::of(user, &app)))
}
