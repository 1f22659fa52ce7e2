//! The other processes: an upstream that does next to nothing, and the smallest possible authorization services.

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::support::ports;

/// A server in a process of its own, so that its CPU time can be told from the rest. It ends with this value.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts this program again, to answer as `kind`: `upstream`, `authz` or `authz-grpc`.
    pub fn start(kind: &str) -> Self {
        let port = ports::free();
        let program = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        let child = command.args(["serve", &format!("{kind}:{port}")]).stdin(Stdio::null()).spawn();
        Self { child: child.expect("the server starts"), port }
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
    let answer: fn() -> Response<Content> = match kind {
        "authz-grpc" => allowed_by_grpc,
        "authz" => || Response::new(Full::default().boxed_unsync()),
        _ => || Response::new(Full::from("{\"hello\": \"world\"}").boxed_unsync()),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(answer())
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// An empty `CheckResponse`, whose status is OK.
fn allowed_by_grpc() -> Response<Content> {
    let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([ok]);
    let body = Full::from(&[0_u8; 5][..]).with_trailers(std::future::ready(Some(Ok(trailers))));
    let answer = Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync());
    answer.expect("a plain answer")
}
