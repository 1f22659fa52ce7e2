//! Clients of the gateway: HTTP/1.1 and HTTP/2 by reqwest, and answers that can be looked at more than once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Client, Method, RequestBuilder};
use serde_json::Value;

/// A client of one base address, speaking one version of HTTP.
#[derive(Clone)]
pub struct Caller {
    http: Client,
    base: String,
}

impl Caller {
    pub fn http1(base: &str) -> Self {
        let http = Client::builder().http1_only().no_proxy().build().expect("an HTTP/1.1 client");
        Self { http, base: base.to_owned() }
    }

    /// HTTP/2 with prior knowledge (h2c).
    pub fn http2(base: &str) -> Self {
        let http = Client::builder().http2_prior_knowledge().no_proxy().build().expect("an HTTP/2 client");
        Self { http, base: base.to_owned() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// A unary gRPC call with one message; a trailers-only answer has `grpc-status` among its headers.
    pub fn grpc(&self, path: &str, message: &[u8]) -> RequestBuilder {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let frame: Vec<u8> = [&[0], length.as_slice(), message].concat();
        self.post(path).header("content-type", "application/grpc").header("te", "trailers").body(frame)
    }
}

/// A body that is sent in pieces and whose length is not told beforehand (chunked, in HTTP/1.1), with trailers.
#[derive(Default)]
pub struct Pieces {
    frames: VecDeque<Frame<Bytes>>,
}

impl Pieces {
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let frame = |piece: &str| Frame::data(Bytes::copy_from_slice(piece.as_bytes()));
        Self { frames: pieces.into_iter().map(frame).collect() }
    }

    /// Adds trailers, which only HTTP/2 sends.
    pub fn trailers<'a>(mut self, trailers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let field = |(name, value): (&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        };
        self.frames.push_back(Frame::trailers(trailers.into_iter().map(field).collect()));
        self
    }

    pub fn into_body(self) -> Body {
        Body::wrap(self)
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: HeaderMap,
}

impl Answer {
    /// Sends a request and reads the answer; panics if there is none.
    pub async fn to(request: RequestBuilder) -> Self {
        Self::try_to(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    pub async fn try_to(request: RequestBuilder) -> reqwest::Result<Self> {
        let (head, body) = hyper::Response::from(request.send().await?).into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body: text, trailers })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
    }

    /// A header's only value; panics if it came more than once.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        assert!(values.len() <= 1, "{name} came more than once: {self:?}");
        values.pop()
    }

    /// Panics unless this is the contract's refusal: this status and message, as JSON.
    pub fn assert_refused(&self, status: u16, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type").as_deref(), Some("application/json"), "{self:?}");
        assert_eq!(
            self.json(),
            serde_json::json!({"error": {"status": "ERROR", "message": message}}),
            "{self:?}"
        );
    }
}
