//! The three listeners, what is answered on each, and how they begin and end together.

mod client_address;
mod connection_state;
mod connection_table;
mod connections;
mod files;
mod limits;
mod loopback;
mod memory;
mod observe;
mod probes;
mod quota;
mod security_log;
mod tracked_body;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpSocket};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub use client_address::{ClientAddress, TrustedProxies};
pub use files::raise_open_files;
pub use memory::{hide_memory, keep_to_small_pages};
pub use observe::{LoggedElsewhere, RequestFacts};

use crate::app::{App, Tasks};
use crate::config::Config;
use crate::edge::secret::reload_on_hangup;
use crate::error::{ApiError, Code};
use crate::jobs::keep_log_small;
use crate::lifecycle::Shutdown;
use crate::{api, edge, telemetry};
use client_address::ClientAddresses;
use connections::{AuthenticatedBy, Limits};
pub use limits::Beyond;
use limits::{Bounds, limited};
use loopback::for_loopback_hosts;
use observe::Observer;
use probes::Probed;
pub use quota::RequestPermit;
use security_log::SecurityLog;

/// How long a client may take until a request of its has succeeded.
const FIRST: Duration = Duration::from_secs(10);
/// How long a client may receive nothing of a pending response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// People and scripts: few, and some of them slow. One address has half of the connections at most: a flood from one leaves the
/// others alone, loopback included, and a reverse proxy there has enough for all of its clients.
const API_LIMITS: Limits = Limits {
    connections: 256,
    per_address: 128,
    authenticated_by: AuthenticatedBy::Credential,
    streams: 128,
    first_streams: 16,
    first: FIRST,
    idle: Duration::from_secs(60),
    send_timeout: SEND_TIMEOUT,
};
/// How long an Envoy may leave a connection unused. It closes it itself after an hour; the service waits longer, so that
/// none is closed under a question that is on its way.
const EDGE_IDLE: Duration = Duration::from_secs(65 * 60);
/// How many requests an edge may have in flight on a connection, from the first on: all of them may be long polls.
const EDGE_STREAMS: u32 = 1024;
/// Monitoring. Nobody authenticates here, so a full listener evicts its oldest connection: the new one may be a probe.
const METRICS_LIMITS: Limits = Limits {
    connections: 64,
    per_address: 32,
    authenticated_by: AuthenticatedBy::None,
    streams: 16,
    first_streams: 16,
    first: FIRST,
    idle: Duration::from_secs(60),
    send_timeout: SEND_TIMEOUT,
};

/// Edges. Thousands may come from one address, that of a gateway between clusters, so there is no limit for one.
fn edge_limits() -> Limits {
    let connections = files::edge_connections();
    Limits {
        connections,
        per_address: connections,
        authenticated_by: AuthenticatedBy::Success,
        streams: EDGE_STREAMS,
        first_streams: EDGE_STREAMS,
        first: FIRST,
        idle: EDGE_IDLE,
        send_timeout: SEND_TIMEOUT,
    }
}

/// How many connections may wait to be accepted; the operating system may allow fewer.
const BACKLOG: u32 = 4096;

/// How long the database has to take what was counted, and leave, which SQLite uses to write its log back.
const CLOSE: Duration = Duration::from_secs(1);

/// The sockets, bound before anything else is done, so that a taken port is known at once.
#[derive(Debug)]
pub struct Listeners {
    api: TcpListener,
    edge: TcpListener,
    metrics: TcpListener,
    addresses: Addresses,
}

/// Where the service listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The management API.
    pub api: SocketAddr,
    /// The edge API.
    pub edge: SocketAddr,
    /// Metrics and probes.
    pub metrics: SocketAddr,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {address} cannot be listened on: {}.", advice(reason))]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    reason: std::io::Error,
}

/// What to do about it.
fn advice(reason: &std::io::Error) -> String {
    match reason.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program listens there already; end it, or choose another address".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            "this user may not use that port; choose one above 1023".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => reason.to_string(),
    }
}

