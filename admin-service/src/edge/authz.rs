//! `ANY /edge/v1/authz` and below: the filter's decision, for gateways without the filter (Envoy's `ext_authz` over HTTP, nginx's
//! `auth_request`, Traefik's `forwardAuth`).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Response};
use latchkey::credential::{Credential, Schemes};
use latchkey::gate::{self, Decision, Identity};
use latchkey::refusal::{Realm, Reason, Refusal};
use tokio::time::timeout;

use super::answer;
use super::gateway::{Gateway, InvalidSetting, Question};
use crate::app::App;
use crate::attempts::is_failed;
use crate::auth::code;
use crate::domain::changes::Position;
use crate::error::{ApiError, Code};
use crate::look_up::{LookedUp, NoVerdict};
use crate::rate::TooMany;
use crate::server::{Beyond, ClientAddress, RequestFacts};
use crate::telemetry::AUTHZ;

/// How long the database has to answer, which is longer than gateways wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request that passes: who it acts for, and as of when.
type Passed = (Arc<Identity>, Position);

/// Whether the request whose `Authorization` this is may pass: 200 with the identity headers, or the refusal that the client gets.
pub async fn authz(
    _: Gateway,
    State(app): State<App>,
    Extension(facts): Extension<Arc<RequestFacts>>,
    Extension(gateway): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Response<Body> {
    let question = match Question::read(&headers, &app.settings.trusted_proxies) {
        Ok(question) => question,
        Err(problem) => return misunderstood(&problem),
    };
    match judge(&question, &headers, &app, true).await {
        Ok((identity, at)) => {
            count("passed");
            // Set once, by the one decision on a request.
            let _ = facts.user.set(identity.user().to_owned());
            answer::passed(&identity, &at)
        }
        Err(refusal) => {
            let source = question.source(gateway);
            let within = within_limit(&refusal, || app.attempts.failed(source));
            count(within.map_or("too_many_failures", |()| refusal.reason().name()));
            // Set once, by the one decision on a request.
            let _ = facts.client.set(source);
            let mut response = refused(&question, &refusal, within);
            if within.is_ok() {
                response.extensions_mut().insert(code(refusal.reason()));
            }
            response
        }
    }
}

/// The refusal of a request that was refused already, for gateways that take nothing but a status from [`authz`] (nginx). It is
/// counted no second time, and is never a 200: a request that would pass now is told to come again, and so is every request of
/// a gateway that is none.
pub async fn refusal(
    gateway: Result<Gateway, ApiError>,
    State(app): State<App>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Response<Body> {
    let question = match Question::read(&headers, &app.settings.trusted_proxies) {
        Ok(question) => question,
        Err(problem) => return misunderstood(&problem),
    };
    let judged = match gateway {
        Ok(_) => judge(&question, &headers, &app, false).await,
        Err(_) => Err(Refusal::new(Reason::Unavailable, None)),
    };
    let refusal = judged.err().unwrap_or_else(|| Refusal::new(Reason::Unavailable, None));
    let within = within_limit(&refusal, || app.attempts.check_failed(question.source(address)));
    refused(&question, &refusal, within)
}

async fn judge(
    question: &Question,
    headers: &HeaderMap,
    app: &App,
    counted: bool,
) -> Result<Passed, Refusal> {
    let values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let credential = match gate::decide(&question.requirement, &question.accepted, values.collect()) {
        Decision::Ask(credential) => credential,
        Decision::Refuse(refusal) => return Err(refusal),
        // No requirement of a gateway is less than a token.
        Decision::Pass => return Err(Refusal::new(Reason::Unavailable, None)),
    };
    let found = look_up(&credential, app).await?;
    let judged = found.judge(&credential, &question.requirement.scopes, question.address);
    if counted && let Some(token) = found.token_id() {
        app.used.count(token, judged.is_ok());
    }
    judged.map(|identity| (identity, found.at))
}

async fn look_up(credential: &Credential, app: &App) -> Result<LookedUp, Refusal> {
    // Of a database that says nothing of tokens, too: what the client gets is the same for every outage.
    match timeout(PATIENCE, LookedUp::of(credential, app)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(NoVerdict::NotBootstrapped | NoVerdict::Unavailable)) | Err(_) => {
            Err(Refusal::new(Reason::Unavailable, Some(credential.scheme)))
        }
    }
}

/// Whether a refusal is no failed attempt, or one within the limit of its source.
fn within_limit(refusal: &Refusal, check: impl FnOnce() -> Result<(), TooMany>) -> Result<(), TooMany> {
    if is_failed(refusal.reason()) { check() } else { Ok(()) }
}

fn refused(question: &Question, refusal: &Refusal, within: Result<(), TooMany>) -> Response<Body> {
    match within {
        Ok(()) => answer::refused(refusal, &question.realm, question.accepted.schemes, question.grpc),
        Err(too_many) => answer::too_many(&too_many, question.grpc),
    }
}

/// The answer to a gateway that says what cannot be: its client is not told that its token is wrong.
fn misunderstood(problem: &InvalidSetting) -> Response<Body> {
    tracing::warn!(%problem, "a gateway asks what cannot be understood, so its client gets 503");
    count("misunderstood");
    let refusal = Refusal::new(Reason::Unavailable, None);
    answer::refused(&refusal, &Realm::default(), Schemes::ALL, false)
}

/// The answer to a gateway whose question is beyond what the service does at a time.
pub fn beyond(beyond: Beyond) -> Response<Body> {
    let reason = if beyond.is_overload() { Reason::Overloaded } else { Reason::Unavailable };
    count(reason.name());
    let mut response = answer::refused(&Refusal::new(reason, None), &Realm::default(), Schemes::ALL, false);
    response.extensions_mut().insert(if beyond.is_overload() { Code::Overloaded } else { Code::Unavailable });
    response
}

fn count(outcome: &'static str) {
    metrics::counter!(AUTHZ, "outcome" => outcome).increment(1);
}
