//! The answer that shows a new token, the only one that ever does.

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchkey::token::Secret;
use latchkey::wire::Scheme;
use serde::Serialize;
use utoipa::ToSchema;

use super::TokenBody;
use crate::api::BASE;
use crate::app::App;
use crate::domain::token::Token;
use crate::json::Json;

/// A new token, and this once the secret itself.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedToken)]
pub(in crate::api) struct CreatedTokenBody {
    #[serde(flatten)]
    facts: TokenBody,
    /// The token. It is never shown again.
    #[schema(example = "lk_a1B2…")]
    token: String,
    /// The values of `Authorization`, ready to paste.
    authorization: AuthorizationBody,
}

/// The values of the `Authorization` header, one per scheme that the token allows.
#[derive(Serialize, ToSchema)]
#[schema(as = Authorization)]
struct AuthorizationBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bearer lk_…")]
    bearer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Basic YWxpY2U6bGtf…")]
    basic: Option<String>,
}

impl AuthorizationBody {
    fn of(token: &Token, secret: &Secret) -> Self {
        let allowed = |scheme| token.schemes.contains(scheme).then(|| secret.expose());
        let basic = |secret| format!("Basic {}", STANDARD.encode(format!("{}:{secret}", token.user)));
        Self {
            bearer: allowed(Scheme::Bearer).map(|secret| format!("Bearer {secret}")),
            basic: allowed(Scheme::Basic).map(basic),
        }
    }
}

/// The answer to who made a token. No cache may keep it, as none may keep any answer of the service.
pub(in crate::api) fn created(app: &App, token: Token, secret: &Secret) -> impl IntoResponse + use<> {
    let location = app.location(&format!("{BASE}/tokens/{}", token.id));
    let authorization = AuthorizationBody::of(&token, secret);
    let facts = TokenBody::of(token, app.sources.now());
    let body = CreatedTokenBody { facts, token: secret.expose().to_owned(), authorization };
    (StatusCode::CREATED, [(LOCATION, location)], Json(body))
}
