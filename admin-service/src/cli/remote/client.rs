//! The management API's client: one request and its answer. It follows no redirect and sends the token nowhere else.

use std::env::var;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use form_urlencoded::Serializer;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, PROXY_AUTHORIZATION};
use ureq::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::failure::{self, Unreached};
use super::options::Token;
use super::proxy::Way;
use super::tls;
use crate::api::BASE;
use crate::cli::Failure;

pub(in crate::cli) use ureq::http::Method;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the service may keep silent; it gives up sooner itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes. A page of 200 tokens has some 2 MiB at most.
const MOST: u64 = 64 << 20;

/// Speaks HTTP to one host.
pub(in crate::cli) struct Http {
    agent: Agent,
    /// What a forward proxy gets with each request.
    proxy_authorization: Option<HeaderValue>,
}

/// What came back.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) headers: HeaderMap,
    pub(in crate::cli) text: String,
}

/// A caller of the management API.
pub(in crate::cli) struct Client {
    http: Http,
    url: String,
    token: Token,
}

impl Http {
    /// For requests to this URL, whose answers keep silent for so long at most. A proxy that the environment
    /// names is asked, but never between this machine and itself.
    pub(in crate::cli) fn to(url: &str, patience: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("latchkey/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience.min(CONNECT)))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience));
        // One that cannot be is left out: what answers without it will tell.
        let way = if is_loopback(url) {
            Way::Direct
        } else {
            Way::to(url, |name| var(name).ok()).unwrap_or(Way::Direct)
        };
        let config = match &way {
            Way::Tunnel(proxy) => config.proxy(Some(proxy.clone())),
            // Each request of a forward proxy's has a connection of its own.
            Way::Forward(_) => config.proxy(None).max_idle_connections(0),
            Way::Direct => config.proxy(None),
        };
        let config = if url.starts_with("https:") { config.tls_config(tls::config()) } else { config };
        match way {
            Way::Forward(forward) => {
                Self { agent: forward.agent(config.build()), proxy_authorization: forward.authorization }
            }
            _ => Self { agent: config.build().into(), proxy_authorization: None },
        }
    }

    /// Sends one request and reads the whole answer, if it is text.
    pub(in crate::cli) fn send(
        &self,
        method: Method,
        url: &str,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: String,
    ) -> Result<Answer, Unreached> {
        Ok(whole(self.begin(method, url, headers, body)?)?)
    }

    /// Sends one request and reads the head of the answer.
    fn begin(
        &self,
        method: Method,
        url: &str,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: String,
    ) -> Result<Response<Body>, Unreached> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|error| Unreached::from(ureq::http::Error::from(error)))?;
        request.headers_mut().extend(headers);
        request
            .headers_mut()
            .extend(self.proxy_authorization.clone().map(|value| (PROXY_AUTHORIZATION, value)));
        Ok(self.agent.run(request)?)
    }
}

/// Reads the rest of an answer.
fn whole(answer: Response<Body>) -> Result<Answer, ureq::Error> {
    let (head, mut body) = answer.into_parts();
    let text = body.with_config().limit(MOST).lossy_utf8(true).read_to_string()?;
    Ok(Answer { status: head.status, headers: head.headers, text })
}

/// Whether the host of a URL is this machine.
fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Client {
    pub(super) fn new(url: &str, token: Token) -> Result<Self, Failure> {
        Ok(Self { http: Http::to(url, PATIENCE), url: url.to_owned(), token })
    }

    /// Reads what is at a path below `/api/v1`.
    pub(in crate::cli) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, &[], None)
    }

    /// Reads it, and what it says as `T`.
    pub(in crate::cli) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.parsed(&self.get(path)?)
    }

    /// Sends a request and gives the answer, if it is one of success.
    pub(in crate::cli) fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let answer = self.ask(method, path, query, body)?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    /// Sends a request and gives the answer, whatever it says.
    pub(in crate::cli) fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut headers = vec![(AUTHORIZATION, self.authorization()?)];
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let only_reads = method == Method::GET;
        self.http
            .send(method, &self.url_of(path, query), headers, body.map(Value::to_string).unwrap_or_default())
            .map_err(|unreached| failure::unreached(&self.url, &unreached, only_reads))
    }

    /// Reads a long answer as it comes, if it is one of success. Where it ends too soon, reading fails.
    pub(in crate::cli) fn open(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<impl Read + use<>, Failure> {
        let unreached = |unreached| failure::unreached(&self.url, &unreached, true);
        let headers = [(AUTHORIZATION, self.authorization()?)];
        let answer = self.http.begin(Method::GET, &self.url_of(path, query), headers, String::new());
        let answer = answer.map_err(unreached)?;
        if answer.status().is_success() {
            return Ok(answer.into_body().into_reader());
        }
        Err(self.refusal(&whole(answer).map_err(|error| unreached(error.into()))?))
    }

    fn url_of(&self, path: &str, query: &[(&str, &str)]) -> String {
        let url = format!("{}{BASE}{path}", self.url);
        if query.is_empty() {
            return url;
        }
        format!("{url}?{}", Serializer::new(String::new()).extend_pairs(query).finish())
    }

    /// An answer's body as `T`.
    pub(in crate::cli) fn parsed<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_str(&answer.text).map_err(|_| failure::not_understood(&self.url))
    }

    fn authorization(&self) -> Result<HeaderValue, Failure> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.token.value.expose_secret()));
        let mut value =
            value.map_err(|_| Failure::Usage(format!("{} holds no token.", self.token.source)))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What an answer that is no success says.
    pub(in crate::cli) fn refusal(&self, answer: &Answer) -> Failure {
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        failure::refused(&self.url, &self.token.source, answer.status, location, &answer.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_each_of_its_names() {
        for url in ["http://127.0.0.1:8100", "http://[::1]:8100/x", "https://localhost", "http://127.9.9.9/"]
        {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://192.0.2.1", "https://localhost.example.com", "http://127.0.0.1.example.com/"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
