//! The other processes: an upstream that does next to nothing, and the smallest possible authorization services.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use axum::serve::ListenerExt;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use latchkey::wire::VERIFY_PATH;
use tokio::net::TcpListener;

use crate::support::ports;
use crate::support::wait::{PATIENCE, now};

/// A server in a process of its own, so that its CPU time can be told from the rest. It ends with this value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts this program again, and waits until it listens, to answer as `kind`: `upstream`, `authz`, `authz-grpc`,
    /// `authz-revocable` or `axum`.
    pub fn start(kind: &str) -> Self {
        let port = ports::free();
        let program = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        let child = command.args(["serve", &format!("{kind}:{port}")]).stdin(Stdio::null()).spawn();
        let server = Self { child: child.expect("the server starts"), port };
        let begun = now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the server {kind} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Content = UnsyncBoxBody<Bytes, Infallible>;

/// Answers every request, as `<kind>:<port>` says, until it is killed.
pub async fn serve(what: &str) {
    let (kind, port) = what.split_once(':').expect("a kind and a port");
    let listener = TcpListener::bind(("127.0.0.1", port.parse().expect("a port"))).await.expect("the port");
    if kind == "axum" {
        let router = axum::Router::new().route(VERIFY_PATH, axum::routing::post(async |_: Bytes| {}));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        return axum::serve(listener, router).await.expect("axum serves");
    }
    let answer: fn(&Parts) -> Response<Content> = match kind {
        "authz-grpc" => |_| allowed_by_grpc(),
        "authz" => |_| empty(StatusCode::OK),
        "authz-revocable" => revocable,
        _ => |_| Response::new(Full::from("{\"hello\": \"world\"}").boxed_unsync()),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let _ = body.collect().await;
                Ok::<_, Infallible>(answer(&head))
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn empty(status: StatusCode) -> Response<Content> {
    let mut answer = Response::new(Full::default().boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// Remembers the credential of a DELETE, and refuses it from then on.
fn revocable(head: &Parts) -> Response<Content> {
    static REVOKED: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());
    let credential = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut revoked = REVOKED.lock().expect("no panic before");
    if head.method == Method::DELETE {
        revoked.insert(credential.to_vec());
        return empty(StatusCode::NO_CONTENT);
    }
    empty(if revoked.contains(credential) { StatusCode::UNAUTHORIZED } else { StatusCode::OK })
}

/// An empty `CheckResponse`, whose status is OK.
fn allowed_by_grpc() -> Response<Content> {
    let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([ok]);
    let body = Full::from(&[0_u8; 5][..]).with_trailers(std::future::ready(Some(Ok(trailers))));
    let answer = Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync());
    answer.expect("a plain answer")
}
