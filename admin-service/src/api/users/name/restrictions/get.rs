//! `GET /users/{name}/restrictions`: the limits of one user.

use axum::extract::State;

use super::UserLimitsBody;
use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::TokensOf;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// The limits of one user
///
/// Its own, if it has some, and those that hold for it. A caller without `latchkey:admin` sees those of its own user.
#[utoipa::path(
    get, path = "/users/{name}/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name.")),
    responses(
        (status = 200, description = "The limits.", body = UserLimitsBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
    ),
)]
pub(super) async fn get_user_restrictions(
    owner: TokensOf,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<UserLimitsBody>, ApiError> {
    Ok(Json(app.store.user_restrictions(&owner.user).await?.into()))
}
