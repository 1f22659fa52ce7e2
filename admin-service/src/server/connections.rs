//! Connections of one listener, from accept to close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tower::{Layer, ServiceExt, service_fn};

use super::connection_state::{ConnectionState, InFlight};
use super::connection_table::{Admission, ConnectionTable, Slot};
use super::quota::RequestPermit;
use super::tracked_body::{Guards, TrackedBody};
use crate::lifecycle::{DRAIN, Shutdown};
use crate::telemetry::CONNECTIONS;

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open. For one more, another one is evicted.
    pub connections: usize,
    /// How many of them may come from one address.
    pub per_address: usize,
    /// Which requests protect their connection against eviction.
    pub authenticated_by: AuthenticatedBy,
    /// How many requests one HTTP/2 connection may have in flight.
    pub streams: u32,
    /// How many of them are processed until one was authenticated; the others wait.
    pub first_streams: u32,
    /// How long a connection may be without a request in flight before one on it has succeeded: who presents no secret
    /// that is accepted does not keep a place for longer.
    pub first: Duration,
    /// How long it may be so afterwards.
    pub idle: Duration,
    /// How long a client may receive nothing of a pending response.
    pub send_timeout: Duration,
}

/// Which requests authenticate a connection, so that it is not evicted while it is active.
#[derive(Clone, Copy, Debug)]
pub enum AuthenticatedBy {
    /// Those with a valid credential.
    Credential,
    /// Those that succeed.
    Success,
    /// None: the next client may be as important.
    None,
}

/// How often a client on HTTP/2 is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The largest head of a request, in bytes; a credential and a long query fit in easily.
const MAX_HEAD: usize = 32 * 1024;
/// The HTTP/2 receive windows of a stream and of a connection, in bytes.
const WINDOW: (u32, u32) = (64 * 1024, 256 * 1024);
/// How much of a response HTTP/2 buffers, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Answers on `listener` until the service ends and the requests under way are answered, or [`DRAIN`] is over.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let builder = Arc::new(builder(limits));
    let table = Arc::new(ConnectionTable::new(limits));
    let graceful = GracefulShutdown::new();
    let mut sweeps = tokio::time::interval(table.sweep_interval());
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // An accepted connection that waits for one to end.
    let mut next = None;
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            _ = sweeps.tick() => {
                table.sweep();
                next.take()
            }
            () = table.freed(), if next.is_some() => next.take(),
            accepted = accept(&listener), if next.is_none() => Some(accepted),
        };
        let Some((stream, peer)) = accepted else { continue };
        match table.admit(peer.ip()) {
            Admission::Slot(slot) => {
                let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
                tokio::spawn(async move {
                    let open = metrics::gauge!(CONNECTIONS, "listener" => name);
                    open.increment(1);
                    connection(&builder, (stream, peer), router, watcher, slot).await;
                    open.decrement(1);
                });
            }
            Admission::Refused => {
                tracing::debug!(listener = name, %peer, "connection refused: its address has too many active ones");
            }
            Admission::Full => next = Some((stream, peer)),
        }
    }
    drop((listener, next));
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(listener = name, "requests that were still under way have been cut off");
    }
}

/// The next connection. Errors here are of one client, or of a shortage that passes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn connection(
    builder: &Builder<TokioExecutor>,
    (stream, peer): (TcpStream, SocketAddr),
    router: Router,
    watcher: Watcher,
    slot: Slot,
) {
    // Answers are small and wanted at once; where this fails they come a little later.
    let _ = stream.set_nodelay(true);
    let slot = Arc::new(slot);
    let shared = slot.clone();
    let service = Extension(ConnectInfo(peer)).layer(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let in_flight = InFlight::begin(shared.state.clone());
        let response = service.clone().oneshot(request);
        let slot = shared.clone();
        async move {
            // RFC 9113 section 8.7: nothing was processed, so that the client may retry.
            let refused = || h2::Error::from(h2::Reason::REFUSED_STREAM);
            let in_flight = in_flight.stream(&slot.table.queue).await.ok_or_else(refused)?;
            let Ok(response) = response.await;
            Ok::<_, h2::Error>(track(response, in_flight, &slot.table.limits))
        }
    });
    let served =
        watcher.watch(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    // Thousands of edges keep a connection open; what is moved has its place in a task twice.
    let served = Box::pin(served);
    // The builder's own timers begin when it knows the protocol, and not all of them then.
    let ended = tokio::select! {
        ended = served => ended,
        () = slot.state.close.notified() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// The response, whose request is in flight until the whole of it is sent.
fn track(mut response: Response<Body>, in_flight: InFlight, limits: &Limits) -> Response<TrackedBody> {
    let permit: Option<RequestPermit> = response.extensions_mut().remove();
    let user = permit.as_ref().and_then(RequestPermit::user);
    let state: &ConnectionState = in_flight.state();
    let succeeded = response.status().is_success();
    if succeeded {
        state.succeed();
    }
    let authenticated = match limits.authenticated_by {
        AuthenticatedBy::Credential => user.is_some(),
        AuthenticatedBy::Success => succeeded,
        AuthenticatedBy::None => false,
    };
    if authenticated {
        let more = limits.streams.saturating_sub(limits.first_streams);
        state.authenticate(user, more.try_into().unwrap_or(usize::MAX));
    }
    response.map(|body| TrackedBody::new(body, Guards { in_flight, _permit: permit }))
}

/// The protocols' settings.
fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_header_list_size(32 * 1024)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams);
    builder
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
