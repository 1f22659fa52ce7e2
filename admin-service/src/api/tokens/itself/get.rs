//! `GET /tokens/self`: what the token of the call is.

use axum::extract::State;

use super::of_caller;
use crate::api::extract::NoParameters;
use crate::api::tokens::TokenBody;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::json::Json;

/// The token of this call
///
/// What it is, and when it expires. Any valid token will do; it needs no scope.
#[utoipa::path(
    get, path = "/tokens/self", tag = "tokens",
    security(("bearer" = []), ("basic" = [])),
    responses((status = 200, description = "The token.", body = TokenBody)),
)]
pub(super) async fn get_own_token(
    caller: Caller,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<TokenBody>, ApiError> {
    let token = app.store.token(caller.token_id).await.map_err(of_caller)?;
    Ok(Json(TokenBody::of(token, app.sources.now())))
}
