//! Callouts to the service: how they are put, and what of their answers is believed.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::host;
use crate::config::{EdgeSecret, Service};
use crate::headers::{self, Pairs};
use crate::lookups::CallId;
use crate::trace::{TRACEPARENT, Traceparent};
use crate::wire::{CONTENT_TYPE, read_answer};

/// How a callout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutEnd {
    /// With a verdict.
    Ok,
    /// It took too long.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// The service does not accept the edge secret.
    Unauthorized,
    /// The service does not understand what it was asked or told.
    Refused,
    /// With an answer that is none to what was asked.
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

    /// The end in metric names, after `latchkey.callouts.`.
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

/// What the host says of a callout that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Which one.
    pub call: CallId,
    /// Whether there are headers; without, there is no answer.
    pub has_headers: bool,
    /// How long the body is, in bytes.
    pub body_size: usize,
}

/// Asks for a path, with some headers. `None`: Envoy did not send it.
pub fn get(
    service: &Service,
    cluster: &str,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Option<CallId> {
    let request = [&[(":method", "GET"), (":path", path)], headers].concat();
    send(service, cluster, &request, &[], timeout)
}

/// Puts JSON to a path, as a part of `trace`. `None`: Envoy did not send it.
pub fn post(
    service: &Service,
    cluster: &str,
    path: &str,
    trace: Option<Traceparent<'_>>,
    body: &[u8],
) -> Option<CallId> {
    let mut request = vec![(":method", "POST"), (":path", path), ("content-type", CONTENT_TYPE)];
    request.extend(trace.map(|trace| (TRACEPARENT, trace.as_str())));
    send(service, cluster, &request, body, service.timeout)
}

fn send(
    service: &Service,
    cluster: &str,
    request: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> Option<CallId> {
    let secret = service.secret.as_ref().map(EdgeSecret::authorization);
    let mut headers = request.to_vec();
    headers.push((":authority", service.authority.as_str()));
    headers.extend(secret.as_deref().map(|secret| (headers::AUTHORIZATION, secret)));
    host::dispatch(cluster, &headers, body, timeout)
}

/// In the callback of its end: a header of a callout's answer that is a number.
pub fn number(name: &str) -> Option<u64> {
    let map = host::callout_headers()?;
    let (_, value) = Pairs::of(&map)?.find(|(found, _)| *found == name.as_bytes())?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// In the callback of its end: the answer of a callout, under this status. Envoy's own answers, and whatever is not JSON of this shape in at
/// most `most` bytes, are none.
pub fn answer<T: DeserializeOwned>(ended: Ended, status: &[u8], most: usize) -> Result<T, CalloutEnd> {
    if !ended.has_headers {
        return Err(CalloutEnd::Unreachable);
    }
    let map = host::callout_headers().unwrap_or_default();
    let pairs = Pairs::of(&map);
    let value = |wanted: &[u8]| pairs?.find(|(name, _)| *name == wanted).map(|(_, value)| value);
    match value(b":status") {
        Some(found) if found == status => {}
        Some(b"408" | b"504") => return Err(CalloutEnd::Timeout),
        Some(b"502" | b"503") => return Err(CalloutEnd::Unreachable),
        Some(b"401" | b"403") => return Err(CalloutEnd::Unauthorized),
        Some(b"400" | b"413") => return Err(CalloutEnd::Refused),
        _ => return Err(CalloutEnd::BadAnswer),
    }
    if ended.body_size > most || !value(b"content-type").is_some_and(headers::is_json) {
        return Err(CalloutEnd::BadAnswer);
    }
    let body = host::callout_body(ended.body_size).ok_or(CalloutEnd::BadAnswer)?;
    read_answer(&body).map_err(|_| CalloutEnd::BadAnswer)
}
