//! The metrics listener: what monitoring and orchestrators ask.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde_json::json;

use crate::error::{Code, chain};
use crate::lifecycle::Shutdown;
use crate::store::{ReadOnlyRole, Store, StoreError};
use crate::timekeeper;

/// How long the database has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the probes look at.
#[derive(Clone)]
pub struct Probed {
    /// The database.
    pub store: Store,
    /// Whether the service is ending.
    pub shutdown: Shutdown,
    /// The metrics.
    pub metrics: PrometheusHandle,
}

/// `/metrics`.
pub fn metrics(probed: Probed) -> Router {
    Router::new().route("/metrics", get(metrics_now)).with_state(probed)
}

/// `/livez`.
pub fn live() -> Router {
    Router::new().route("/livez", get(is_live))
}

/// `/readyz`.
pub fn ready(probed: Probed) -> Router {
    Router::new().route("/readyz", get(is_ready)).with_state(probed)
}

/// The metrics in the text format of Prometheus.
async fn metrics_now(State(probed): State<Probed>) -> impl IntoResponse {
    probed.metrics.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], probed.metrics.render())
}

/// The process runs and answers. Nothing else is asked: a restart mends no database.
async fn is_live() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

/// What was looked at, and what of it is not as it should be.
#[derive(Serialize)]
struct Checks {
    database: Cow<'static, str>,
    service: &'static str,
    /// Told while the latest change could not be written, and no reason to send questions elsewhere: they are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<&'static str>,
    /// Told while this machine's clock is not the database's, which is gone by: no reason either.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
}

/// Whether requests can be answered now, and if not, why.
async fn is_ready(State(probed): State<Probed>) -> impl IntoResponse {
    let Database { code, says: database } = look(&probed.store).await;
    let service = if probed.shutdown.is_requested() { "is ending" } else { "ok" };
    let ok = database == "ok" && service == "ok";
    let (answer, status) =
        if ok { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let changes = probed.store.write_trouble().filter(|_| database == "ok").map(|kind| match kind {
        "full" => "cannot be written: the disk is full",
        _ => "cannot be written; the log says more",
    });
    let checks = Checks { database, service, changes, clock: timekeeper::readiness(&probed.store) };
    (answer, Json(Readiness { status, code, checks }))
}

/// The answer of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    /// As errors of the API have it, where the operator has something to do before anything is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    checks: Checks,
}

/// How it is with the database.
struct Database {
    code: Option<Code>,
    says: Cow<'static, str>,
}

/// Asks for a verdict, as edges do: whatever keeps them from theirs keeps this from its own.
async fn look(store: &Store) -> Database {
    let mut code = None;
    let says = match tokio::time::timeout(PATIENCE, store.ping()).await {
        Ok(Ok(())) => "ok".into(),
        Ok(Err(error @ StoreError::NotBootstrapped)) => {
            code = Some(Code::NotBootstrapped);
            format!("is not used: {error}").into()
        }
        Ok(Err(error)) => match store.displaced() {
            Some(displaced) => format!("is not used: {displaced}; the log says what to do").into(),
            None => unanswered(&error).into(),
        },
        Err(_) => "does not answer within 2 s".into(),
    };
    Database { code, says }
}

/// What keeps the database from answering, in a few words; the log has the rest.
fn unanswered(error: &StoreError) -> &'static str {
    let Some(server) = error.no_writes() else {
        tracing::warn!(cause = chain(error), "the database does not answer");
        return "does not answer; the log says more";
    };
    tracing::warn!(cause = chain(error), "the database takes no writes, and so is not asked for verdicts");
    match server.role {
        ReadOnlyRole::Standby => "is a standby, which takes no writes; the log names it",
        ReadOnlyRole::ReadOnly => "is read-only; the log names it",
    }
}
