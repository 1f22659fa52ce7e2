//! `POST /edge/v1/verify`: what the service says of one token hash, or of several.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use latchkey::token::TokenHash;
use latchkey::wire::{
    MAX_TOKEN_HASHES, RefusalReason, TokenFacts, TokenHashes, TokenVerdict, VerifyBatchResponse,
    VerifyResponse,
};
use serde::Deserialize;

use crate::api::extract::{self, DeclaredJson};
use crate::app::App;
use crate::domain::scope::Scope;
use crate::domain::time::Timestamp;
use crate::domain::token::Token;
use crate::domain::verdict::{Outcome, Verdict, Verdicts};
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

/// The body, with one of the two fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default, deserialize_with = "extract::present")]
    token_hash: Option<TokenHash>,
    #[serde(default, deserialize_with = "extract::present")]
    token_hashes: Option<TokenHashes>,
}

/// What is asked for.
enum Question {
    One(TokenHash),
    Several(TokenHashes),
}

impl Question {
    fn read(body: Result<Bytes, BytesRejection>) -> Result<Self, ApiError> {
        let body = body.map_err(|_| extract::too_large(extract::MAX_BODY, None))?;
        match extract::parse(&body)? {
            Body { token_hash: Some(hash), token_hashes: None } => Ok(Self::One(hash)),
            Body { token_hash: None, token_hashes: Some(hashes) } => Ok(Self::Several(hashes)),
            _ => {
                let message = format!(
                    "Give exactly one of the fields `token_hash`, a token hash, and `token_hashes`, an array of 1 to \
                     {MAX_TOKEN_HASHES}"
                );
                Err(ApiError::new(Code::InvalidBody, message))
            }
        }
    }
}

/// Answers one question, about one token or several.
///
/// # Errors
/// 400 for a body that is no question, 415 for one that is not declared as JSON, 503 when the store does not answer: never a verdict then.
pub async fn verify(
    _: Edge,
    _: DeclaredJson,
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    match Question::read(body)? {
        Question::One(hash) => {
            let verdict = app.store.verify(hash).await.map_err(|error| unavailable(error, 1))?;
            let answer = wire_answer(hash, &verdict, app.sources.now());
            count(outcome(answer.reason), 1);
            Ok(Json(answer).into_response())
        }
        Question::Several(hashes) => {
            let asked = hashes.as_slice().len();
            let verdicts = app.store.verify_all(hashes.clone());
            let verdicts = verdicts.await.map_err(|error| unavailable(error, asked))?;
            let answer = batch_answer(&hashes, &verdicts, app.sources.now());
            count_each(&answer);
            Ok(Json(answer).into_response())
        }
    }
}

/// The answer where there is no verdict on any of so many tokens.
fn unavailable(error: StoreError, tokens: usize) -> ApiError {
    count("unavailable", tokens);
    if matches!(error, StoreError::NotBootstrapped) {
        return error.into();
    }
    tracing::warn!(cause = chain(&error), "a verdict cannot be given");
    ApiError::unavailable("The service cannot look tokens up now; try again")
}

fn count_each(answer: &VerifyBatchResponse) {
    let mut tally = BTreeMap::new();
    for verdict in &answer.verdicts {
        *tally.entry(outcome(verdict.reason)).or_default() += 1;
    }
    tally.into_iter().for_each(|(outcome, verdicts)| count(outcome, verdicts));
}

fn count(outcome: &'static str, verdicts: usize) {
    metrics::counter!(VERDICTS, "outcome" => outcome).increment(verdicts.try_into().unwrap_or(u64::MAX));
}

fn outcome(reason: Option<RefusalReason>) -> &'static str {
    match reason {
        None => "usable",
        Some(RefusalReason::Unknown) => "unknown",
        Some(RefusalReason::Expired) => "expired",
        Some(RefusalReason::Revoked) => "revoked",
        Some(RefusalReason::UserDisabled) => "user_disabled",
    }
}

/// A verdict as filters read it.
#[must_use]
pub fn wire_answer(token_hash: TokenHash, verdict: &Verdict, now: Timestamp) -> VerifyResponse {
    let (epoch, revision) = (verdict.epoch.0.clone(), verdict.revision.0);
    let TokenVerdict { token_hash, token, reason, denied_token } =
        wire_verdict(token_hash, &verdict.outcome, now);
    VerifyResponse { epoch, revision, token_hash, token, reason, denied_token }
}

/// Verdicts as filters read them.
fn batch_answer(hashes: &TokenHashes, verdicts: &Verdicts, now: Timestamp) -> VerifyBatchResponse {
    let each = hashes.as_slice().iter().zip(&verdicts.outcomes);
    VerifyBatchResponse {
        epoch: verdicts.epoch.0.clone(),
        revision: verdicts.revision.0,
        verdicts: each.map(|(hash, outcome)| wire_verdict(*hash, outcome, now)).collect(),
    }
}

fn wire_verdict(token_hash: TokenHash, outcome: &Outcome, now: Timestamp) -> TokenVerdict {
    let (token, reason, denied_token) = match outcome {
        Outcome::Valid(token) => (Some(facts(token, now)), None, None),
        Outcome::Refused(reason, denied) => (None, Some(*reason), denied.clone()),
    };
    TokenVerdict { token_hash, token, reason, denied_token }
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
