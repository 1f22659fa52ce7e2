//! `DELETE /tokens/{id}`: revokes a token, or a token with all that it made.

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::extract::{Parameters, switch};
use crate::api::tokens::revoked;
use crate::app::App;
use crate::auth::OwnToken;
use crate::error::{ApiError, ErrorBody};

/// What else to revoke.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DescendantsQuery {
    /// True: with it all tokens that were made with it, all that were made with those, and so on, whoever has them.
    #[param(value_type = Option<bool>)]
    with_descendants: Option<String>,
}

/// Revoke a token
///
/// It is refused from now on, at every edge. Repeatable. For a token that leaked, `with_descendants=true` revokes what it made
/// as well: also where the token itself is expired or revoked already.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("id" = String, Path, description = "The token's identifier.", format = Uuid), DescendantsQuery),
    responses(
        (status = 204, description = "The token is revoked.",
         headers(("latchkey-revision" = u64, description = "An edge that has applied this revision refuses all that was revoked."))),
        (status = 404, description = "`token_not_found`: there is no such token, or it is not the caller's.", body = ErrorBody),
    ),
)]
pub(super) async fn revoke_token(
    own: OwnToken,
    Parameters(query): Parameters<DescendantsQuery>,
    State(app): State<App>,
) -> Result<impl IntoResponse, ApiError> {
    let (origin, id) = (own.origin(), own.token.id);
    let done = if switch("with_descendants", query.with_descendants.as_deref())? {
        // Whether or not the caller waits for it: with its own token gone, it could not repeat the call.
        let work = tokio::spawn(async move { app.store.revoke_token_with_descendants(&origin, id).await });
        work.await.map_err(|error| ApiError::internal(&error))??
    } else {
        app.store.revoke_token(&origin, id).await?
    };
    Ok(revoked(&done))
}
