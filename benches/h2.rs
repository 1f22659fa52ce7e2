//! Clients that speak HTTP/2 without TLS, as Envoy does to the service.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::envoy_config::EDGE_SECRET;
use crate::support::wait::now;

/// One connection, for any number of requests at a time. Clones share it.
#[derive(Clone)]
pub struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket's option");
        let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (requests, connection) = handshake.expect("HTTP/2");
        tokio::spawn(connection);
        Self(requests)
    }

    /// Sends a request with the edge secret, and gives status and body of its answer.
    pub async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let request = Request::builder().method(method).uri(format!("http://service{path}"));
        let request = request
            .header(AUTHORIZATION, format!("Bearer {EDGE_SECRET}"))
            .header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::from(body)).expect("a request");
        let answer = self.0.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        (head.status, body.collect().await.expect("a whole answer").to_bytes())
    }
}

/// Keeps as many requests under way as there are connections and streams on each, for so long, and gives how many were
/// answered. `body` makes what is sent of a number that differs for each request.
pub async fn load(
    port: u16,
    path: &'static str,
    [connections, streams]: [usize; 2],
    time: Duration,
    body: fn(usize) -> String,
) -> f64 {
    let begun = now();
    let mut clients = JoinSet::new();
    for connection in 0..connections {
        let opened = Http2::open(port).await;
        for stream in 0..streams {
            let mut client = opened.clone();
            clients.spawn(async move {
                let mut answered: u32 = 0;
                let mut number = connection * streams + stream;
                while begun.elapsed() < time {
                    let answer = client.ask(Method::POST, path, body(number).into()).await;
                    assert_eq!(answer.0, 200, "{answer:?}");
                    answered += 1;
                    number += connections * streams;
                }
                f64::from(answered)
            });
        }
    }
    clients.join_all().await.into_iter().sum()
}
