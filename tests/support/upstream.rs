//! The server behind the gateway: HTTP/1.1 and h2c, records every request and answers with it as JSON. To a gRPC request
//! it answers with the message that it got, and trailers; an upgraded connection it echoes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Received {
    /// A header's only value, as text; panics if it came more than once.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        assert!(values.next().is_none(), "{name} reached the upstream more than once: {:?}", self.headers);
        value
    }

    /// Every value of every header and trailer that some server could take for `name`: without case, `_` for `-`.
    pub fn all_spellings(&self, name: &str) -> Vec<String> {
        let fields = self.headers.iter().chain(&self.trailers);
        let meant = fields.filter(|(field, _)| field.as_str().replace('_', "-").eq_ignore_ascii_case(name));
        meant.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    fn is_grpc(&self) -> bool {
        self.headers.get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
    }

    fn to_json(&self) -> Value {
        let pairs = |headers: &HeaderMap| -> Vec<(String, String)> {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
        };
        json!({
            "method": self.method, "path": self.path, "headers": pairs(&self.headers),
            "body": String::from_utf8_lossy(&self.body), "trailers": pairs(&self.trailers),
        })
    }
}

/// A running upstream.
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the upstream");
        let address = listener.local_addr().expect("the upstream's address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, Arc::clone(&received)));
        Self { address, received, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that has reached it so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("the list of requests").clone()
    }

    /// How many requests have reached it.
    pub fn count(&self) -> usize {
        self.received.lock().expect("the list of requests").len()
    }

    /// The latest request; panics if there is none.
    pub fn last(&self) -> Received {
        self.received().pop().expect("a request that reached the upstream")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Vec<Received>>>) {
    // The set ends what it holds when the upstream is dropped.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        connections.spawn(async move {
            let answer = service_fn(|request| echo(request, Arc::clone(&received)));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().max_headers(1000);
            builder.http2().max_concurrent_streams(None);
            // A client that goes away is the test's business.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
        });
    }
}

async fn echo(
    mut request: Request<Incoming>,
    received: Arc<Mutex<Vec<Received>>>,
) -> Result<Response<Content>, hyper::Error> {
    let upgrade = request.headers().get(UPGRADE).cloned();
    let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let request = Received {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers,
        body: body.to_bytes(),
        trailers,
    };
    let answer = match upgrade {
        Some(protocol) => switch(protocol),
        None if request.is_grpc() => grpc(request.body.clone()),
        None => json_of(&request),
    };
    received.lock().expect("the list of requests").push(request);
    if let Some(upgraded) = upgraded {
        tokio::spawn(async move {
            if let Ok(connection) = upgraded.await {
                let (mut reads, mut writes) = tokio::io::split(TokioIo::new(connection));
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            }
        });
    }
    Ok(answer)
}

type Content = UnsyncBoxBody<Bytes, Infallible>;

fn json_of(request: &Received) -> Response<Content> {
    let body = Full::from(request.to_json().to_string()).boxed_unsync();
    let json = Response::builder().header("content-type", "application/json").body(body);
    json.expect("a plain answer")
}

fn switch(protocol: HeaderValue) -> Response<Content> {
    let answer = Response::builder().status(101).header("connection", "upgrade").header(UPGRADE, protocol);
    answer.body(Full::default().boxed_unsync()).expect("a plain answer")
}

fn grpc(message: Bytes) -> Response<Content> {
    let trailers = HeaderMap::from_iter(
        [("grpc-status", "0"), ("x-upstream-trailer", "sent")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    let body = Full::from(message).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync();
    let answer = Response::builder().header("content-type", "application/grpc").body(body);
    answer.expect("a plain answer")
}
