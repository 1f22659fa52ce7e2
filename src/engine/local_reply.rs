//! Local replies: what a denied client gets in the upstream's place. A flood of bad credentials is denied in the same words
//! each time, so these are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::locked;
use crate::challenges::Challenges;
use crate::config::Config;
use crate::refusal::{Reason, Refusal};
use crate::wire::{CONTENT_TYPE, Scheme};

/// What a denied client gets.
#[derive(Debug)]
pub struct LocalReply {
    /// Why the request is denied.
    pub reason: Reason,
    /// The headers, but `:status`.
    pub headers: Vec<(&'static str, String)>,
    /// The body; to a gRPC request the message alone, as Envoy makes trailers of it.
    pub body: String,
    /// What access logs say was decided.
    pub decision: String,
    encoded: OnceLock<Box<[u8]>>,
}

impl LocalReply {
    /// The local reply where not even the configuration is known.
    #[must_use]
    pub fn closed() -> Self {
        Self::with(Reason::Unavailable, vec![("retry-after", "1".to_owned())], false)
    }

    fn new(refusal: &Refusal, config: &Config, grpc: bool) -> Self {
        let headers = refusal.headers(&config.realm, config.accepted.schemes);
        Self::with(refusal.reason(), headers, grpc)
    }

    fn with(reason: Reason, mut headers: Vec<(&'static str, String)>, grpc: bool) -> Self {
        let body = if grpc { reason.message().to_owned() } else { reason.body() };
        if !grpc {
            headers.push(("content-type", CONTENT_TYPE.to_owned()));
        }
        let decision = format!("denied:{}", reason.name());
        Self { reason, headers, body, decision, encoded: OnceLock::new() }
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reason.status()
    }

    /// The response code details of Envoy's access log.
    #[must_use]
    pub fn details(&self) -> &'static str {
        self.reason.details()
    }

    /// The headers in a host's own encoding, which is made once.
    pub fn encoded(&self, encode: impl FnOnce(&[(&'static str, String)]) -> Vec<u8>) -> &[u8] {
        self.encoded.get_or_init(|| encode(&self.headers).into_boxed_slice())
    }
}

/// What a local reply follows from: reason, scheme that was used, what is challenged for, and whether to a gRPC request.
type Kind = (Reason, Option<Scheme>, Option<Challenges>, bool);

/// The local replies of one configuration that were needed so far: at most one for each kind.
#[derive(Debug, Default)]
pub(super) struct LocalReplies(Mutex<HashMap<Kind, Arc<LocalReply>>>);

impl LocalReplies {
    /// The local reply to a request that is denied.
    pub fn of(&self, refusal: &Refusal, config: &Config, grpc: bool) -> Arc<LocalReply> {
        let new = || Arc::new(LocalReply::new(refusal, config, grpc));
        let Some((reason, scheme, challenges)) = refusal.always_the_same() else { return new() };
        Arc::clone(locked(&self.0).entry((reason, scheme, challenges, grpc)).or_insert_with(new))
    }
}
