//! The kinds of requests that tables go through: each version of HTTP, without a body, with one, with trailers; and gRPC.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderValue};
use reqwest::{Body, RequestBuilder};
use tokio::task::JoinSet;

use super::client::Answer;
use super::envoy::Envoy;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http1Body,
    Http1Trailers,
    Http2,
    Http2Body,
    Http2Trailers,
    Grpc,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Http1,
        Self::Http1Body,
        Self::Http1Trailers,
        Self::Http2,
        Self::Http2Body,
        Self::Http2Trailers,
        Self::Grpc,
    ];

    /// A request of this kind with a Bearer token, on a connection of its own.
    pub fn request(self, envoy: &Envoy, token: &str) -> RequestBuilder {
        let path = "/orders";
        let request = match self {
            Self::Http1 => envoy.http1().get(path),
            Self::Http1Body => envoy.http1().post(path).body("a body"),
            Self::Http1Trailers => {
                envoy.http1().post(path).header("trailer", "x-last").body(with_trailers("a body"))
            }
            Self::Http2 => envoy.http2().get(path),
            Self::Http2Body => envoy.http2().post(path).body("a body"),
            Self::Http2Trailers => envoy.http2().post(path).body(with_trailers("a body")),
            Self::Grpc => envoy.http2().grpc("/orders.Orders/List", b"a message"),
        };
        request.bearer_auth(token)
    }

    /// Panics unless `answer` is the contract's "unavailable", as this kind of request gets it.
    pub fn assert_unavailable(self, answer: &Answer, context: &str) {
        let context = format!("{context}, {self:?}: {answer:?}");
        let message = "Authorization is temporarily unavailable";
        let header = |name| answer.header(name);
        assert_eq!(header("www-authenticate"), None, "{context}");
        if self == Self::Grpc {
            assert_eq!(answer.status, 200, "{context}");
            assert_eq!(header("grpc-status").as_deref(), Some("14"), "{context}");
            let said = header("grpc-message").unwrap_or_default().replace("%20", " ");
            assert_eq!((said.as_str(), answer.body.as_str()), (message, ""), "{context}");
        } else {
            assert_eq!(answer.status, 503, "{context}");
            assert_eq!(header("retry-after").as_deref(), Some("1"), "{context}");
            answer.assert_refused(503, message);
        }
    }
}

/// A body with the trailer `x-last: end`. Over HTTP/1.1 the request needs `trailer: x-last` too.
pub fn with_trailers(body: impl Into<Bytes>) -> Body {
    let trailers =
        HeaderMap::from_iter([("x-last".parse().expect("a name"), HeaderValue::from_static("end"))]);
    Body::wrap(Full::new(body.into()).with_trailers(async move { Some(Ok(trailers)) }))
}

/// Sends one request of each kind at the same time, each with the token that stands in its place.
pub async fn send_all(envoy: &Envoy, kinds: &[Kind], tokens: &[String]) -> Vec<(Kind, Answer)> {
    let mut sent = JoinSet::new();
    for (kind, token) in kinds.iter().copied().zip(tokens) {
        let request = kind.request(envoy, token);
        sent.spawn(async move { (kind, Answer::to(request).await) });
    }
    sent.join_all().await
}

/// Sends one request of each kind, one after the other, all with the same token.
pub async fn one_by_one(envoy: &Envoy, token: &str) -> Vec<(Kind, Answer)> {
    let mut answers = Vec::new();
    for kind in Kind::ALL {
        answers.push((kind, Answer::to(kind.request(envoy, token)).await));
    }
    answers
}
