//! What happens around every request on every listener: an identifier, a log line, the counters.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use latchkey::trace::{TRACEPARENT, Traceparent};

use crate::clock::Sources;
use crate::error::Code;
use crate::telemetry::{ERRORS, REQUEST_SECONDS, REQUESTS, REQUESTS_UNDER_WAY, Stopwatch};

/// The header that names a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a listener's middleware knows.
#[derive(Clone)]
pub struct Observer {
    /// The listener's name in logs and metrics: `api`, `edge` or `metrics`.
    pub listener: &'static str,
    /// Whether each answer is worth a line at the usual log level.
    pub log_each: bool,
    sources: Sources,
}

impl Observer {
    /// The middleware of one listener.
    #[must_use]
    pub fn new(listener: &'static str, log_each: bool, sources: Sources) -> Self {
        Self { listener, log_each, sources }
    }
}

/// What is known of a request beside its content; handlers find it among the request's extensions.
#[derive(Debug, Default)]
pub struct RequestFacts {
    /// Its identifier: the client's if it sent a sane one, else a new one.
    pub id: String,
    /// The trace that it is a part of (W3C Trace Context), for the log.
    pub trace: Option<String>,
    /// The authenticated user, for the log; set by `auth`.
    pub user: OnceLock<String>,
}

/// On an answer that says that the service cannot: what is wrong is logged where it was found, once, and not for each who is
/// told so.
#[derive(Clone, Copy, Debug)]
pub struct LoggedElsewhere;

/// Gives the request an identifier, and logs and counts its answer.
pub async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let id = request_id(&request, &observer.sources);
    let facts = Arc::new(RequestFacts { id, trace: trace_id(&request), user: OnceLock::new() });
    request.extensions_mut().insert(facts.clone());
    let method = known_method(request.method());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let under_way = UnderWay::begin(observer.listener);
    let mut response = next.run(request).await;
    drop(under_way);
    if let Ok(mut id) = HeaderValue::from_str(&facts.id) {
        // No secret, but never the same again: HTTP/2 is not to keep it for the next answer (RFC 7541 §7.1.3).
        id.set_sensitive(true);
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let (status, took) = (response.status(), watch.elapsed());
    count(observer.listener, method, path, status, took);
    if let Some(code) = response.extensions().get::<Code>() {
        metrics::counter!(ERRORS, "listener" => observer.listener, "code" => code.text()).increment(1);
    }
    let failed = status.is_server_error() && response.extensions().get::<LoggedElsewhere>().is_none();
    log(&observer, method, path, status, took, &facts, failed);
    response
}

fn count(listener: &'static str, method: &'static str, path: &str, status: StatusCode, took: Duration) {
    let labels = [
        ("listener", listener.to_owned()),
        ("method", method.to_owned()),
        ("path", path.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    metrics::counter!(REQUESTS, &labels).increment(1);
    metrics::histogram!(REQUEST_SECONDS, "listener" => listener, "path" => path.to_owned()).record(took);
}

/// One line per request. Never the path as sent, the query, a header or a body: they may hold secrets.
fn log(
    observer: &Observer,
    method: &str,
    path: &str,
    status: StatusCode,
    took: Duration,
    facts: &RequestFacts,
    failed: bool,
) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "latchkey::request",
                listener = observer.listener,
                method,
                path,
                status = status.as_u16(),
                ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                request_id = facts.id,
                trace_id = facts.trace,
                user = facts.user.get().map(String::as_str),
                "answered"
            )
        };
    }
    if failed {
        line!(warn);
    } else if observer.log_each {
        line!(info);
    } else {
        line!(debug);
    }
}

/// The client's identifier where it is short and plain, else a new one.
fn request_id(request: &Request, sources: &Sources) -> String {
    let sane = |id: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (1..=64).contains(&id.len()) && id.bytes().all(plain)
    };
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane);
    match given {
        Some(id) => id.to_owned(),
        None => sources.new_id(sources.now()).map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The trace that the client has put the request into.
fn trace_id(request: &Request) -> Option<String> {
    let value = request.headers().get(TRACEPARENT)?;
    Traceparent::of(value.as_bytes()).map(|trace| trace.trace_id().to_owned())
}

/// The method, or `other`: clients may make names up, and each would be a new time series.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request as under way until it is dropped, be it answered or given up by the client.
struct UnderWay(metrics::Gauge);

impl UnderWay {
    fn begin(listener: &'static str) -> Self {
        let gauge = metrics::gauge!(REQUESTS_UNDER_WAY, "listener" => listener);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
