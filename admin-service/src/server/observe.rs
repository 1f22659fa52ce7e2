//! What happens around every request on every listener: an identifier, a log line, the counters.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use latchkey::trace::{TRACEPARENT, Traceparent};

use super::client_address::{ClientAddress, ClientAddresses};
use super::security_log::SecurityLog;
use crate::clock::Sources;
use crate::error::Code;
use crate::telemetry::{ERRORS, REQUEST_SECONDS, REQUESTS, REQUESTS_UNDER_WAY, Stopwatch};

/// The header that names a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How much of a caller's own identifier is kept, in characters.
const MAX_CLIENT_ID: usize = 128;

/// What a listener's middleware knows.
#[derive(Clone)]
pub struct Observer {
    /// The listener's name in logs and metrics: `api`, `edge` or `metrics`.
    pub listener: &'static str,
    /// Whether each answer is worth a line at the usual log level.
    pub log_each: bool,
    /// Where its clients are.
    pub clients: ClientAddresses,
    /// What operators are warned of.
    pub security: SecurityLog,
    /// Where identifiers come from.
    pub sources: Sources,
}

/// What is known of a request beside its content; handlers find it among the request's extensions.
#[derive(Debug, Default)]
pub struct RequestFacts {
    /// Its identifier, which the service has given it.
    pub id: String,
    /// What its client calls it, which proves nothing.
    pub client_id: Option<String>,
    /// The trace that it is a part of (W3C Trace Context), for the log.
    pub trace: Option<String>,
    /// The authenticated user, for the log; set by `auth`.
    pub user: OnceLock<String>,
    /// Where its client is, for the log; set before by whoever knows better than the connection.
    pub client: OnceLock<IpAddr>,
}

/// On an answer that says that the service cannot: what is wrong is logged where it was found, once, and not for each who is
/// told so.
#[derive(Clone, Copy, Debug)]
pub struct LoggedElsewhere;

/// Gives the request an identifier and its client's address, and logs and counts its answer.
pub async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let client = observer.clients.of(&request);
    let facts = Arc::new(facts(&request, &observer.sources));
    request.extensions_mut().insert(facts.clone());
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
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
    if let Some(ClientAddress(address)) = client {
        facts.client.get_or_init(|| address);
    }
    let (status, took) = (response.status(), watch.elapsed());
    let code = response.extensions().get::<Code>().copied();
    count(observer.listener, method, path, status, took);
    if let Some(code) = code {
        metrics::counter!(ERRORS, "listener" => observer.listener, "code" => code.text()).increment(1);
        facts.client.get().inspect(|client| observer.security.note(**client, observer.listener, code));
    }
    let failed = status.is_server_error() && response.extensions().get::<LoggedElsewhere>().is_none();
    log(&observer, method, path, Outcome { status, code, took, failed }, &facts);
    response
}

/// What came of a request.
#[derive(Clone, Copy)]
struct Outcome {
    status: StatusCode,
    code: Option<Code>,
    took: Duration,
    failed: bool,
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
fn log(observer: &Observer, method: &str, path: &str, outcome: Outcome, facts: &RequestFacts) {
    let Outcome { status, code, took, failed } = outcome;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "latchkey::request",
                listener = observer.listener,
                method,
                path,
                status = status.as_u16(),
                code = code.map(Code::text),
                ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                client = facts.client.get().map(tracing::field::display),
                request_id = facts.id,
                client_request_id = facts.client_id,
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

/// What is known of a request when it comes.
fn facts(request: &Request, sources: &Sources) -> RequestFacts {
    RequestFacts {
        id: sources.new_id(sources.now()).map(|id| id.to_string()).unwrap_or_default(),
        client_id: request.headers().get(REQUEST_ID).and_then(plain_id),
        trace: trace_id(request),
        ..RequestFacts::default()
    }
}

/// A client's identifier as it may stand in a log: `_` for what is not plain, and cut where it is long. `None`: nothing is left.
fn plain_id(value: &HeaderValue) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/=+@".contains(&byte);
    let bytes = value.as_bytes().iter().take(MAX_CLIENT_ID);
    let text: String = bytes.map(|byte| if plain(*byte) { char::from(*byte) } else { '_' }).collect();
    (!text.is_empty()).then_some(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_its_request_is_short_and_plain() {
        let plain = |bytes: &[u8]| plain_id(&HeaderValue::from_bytes(bytes).unwrap());
        assert_eq!(plain(b"Root=1-5759/a:b+c@d").as_deref(), Some("Root=1-5759/a:b+c@d"));
        assert_eq!(plain(b"a b\"\xc3\xa9{\x3c").as_deref(), Some("a_b_____"));
        assert_eq!(plain("x".repeat(1000).as_bytes()), Some("x".repeat(MAX_CLIENT_ID)));
        assert_eq!(plain(b""), None);
    }
}
