//! Accepting connections: HTTP/1.1 and HTTP/2 with prior knowledge on one port, bounded in number and in idle time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use axum::{Extension, Router};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};

use crate::lifecycle::{DRAIN, Shutdown};
use crate::telemetry::CONNECTIONS;

/// What a listener allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open; more wait in the operating system's queue.
    pub connections: usize,
    /// How long a connection may be without a request under way before one on it has succeeded: who presents no secret
    /// that is accepted does not keep a place for longer.
    pub first: Duration,
    /// How long it may be so afterwards.
    pub idle: Duration,
}

/// How often a client on HTTP/2 is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The largest head of a request, in bytes; a credential and a long query fit in easily.
const MAX_HEAD: usize = 32 * 1024;
/// How many requests one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 1024;

/// Answers on `listener` until the service ends and the requests under way are answered, or [`DRAIN`] is over.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let builder = Arc::new(builder(limits));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // Never closed, so this only waits.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, accept(&listener).await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.requested() => break,
        };
        let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let open = metrics::gauge!(CONNECTIONS, "listener" => name);
            open.increment(1);
            connection(&builder, accepted, router, watcher, limits).await;
            open.decrement(1);
            drop(slot);
        });
    }
    drop(listener);
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
    limits: Limits,
) {
    // Answers are small and wanted at once; where this fails they come a little later.
    let _ = stream.set_nodelay(true);
    let activity = Arc::<Activity>::default();
    let requests = activity.clone();
    let service = Extension(ConnectInfo(peer)).layer(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::begin(requests.clone());
        let answer = service.clone().oneshot(request);
        async move { Ok::<_, Infallible>(under_way.answered(answer.await?)) }
    });
    let served =
        watcher.watch(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    // Thousands of edges keep a connection open; what is moved has its place in a task twice.
    let served = Box::pin(served);
    // The builder's own timers begin when it knows the protocol, and not all of them then.
    let ended = tokio::select! {
        ended = served => ended,
        () = unused(&activity, limits) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// What is asked on a connection. It is written for every request, so nobody is woken by it.
#[derive(Default)]
struct Activity {
    under_way: AtomicUsize,
    /// How many requests have ended.
    ended: AtomicUsize,
    /// Whether a request has succeeded.
    succeeded: AtomicBool,
}

/// Waits until the client has left its connection unused for too long: at least so long, and less than twice.
async fn unused(activity: &Activity, limits: Limits) {
    loop {
        let ended = activity.ended.load(Ordering::Relaxed);
        let succeeded = activity.succeeded.load(Ordering::Relaxed);
        tokio::time::sleep(if succeeded { limits.idle } else { limits.first }).await;
        // What is still being answered has limits of its own.
        let busy = activity.under_way.load(Ordering::Relaxed) > 0;
        if !busy && activity.ended.load(Ordering::Relaxed) == ended {
            return;
        }
    }
}

/// A request under way, until it is dropped: its client may go away before it is answered.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }

    /// The answer, which is under way until the whole of it is sent.
    fn answered(self, response: Response<Body>) -> Response<Body> {
        if response.status().is_success() {
            self.0.succeeded.store(true, Ordering::Relaxed);
        }
        // One of known size is handed over at once; only others are worth being watched.
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Body::new(Watched { body, _under_way: self }))
    }
}

/// A body whose request is under way for as long as there is more of it to send.
struct Watched {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
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
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::lifecycle::{Trigger, shutdown};

    /// No test waits for this.
    const LONG: Duration = Duration::from_secs(60);

    const SHORT: Duration = Duration::from_millis(100);
    const LIMITS: Limits = Limits { connections: 8, first: LONG, idle: LONG };

    async fn serving(limits: Limits) -> (SocketAddr, Trigger) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/stuck", get(pending::<()>))
            .route("/slow", get(slow));
        let (trigger, ending) = shutdown();
        tokio::spawn(serve("test", listener, router, limits, ending));
        (address, trigger)
    }

    /// What comes after `sent`, until the service hangs up.
    async fn answer(address: SocketAddr, sent: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is a way to hang up too.
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_does_not_go_on_is_hung_up_on() {
        let (address, _trigger) = serving(Limits { first: SHORT, idle: SHORT, ..LIMITS }).await;
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for sent in ["", "G", "GET / HTTP/1.1\r\nhost:", "PRI", preface] {
            assert!(!answer(address, sent).await.contains("hello"), "{sent:?}");
        }
        let whole = answer(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(whole.ends_with("hello"), "{whole}");
    }

    #[tokio::test]
    async fn only_a_request_that_succeeds_gives_a_client_the_long_idle_time() {
        let (address, _trigger) = serving(Limits { first: SHORT, ..LIMITS }).await;
        let refused = answer(address, "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 404"), "{refused}");

        let mut client = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "the connection stays open");
            }
            let more = tokio::time::timeout(SHORT * 3, client.read_u8()).await;
            assert!(more.is_err(), "the connection stays open: {more:?}");
        }
    }

    #[tokio::test]
    async fn a_request_under_way_is_not_hung_up_on() {
        let (address, _trigger) = serving(Limits { first: SHORT, idle: SHORT, ..LIMITS }).await;
        let stuck = answer(address, "GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(tokio::time::timeout(SHORT * 5, stuck).await.is_err());
    }

    /// A body that goes on after a while.
    struct Slow(tokio::sync::mpsc::Receiver<&'static str>);

    impl hyper::body::Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part.into()))))
        }
    }

    async fn slow() -> Body {
        let (sender, parts) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for part in ["be", "gun", " and ", "ended"] {
                tokio::time::sleep(SHORT * 2).await;
                sender.send(part).await.unwrap();
            }
        });
        Body::new(Slow(parts))
    }

    #[tokio::test]
    async fn an_answer_that_is_still_being_sent_is_not_cut_off() {
        let (address, _trigger) = serving(Limits { first: SHORT, idle: SHORT, ..LIMITS }).await;
        let whole = answer(address, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(whole.contains("ended") && whole.ends_with("0\r\n\r\n"), "{whole}");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let (address, _trigger) = serving(LIMITS).await;
        let refused =
            answer(address, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD))).await;
        assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    }

    #[tokio::test]
    async fn more_clients_than_allowed_wait_until_one_has_gone() {
        let (address, _trigger) = serving(Limits { connections: 1, ..LIMITS }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answered = [0; 8];
        first.read_exact(&mut answered).await.unwrap();
        let mut second =
            tokio::spawn(answer(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
        drop(first);
        assert!(second.await.unwrap().ends_with("hello"));
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_clients_that_ask_nothing() {
        let (address, trigger) = serving(LIMITS).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answered = [0; 8];
        idle.read_exact(&mut answered).await.unwrap();
        trigger.pull();
        for stream in [&mut silent, &mut idle] {
            let mut rest = Vec::new();
            tokio::time::timeout(DRAIN, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        }
    }
}
