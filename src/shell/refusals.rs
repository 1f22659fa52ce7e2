//! Refusals as Envoy takes them. A flood of bad credentials is refused in the same words each time, so these are kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::edge::DECISION;
use super::host;
use crate::challenges::Challenges;
use crate::config::Config;
use crate::headers::serialise_pairs;
use crate::refusal::{Reason, Refusal};
use crate::wire::{CONTENT_TYPE, Scheme};

/// What a refused client is told.
pub struct Answer {
    reason: Reason,
    /// What access logs are told.
    decision: String,
    /// The serialised header map.
    headers: Vec<u8>,
    body: String,
}

impl Answer {
    /// The answer to a refused request.
    pub fn of(refusal: &Refusal, config: &Config, grpc: bool) -> Self {
        let reason = refusal.reason();
        let headers = refusal.headers(&config.realm, config.accepted.schemes);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Self::with(reason, headers, grpc)
    }

    /// The answer where nothing is known, not even the configuration.
    pub fn closed() -> Self {
        Self::with(Reason::Unavailable, vec![("retry-after", "1")], false)
    }

    fn with(reason: Reason, mut headers: Vec<(&str, &str)>, grpc: bool) -> Self {
        // To a gRPC request Envoy answers with trailers alone, and takes the body for their message.
        let body = if grpc { reason.message().to_owned() } else { reason.body() };
        if !grpc {
            headers.push(("content-type", CONTENT_TYPE));
        }
        let decision = format!("denied:{}", reason.name());
        Self { reason, decision, headers: serialise_pairs(&headers), body }
    }

    /// Answers the current stream in the upstream's place.
    pub fn send(&self) {
        let Self { reason, decision, headers, body } = self;
        // For logs alone: without it, the request is denied all the same.
        host::set_filter_state(DECISION, decision);
        if !host::send_local_response(reason.status(), reason.details(), headers, body) {
            log::error!(
                "latchkey: Envoy did not take a refusal ({}); the request stays stopped",
                reason.name()
            );
        }
    }
}

/// What an answer follows from: reason, scheme that was used, what is challenged for, and whether to a gRPC request.
type Kind = (Reason, Option<Scheme>, Option<Challenges>, bool);

/// The answers of one configuration that have been needed: at most one for each reason, scheme and kind of request.
#[derive(Default)]
pub struct Answers(RefCell<HashMap<Kind, Rc<Answer>>>);

impl Answers {
    /// The answer to a refused request.
    pub fn to(&self, refusal: &Refusal, config: &Config, grpc: bool) -> Rc<Answer> {
        let Some((reason, scheme, challenges)) = refusal.always_the_same() else {
            return Rc::new(Answer::of(refusal, config, grpc));
        };
        let mut kept = self.0.borrow_mut();
        let answer = kept.entry((reason, scheme, challenges, grpc));
        Rc::clone(answer.or_insert_with(|| Rc::new(Answer::of(refusal, config, grpc))))
    }
}
