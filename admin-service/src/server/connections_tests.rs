//! Connections over real sockets.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::routing::get;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::lifecycle::{Trigger, shutdown};

/// No test waits for this.
const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(100);
const LIMITS: Limits = Limits {
    connections: 8,
    per_address: 8,
    authenticated_by: AuthenticatedBy::Success,
    streams: 8,
    first_streams: 8,
    first: LONG,
    idle: LONG,
    send_timeout: LONG,
};

async fn serving(limits: Limits) -> (SocketAddr, Trigger) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/stuck", get(pending::<()>))
        .route("/slow", get(slow))
        .route("/large", get(|| async { Bytes::from(vec![b'x'; 32 << 20]) }));
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
    let refused = answer(address, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD))).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
}

/// A client whose request never ends.
async fn stuck(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stream
}

/// A client that is known and asks something.
async fn known_and_stuck(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    stream.write_all(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stream
}

const CLOSING: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn clients_that_ask_nothing_or_are_strangers_make_room_for_others() {
    let (address, _trigger) = serving(Limits { connections: 2, per_address: 2, ..LIMITS }).await;
    let mut known = known_and_stuck(address).await;
    for number in 0..20 {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut stranger = stuck(address).await;
        assert!(answer(address, CLOSING).await.ends_with("hello"), "number {number}");
        for stream in [&mut silent, &mut stranger] {
            let ended = tokio::time::timeout(LONG, stream.read_u8()).await.unwrap();
            assert!(ended.is_err(), "{ended:?}");
        }
    }
    assert!(tokio::time::timeout(SHORT, known.read_u8()).await.is_err(), "it is still being answered");
}

#[tokio::test]
async fn more_known_clients_that_ask_something_than_allowed_wait_until_one_has_gone() {
    let (address, _trigger) = serving(Limits { connections: 1, per_address: 1, ..LIMITS }).await;
    let first = known_and_stuck(address).await;
    let mut second = tokio::spawn(answer(address, CLOSING));
    assert!(tokio::time::timeout(SHORT, &mut second).await.is_err());
    drop(first);
    assert!(second.await.unwrap().ends_with("hello"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_hung_up_on_over_http1_and_http2() {
    let (address, _trigger) = serving(Limits { send_timeout: SHORT, ..LIMITS }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // What is sent fails only once the service has hung up, and nothing of the answer is read until then.
    let gone = async {
        while stream.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();

    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::get(format!("http://{address}/large")).body(()).unwrap();
    let answer = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(answer.status(), 200);
    let ended = tokio::time::timeout(LONG, connection).await.unwrap().unwrap();
    assert!(ended.is_err() || !answer.body().is_end_stream(), "{ended:?}");
}

#[tokio::test]
async fn a_stranger_on_http2_has_few_requests_under_way_and_a_known_client_more() {
    let (address, _trigger) = serving(Limits { first_streams: 2, ..LIMITS }).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = |path: &str| {
        let request = Request::get(format!("http://{address}{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let _stuck = ask("/stuck");
    let two = [ask("/stuck"), ask("/")];
    let [other_stuck, mut waits] = two;
    assert!(tokio::time::timeout(SHORT, &mut waits).await.is_err(), "two are under way");
    drop(other_stuck);
    assert_eq!(waits.await.unwrap().status(), 200);
    let _stuck: Vec<_> = (0..6).map(|_| ask("/stuck")).collect();
    assert_eq!(ask("/").await.unwrap().status(), 200, "the client is known now");
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
