//! One request of an attacker, by HTTP/1.1 or HTTP/2, and what the server behind the gateway made of it.

use serde_json::Value;

use crate::support::raw;
use crate::support::raw_h2::Http2;

/// What an attacker sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Request {
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "gateway".to_owned(),
            headers: Vec::new(),
        }
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What a server says of a request: which handler ran, and what it read.
#[derive(Clone, Debug)]
pub struct Ran {
    pub handler: String,
    pub method: String,
    pub path: String,
    pub host: String,
    pub answer: Value,
}

impl Ran {
    /// From the body of a server's response; `None` if no handler ran.
    fn of(body: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(body).ok()?;
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let [handler, method, path, host] = ["handler", "method", "path", "host"].map(text);
        let ran = Self { handler, method, path, host, answer };
        (!ran.handler.is_empty()).then_some(ran)
    }
}

/// What came of a request. No status: the gateway ended the stream or the connection.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub status: Option<u16>,
    pub ran: Option<Ran>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// A client that sends whatever it is given.
pub struct Client {
    version: Version,
    port: u16,
    http2: Http2,
}

impl Client {
    pub fn new(version: Version, port: u16) -> Self {
        Self { version, port, http2: Http2::to(port) }
    }

    /// Sends a request, with a token if there is one.
    pub async fn send(&mut self, request: &Request, token: Option<&str>) -> Outcome {
        let credential = token.map(|token| format!("Bearer {token}"));
        let mut headers = request.headers.clone();
        headers.extend(credential.as_deref().map(|credential| ("authorization", credential)));
        match self.version {
            Version::Http1 => self.send_by_http1(request, &headers).await,
            Version::Http2 => self.send_by_http2(request, &headers).await,
        }
    }

    async fn send_by_http1(&self, request: &Request, headers: &[(&str, &str)]) -> Outcome {
        let Request { method, target, host, .. } = request;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let text = format!("{method} {target} HTTP/1.1\nhost: {host}\nconnection: close\n{headers}\n");
        let answer = raw::answer(self.port, &raw::lines(&text)).await;
        let end =
            answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        Outcome { status: raw::status(&answer), ran: Ran::of(&answer[end..]) }
    }

    async fn send_by_http2(&mut self, request: &Request, headers: &[(&str, &str)]) -> Outcome {
        let pseudo = [
            (":method", request.method.as_str()),
            (":scheme", "http"),
            (":authority", request.host.as_str()),
            (":path", request.target.as_str()),
        ];
        let lower: Vec<_> = headers.iter().map(|(name, value)| (name.to_lowercase(), *value)).collect();
        let lower = lower.iter().map(|(name, value)| (name.as_str(), *value));
        let fields: Vec<_> = pseudo.into_iter().chain(lower).collect();
        match self.http2.send(&fields).await {
            Some(response) => Outcome { status: Some(response.status), ran: Ran::of(&response.body) },
            None => Outcome { status: None, ran: None },
        }
    }
}
