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

use super::activity::{Activity, UnderWay};
use super::places::Held;
use super::sent::{Holds, Sent};
use super::table::{Admission, Seat, Table};
use crate::lifecycle::{DRAIN, Shutdown};
use crate::telemetry::CONNECTIONS;

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open. For one more, an idle one or one of a stranger is closed.
    pub connections: usize,
    /// How many of them may come from one address.
    pub each: usize,
    /// What shows that a client may be here.
    pub known_by: KnownBy,
    /// How many requests one HTTP/2 connection may have under way.
    pub streams: u32,
    /// How many of them are worked on until the client is known; the others wait.
    pub first_streams: u32,
    /// How long a connection may be without a request under way before one on it has succeeded: who presents no secret
    /// that is accepted does not keep a place for longer.
    pub first: Duration,
    /// How long it may be so afterwards.
    pub idle: Duration,
    /// How long a client may take nothing of an answer.
    pub untaken: Duration,
}

/// What shows that a client may be here, so that its connection is not closed for another's while it asks something.
#[derive(Clone, Copy, Debug)]
pub enum KnownBy {
    /// A request that was authenticated.
    Authentication,
    /// A request that succeeded.
    Success,
    /// Nothing: whoever comes next may be as important.
    Nothing,
}

/// How often a client on HTTP/2 is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The largest head of a request, in bytes; a credential and a long query fit in easily.
const MAX_HEAD: usize = 32 * 1024;
/// How much of the bodies of requests may be on its way on HTTP/2: for one, and for all of a connection, in bytes.
const WINDOW: (u32, u32) = (64 * 1024, 256 * 1024);
/// How much of an answer is handed over to HTTP/2 at a time, in bytes.
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
    let table = Arc::new(Table::new(limits));
    let graceful = GracefulShutdown::new();
    let mut looks = tokio::time::interval(table.look_every());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One for which there is no room yet.
    let mut next = None;
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            _ = looks.tick() => {
                table.look();
                next.take()
            }
            () = table.freed(), if next.is_some() => next.take(),
            accepted = accept(&listener), if next.is_none() => Some(accepted),
        };
        let Some((stream, peer)) = accepted else { continue };
        match table.admit(peer.ip()) {
            Admission::Seat(seat) => {
                let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
                tokio::spawn(async move {
                    let open = metrics::gauge!(CONNECTIONS, "listener" => name);
                    open.increment(1);
                    connection(&builder, (stream, peer), router, watcher, seat).await;
                    open.decrement(1);
                });
            }
            Admission::Refused => {
                tracing::debug!(listener = name, %peer, "a connection was closed: its address has too many in use");
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
    seat: Seat,
) {
    // Answers are small and wanted at once; where this fails they come a little later.
    let _ = stream.set_nodelay(true);
    let seat = Arc::new(seat);
    let asked = seat.clone();
    let service = Extension(ConnectInfo(peer)).layer(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::begin(asked.activity.clone());
        let answer = service.clone().oneshot(request);
        let seat = asked.clone();
        async move {
            // The protocol's own word for it: nothing was done, so that the client may ask again.
            let refused = || h2::Error::from(h2::Reason::REFUSED_STREAM);
            let under_way = under_way.stream(&seat.table.waiting).await.ok_or_else(refused)?;
            let Ok(answer) = answer.await;
            Ok::<_, h2::Error>(sent(answer, under_way, &seat.table.limits))
        }
    });
    let served =
        watcher.watch(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    // Thousands of edges keep a connection open; what is moved has its place in a task twice.
    let served = Box::pin(served);
    // The builder's own timers begin when it knows the protocol, and not all of them then.
    let ended = tokio::select! {
        ended = served => ended,
        () = seat.activity.close.notified() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// The answer, whose request is under way until the whole of it is sent.
fn sent(mut response: Response<Body>, under_way: UnderWay, limits: &Limits) -> Response<Sent> {
    let place: Option<Held> = response.extensions_mut().remove();
    let user = place.as_ref().and_then(Held::user);
    let activity: &Activity = under_way.activity();
    let succeeded = response.status().is_success();
    if succeeded {
        activity.succeed();
    }
    let known = match limits.known_by {
        KnownBy::Authentication => user.is_some(),
        KnownBy::Success => succeeded,
        KnownBy::Nothing => false,
    };
    if known {
        let more = limits.streams.saturating_sub(limits.first_streams);
        activity.know(user, more.try_into().unwrap_or(usize::MAX));
    }
    response.map(|body| Sent::new(body, Holds { under_way, _place: place }))
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
