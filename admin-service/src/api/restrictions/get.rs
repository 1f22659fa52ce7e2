//! `GET /restrictions`: the limits in force.

use axum::extract::State;

use super::RestrictionsBody;
use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::Admin;
use crate::error::ApiError;
use crate::json::Json;

/// The limits in force
#[utoipa::path(
    get, path = "/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    responses((status = 200, description = "The limits.", body = RestrictionsBody)),
)]
pub(super) async fn get_restrictions(
    _: Admin,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<RestrictionsBody>, ApiError> {
    Ok(Json(app.store.restrictions().await?.into()))
}
