//! What a client of the gateway is answered: each row of the contract's table of answers, for HTTP/1.1 and HTTP/2, with
//! and without a body.

mod addresses;
mod methods;
mod passes;
mod refusals;
mod settings;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};

use crate::support::client::{Caller, Pieces};
use crate::support::{Envoy, wait};

/// The body of requests that have one.
const BODY: &str = "a body in two pieces";

const BEARER: &str = r#"Bearer realm="api""#;
const BASIC: &str = r#"Basic realm="api", charset="UTF-8""#;
const BEARER_INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;

/// One way to send a request.
struct Shape {
    name: &'static str,
    gateway: Caller,
    body: Option<fn() -> reqwest::Body>,
}

impl Shape {
    /// Every way in which the answers have to be the same.
    fn all(envoy: &Envoy) -> [Self; 5] {
        let (http1, http2) = (envoy.http1(), envoy.http2());
        let known = || reqwest::Body::from(BODY);
        let streamed = || Pieces::of(["a body ", "in two pieces"]).into_body();
        [
            Self { name: "HTTP/1.1", gateway: http1.clone(), body: None },
            Self { name: "HTTP/1.1-length", gateway: http1.clone(), body: Some(known) },
            Self { name: "HTTP/1.1-chunked", gateway: http1, body: Some(streamed) },
            Self { name: "HTTP/2", gateway: http2.clone(), body: None },
            Self { name: "HTTP/2-body", gateway: http2, body: Some(streamed) },
        ]
    }

    /// A request with these `Authorization` lines: a GET, or a POST if it has a body.
    fn request(&self, path: &str, authorization: &[String]) -> RequestBuilder {
        let request = match self.body {
            Some(body) => self.gateway.post(path).body(body()),
            None => self.gateway.request(Method::GET, path),
        };
        authorization.iter().fold(request, |request, value| request.header("authorization", value))
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{token}")))
}

/// The line of the access log about `path`: status, response code details, user (`-` for none) and method.
async fn access_line(envoy: &Envoy, path: &str) -> String {
    let end = format!(" {path}");
    wait::until(&format!("{path} is in the access log"), async || {
        let log = envoy.log();
        let line = log.lines().find_map(|line| line.strip_prefix("access ")?.strip_suffix(&end));
        line.map(ToOwned::to_owned)
    })
    .await
}
