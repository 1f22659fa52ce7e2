//! `DELETE /tokens/{id}`: revokes a token.

use axum::extract::State;
use axum::http::StatusCode;

use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::OwnToken;
use crate::error::{ApiError, ErrorBody};

/// Revoke a token
///
/// It is refused from now on, at every edge. Repeatable.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("id" = String, Path, description = "The token's identifier.", format = Uuid)),
    responses(
        (status = 204, description = "The token is revoked."),
        (status = 404, description = "`token_not_found`: there is no such token, or it is not the caller's.", body = ErrorBody),
    ),
)]
pub(super) async fn revoke_token(
    own: OwnToken,
    _: NoParameters,
    State(app): State<App>,
) -> Result<StatusCode, ApiError> {
    app.store.revoke_token(&own.origin(), own.token.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
