//! `GET /tokens/{id}`: one token.

use axum::extract::State;

use crate::api::extract::NoParameters;
use crate::api::tokens::TokenBody;
use crate::app::App;
use crate::auth::OwnToken;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// One token
///
/// Without its secret, which is not kept. A caller without `latchkey:admin` sees its own.
#[utoipa::path(
    get, path = "/tokens/{id}", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("id" = String, Path, description = "The token's identifier.", format = Uuid)),
    responses(
        (status = 200, description = "The token.", body = TokenBody),
        (status = 404, description = "`token_not_found`: there is no such token, or it is not the caller's.", body = ErrorBody),
    ),
)]
pub(super) async fn get_token(
    own: OwnToken,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<TokenBody>, ApiError> {
    Ok(Json(TokenBody::of(own.token, app.sources.now())))
}
