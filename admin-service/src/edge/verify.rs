//! `POST /edge/v1/verify`: what the service says of one token hash.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use latchkey::token::TokenHash;
use latchkey::wire::{RefusalReason, TokenFacts, VerifyRequest, VerifyResponse};

use crate::api::extract::{self, DeclaredJson};
use crate::app::App;
use crate::domain::scope::Scope;
use crate::domain::time::Timestamp;
use crate::domain::token::Token;
use crate::domain::verdict::{Outcome, Verdict};
use crate::error::{ApiError, Code, chain};
use crate::store::StoreError;
use crate::telemetry::VERDICTS;

/// The proof that the caller presented an edge secret, or that none is configured.
pub struct Edge(());

impl FromRequestParts<App> for Edge {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(secrets) = &app.settings.edge_secrets else { return Ok(Self(())) };
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let presented = values.next().and_then(|value| bearer(value.as_bytes()));
        match presented {
            Some(secret) if values.next().is_none() && secrets.accept(secret) => Ok(Self(())),
            _ => {
                secrets.unauthorized().note(parts, app.sources.now());
                Err(no_edge("`Authorization: Bearer <edge secret>`", "Bearer realm=\"edge\""))
            }
        }
    }
}

/// The refusal of a caller that is no edge; `how` says how an edge shows that it is one, to people, as `challenge` does to
/// programs.
pub(super) fn no_edge(how: &str, challenge: &'static str) -> ApiError {
    let message = format!("The edge secret is missing or wrong: send {how}");
    ApiError::new(Code::EdgeSecretInvalid, message).challenging([HeaderValue::from_static(challenge)])
}

/// What follows `Bearer` and its spaces (RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

/// Answers one question.
///
/// # Errors
/// 400 for a body that is no question, 415 for one that is not declared as JSON, 503 when the store does not answer: never a verdict then.
pub async fn verify(
    _: Edge,
    _: DeclaredJson,
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<VerifyResponse>, ApiError> {
    let body = body.map_err(|_| extract::too_large(extract::MAX_BODY, None))?;
    let VerifyRequest { token_hash } = extract::parse(&body)?;
    let verdict = app.store.verify(token_hash).await.map_err(|error| {
        count("unavailable");
        if matches!(error, StoreError::NotBootstrapped) {
            return error.into();
        }
        tracing::warn!(cause = chain(&error), "a verdict cannot be given");
        ApiError::unavailable("The service cannot look tokens up now; try again")
    })?;
    let answer = wire_answer(token_hash, &verdict, app.sources.now());
    count(answer.reason.map_or("usable", name));
    Ok(Json(answer))
}

fn count(outcome: &'static str) {
    metrics::counter!(VERDICTS, "outcome" => outcome).increment(1);
}

fn name(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::Unknown => "unknown",
        RefusalReason::Expired => "expired",
        RefusalReason::Revoked => "revoked",
        RefusalReason::UserDisabled => "user_disabled",
    }
}

/// A verdict as filters read it.
#[must_use]
pub fn wire_answer(token_hash: TokenHash, verdict: &Verdict, now: Timestamp) -> VerifyResponse {
    let answer = VerifyResponse {
        epoch: verdict.epoch.0.clone(),
        revision: verdict.revision.0,
        token_hash,
        token: None,
        reason: None,
        denied_token: None,
    };
    match &verdict.outcome {
        Outcome::Valid(token) => VerifyResponse { token: Some(facts(token, now)), ..answer },
        Outcome::Refused(reason, denied) => {
            VerifyResponse { reason: Some(*reason), denied_token: denied.clone(), ..answer }
        }
    }
}

fn facts(token: &Token, now: Timestamp) -> TokenFacts {
    TokenFacts {
        id: token.id.to_string(),
        name: token.name.to_string(),
        user: token.user.to_string(),
        schemes: token.schemes.as_slice().to_vec(),
        scopes: token.scopes.iter().map(Scope::to_string).collect(),
        allowed_cidrs: token.allowed_cidrs.as_slice().to_vec(),
        expires_in_ms: token.expires_in_ms(now),
    }
}
