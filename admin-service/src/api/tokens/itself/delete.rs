//! `DELETE /tokens/self`: revokes the token of the call.

use axum::extract::State;
use axum::response::IntoResponse;

use super::of_caller;
use crate::api::extract::NoParameters;
use crate::api::tokens::revoked;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;

/// Revoke the token of this call
///
/// For whoever holds it, finds it leaked, or needs it no longer. It needs no scope, and cannot be repeated.
#[utoipa::path(
    delete, path = "/tokens/self", tag = "tokens",
    security(("bearer" = []), ("basic" = [])),
    responses(
        (status = 204, description = "The token is revoked.",
         headers(("latchkey-revision" = u64, description = "An edge that has applied this revision refuses it."))),
    ),
)]
pub(super) async fn revoke_own_token(
    caller: Caller,
    _: NoParameters,
    State(app): State<App>,
) -> Result<impl IntoResponse, ApiError> {
    let origin = caller.origin_of_change_of_itself();
    let done = app.store.revoke_token(&origin, caller.token_id).await.map_err(of_caller)?;
    Ok(revoked(&done))
}
