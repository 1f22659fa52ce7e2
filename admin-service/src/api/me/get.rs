//! `GET /me`: who the caller is.

use axum::extract::State;

use crate::api::extract::NoParameters;
use crate::api::links::Links;
use crate::api::users::UserBody;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::json::Json;

/// The caller's user
///
/// Any valid token will do; it needs no scope.
#[utoipa::path(
    get, path = "/me", tag = "me",
    security(("bearer" = []), ("basic" = [])),
    responses((status = 200, description = "The user that the token acts for.", body = UserBody)),
)]
pub(super) async fn get_me(
    caller: Caller,
    _: NoParameters,
    State(app): State<App>,
    links: Links,
) -> Result<Json<UserBody>, ApiError> {
    let user = app.store.user(&caller.user).await?;
    Ok(Json(UserBody::of(user, &links)))
}
