//! Callouts to the service: what is sent, and what of a response is believed.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::config::{EdgeSecret, Service};
use crate::headers::{self, AUTHORIZATION};
use crate::trace::TRACEPARENT;
use crate::wire::{CHANGE_AGE, CONTENT_TYPE, TokenHashes, read_answer};

/// The longest response body that a shell hands over, in bytes: some 60,000 whole hashes of the change feed, whose prefixes are
/// bounded by [`MAX_PREFIXES`](crate::wire::MAX_PREFIXES).
pub const MAX_RESPONSE_BODY: usize = 4 * 1024 * 1024;

/// Names a callout of one worker; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What a callout is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The verdicts on these tokens; when it was sent, and how long it may take.
    Verify(TokenHashes, Sent),
    /// The next page of the change feed.
    Changes,
    /// A usage report.
    Usage,
}

/// When a callout was sent, and when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub at: Duration,
    pub until: Duration,
}

/// A callout to send. Its end is given to [`Worker::on_callout`](super::Worker::on_callout), also where it cannot be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Which one it is.
    pub call: CallId,
    /// The Envoy cluster that it goes to.
    pub cluster: String,
    /// The request's headers, pseudo-headers first. They may carry the edge secret.
    pub headers: Vec<(&'static str, String)>,
    /// The request's body.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call, cluster, timeout, .. } = self;
        f.debug_struct("Dispatch")
            .field("call", call)
            .field("cluster", cluster)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

impl Dispatch {
    /// A request for a path.
    pub(super) fn get(call: CallId, service: &Service, cluster: &str, path: String) -> Self {
        Self::new(call, service, cluster, vec![(":method", "GET".to_owned()), (":path", path)])
    }

    /// JSON for a path.
    pub(super) fn post(call: CallId, service: &Service, cluster: &str, path: &str, body: Vec<u8>) -> Self {
        let headers = vec![
            (":method", "POST".to_owned()),
            (":path", path.to_owned()),
            ("content-type", CONTENT_TYPE.to_owned()),
        ];
        Self { body, ..Self::new(call, service, cluster, headers) }
    }

    fn new(call: CallId, service: &Service, cluster: &str, mut headers: Vec<(&'static str, String)>) -> Self {
        headers.push((":authority", service.authority.clone()));
        headers
            .extend(service.secret.as_ref().map(|secret| (AUTHORIZATION, EdgeSecret::authorization(secret))));
        let cluster = cluster.to_owned();
        Self { call, cluster, headers, body: Vec::new(), timeout: service.timeout }
    }

    /// The same as a part of a trace.
    pub(super) fn traced(mut self, traceparent: Option<String>) -> Self {
        self.headers.extend(traceparent.map(|traceparent| (TRACEPARENT, traceparent)));
        self
    }
}

/// How a callout ended, in the host's words.
#[derive(Clone, Copy, Debug)]
pub enum CalloutResult<'a> {
    /// The host did not send it: no such cluster, no healthy host, or too many requests to it.
    NotSent,
    /// There is no response, or a part of one.
    Reset,
    /// There is a response, of the service or of the host itself.
    Response(CalloutResponse<'a>),
}

/// The response to a callout.
#[derive(Clone, Copy, Debug)]
pub struct CalloutResponse<'a> {
    /// Its headers, with `:status`, names in lower case.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// Its body; `None`: it is longer than [`MAX_RESPONSE_BODY`], or the host did not hand it over.
    pub body: Option<&'a [u8]>,
}

/// How a callout ended, for those who look at metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutEnd {
    /// With what was asked for.
    Ok,
    /// It took too long.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// The service does not accept the edge secret.
    Unauthorized,
    /// The service does not understand the request.
    Refused,
    /// With a response that is none to this request.
    BadAnswer,
    /// Envoy did not send it: no such cluster, no healthy host, or too many requests to it.
    NotSent,
}

impl CalloutEnd {
    /// Every end, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Timeout,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Refused,
        Self::BadAnswer,
        Self::NotSent,
    ];

    /// The end in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::NotSent => "not_sent",
        }
    }
}

impl<'a> CalloutResult<'a> {
    /// What the service says under this status. Envoy's own responses, and whatever is no JSON of this shape in at most `most`
    /// bytes, are not the service's.
    pub(super) fn read<T: DeserializeOwned>(self, status: &[u8], most: usize) -> Result<T, CalloutEnd> {
        let response = match self {
            Self::NotSent => return Err(CalloutEnd::NotSent),
            Self::Reset => return Err(CalloutEnd::Unreachable),
            Self::Response(response) => response,
        };
        match response.header(b":status") {
            Some(found) if found == status => {}
            Some(b"408" | b"504") => return Err(CalloutEnd::Timeout),
            Some(b"502" | b"503") => return Err(CalloutEnd::Unreachable),
            Some(b"401" | b"403") => return Err(CalloutEnd::Unauthorized),
            Some(b"400" | b"413") => return Err(CalloutEnd::Refused),
            _ => return Err(CalloutEnd::BadAnswer),
        }
        let is_json = response.header(b"content-type").is_some_and(headers::is_json);
        let body = response.body.filter(|body| is_json && body.len() <= most);
        read_answer(body.ok_or(CalloutEnd::BadAnswer)?).map_err(|_| CalloutEnd::BadAnswer)
    }

    /// How long ago the first change of a page was made, if the service has said so.
    pub(super) fn change_age(self) -> Option<Duration> {
        let Self::Response(response) = self else { return None };
        let age = std::str::from_utf8(response.header(CHANGE_AGE.as_bytes())?).ok()?;
        Some(Duration::from_millis(age.parse().ok()?))
    }
}

impl<'a> CalloutResponse<'a> {
    fn header(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        self.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
    }
}
