//! `GET /users/{name}`: one user.

use axum::extract::State;

use crate::api::extract::NoParameters;
use crate::api::links::Links;
use crate::api::users::UserBody;
use crate::app::App;
use crate::auth::ReadableUser;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// One user
///
/// A caller without `latchkey:admin` sees its own, whatever its scopes: it is what `self` of `/me` leads to.
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
    ReadableUser(name): ReadableUser,
    _: NoParameters,
    State(app): State<App>,
    links: Links,
) -> Result<Json<UserBody>, ApiError> {
    let user = app.store.user(&name).await?;
    Ok(Json(UserBody::of(user, &links)))
}