impl Listeners {
    /// Binds all three.
    ///
    /// # Errors
    /// [`BindError`] for the first one that cannot be.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let (api, api_address) = bind("--listen", config.listen)?;
        let (edge, edge_address) = bind("--edge-listen", config.edge_listen)?;
        let (metrics, metrics_address) = bind("--metrics-listen", config.metrics_listen)?;
        let addresses = Addresses { api: api_address, edge: edge_address, metrics: metrics_address };
        Ok(Self { api, edge, metrics, addresses })
    }

    /// The addresses that the operating system gave, port 0 being any.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |reason| BindError { flag, address, reason };
    let listener = listen(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Listens with room for thousands who come at once, as all edges do when the service starts again.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port whose connections of before are still closing can be listened on.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers on all listeners until `shutdown`, then until the requests under way are answered.
pub async fn run(app: App, tasks: Tasks, listeners: Listeners, shutdown: Shutdown) {
    let addresses = listeners.addresses;
    let metrics = telemetry::metrics();
    let probed = Probed { store: app.store.clone(), shutdown: shutdown.clone(), metrics: metrics.clone() };
    let security = SecurityLog::new(app.sources.clone());
    let observer = |listener, log_each, clients| {
        let (security, sources) = (security.clone(), app.sources.clone());
        Observer { listener, log_each, clients, security, sources }
    };
    let proxied = ClientAddresses::behind(app.settings.trusted_proxies.clone());
    // The description is in memory once, so requests for it are not limited.
    let management =
        limited(api::router(app.clone()), Bounds::SHARED, Beyond::answer).merge(api::described());
    let management = finish(management, observer("api", true, proxied));
    let edges = finish(edge_router(&app), observer("edge", false, ClientAddresses::of_connections()));
    // Each probe has a quota of its own: a flood of one fails no other.
    let monitoring = probes::live()
        .merge(limited(probes::ready(probed.clone()), Bounds::FEW, Beyond::answer))
        .merge(limited(probes::metrics(probed), Bounds::FEW, Beyond::answer));
    let monitoring = for_loopback_hosts(monitoring, addresses.metrics.ip().is_loopback());
    let monitoring = finish(monitoring, observer("metrics", false, ClientAddresses::of_connections()));
    announce(addresses, &app);
    let secrets = async {
        if let Some(secrets) = app.settings.edge_secrets.clone() {
            secrets.follow(shutdown.clone()).await;
        }
    };
    let mut runner_end = shutdown.clone();
    tokio::join!(
        tasks.runner.run(async move { runner_end.requested().await }),
        tasks.follower.run(shutdown.clone()),
        keep_log_small(app.store.clone(), shutdown.clone()),
        tasks.timekeeper.run(shutdown.clone()),
        app.used.clone().run(shutdown.clone()),
        connections::serve("api", listeners.api, management, API_LIMITS, shutdown.clone()),
        connections::serve("edge", listeners.edge, edges, edge_limits(), shutdown.clone()),
        connections::serve("metrics", listeners.metrics, monitoring, METRICS_LIMITS, shutdown.clone()),
        secrets,
        reload_on_hangup(app.settings.edge_secrets.clone(), shutdown.clone()),
        telemetry::keep_up(metrics, shutdown.clone()),
        security.clone().run(shutdown.clone()),
    );
    let leave = async {
        app.used.write_rest().await;
        app.store.close().await;
    };
    if tokio::time::timeout(CLOSE, leave).await.is_err() {
        tracing::warn!("the database connections could not be closed in time");
    }
    tracing::info!("ended");
}

/// The edge API: filters and other gateways have a quota each, and long polls for changes need none.
fn edge_router(app: &App) -> Router {
    // What gateways ask carries the host of their own clients, and says nothing to who has no token.
    let open = app.settings.edge_secrets.is_none();
    for_loopback_hosts(limited(edge::router(app.clone()), Bounds::TOGETHER, Beyond::answer), open)
        .merge(limited(edge::gateways(app.clone()), Bounds::TOGETHER, edge::authz::beyond))
        .merge(for_loopback_hosts(edge::feed(app.clone()), open))
}

/// The line that says where the service listens.
fn announce(addresses: Addresses, app: &App) {
    let Addresses { api, edge, metrics } = addresses;
    let edge_secret = if app.settings.edge_secrets.is_some() { "required" } else { "none, so loopback only" };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, %api, %edge, %metrics, edge_secret, public_url = app.settings.public_url, "latchkey serves");
    if !api.ip().is_loopback() {
        tracing::warn!(%api, "the management API listens beyond this machine and speaks no TLS: tokens pass in the clear unless a proxy adds it");
    }
}

/// What every listener's router gets: answers for what is not there, the limit of bodies, and the observer around it all.
fn finish(router: Router, observer: Observer) -> Router {
    let no_store =
        SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniff =
        SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // One layer of them all, the outermost first: the router clones what is in a layer for each request, layer by layer.
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(observer, observe::observe))
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .layer(no_sniff)
        .layer(no_store)
        .layer(DefaultBodyLimit::max(api::extract::MAX_BODY));
    router.fallback(nothing_here).method_not_allowed_fallback(other_method).layer(layers)
}

/// What is answered at a path where nothing is.
pub(crate) async fn nothing_here() -> ApiError {
    ApiError::new(Code::NotFound, "There is nothing at this path; /api/v1/openapi.json lists what there is")
}

async fn other_method() -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        "This path does not answer this method; the `Allow` header lists those it does",
    )
}

/// What a caller gets where the service has a mistake; the panic hook has logged it.
fn panicked() -> Response {
    ApiError::new(Code::InternalError, "Something failed in the service; its log says more").into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::Sources;

    async fn fails() -> &'static str {
        panic!("a marked panic")
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_the_errors_format_and_without_its_message() {
        let sources = Sources::system();
        let security = SecurityLog::new(sources.clone());
        let clients = ClientAddresses::of_connections();
        let observer = Observer { listener: "test", log_each: true, clients, security, sources };
        let router = finish(Router::new().route("/", get(fails)), observer);
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key(observe::REQUEST_ID));
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(r#""code":"internal_error""#) && !body.contains("marked"), "{body}");
    }
}
