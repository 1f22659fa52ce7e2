//! What an honest edge may know: what the feed has told it, and which verdicts it has kept.

use std::time::Duration;

use super::request::token_of;
use super::service::{Moment, Service, TOKENS};
use super::{NEGATIVE_TTL, STALE, TTL};
use crate::wire::{ChangesResponse, VerifyResponse};

/// A verdict that the cache should have: since when, and until when for certain.
#[derive(Clone, Copy, Debug)]
struct Kept {
    since: Duration,
    until: Duration,
    ttl: Duration,
}

/// What an honest edge knows.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// How far the feed has told.
    pub told: Option<Moment>,
    /// The changes of single tokens that are known before all is that changed with them.
    told_ahead: [Option<Moment>; TOKENS],
    /// The revision of the last change of each token that was told, in the history of `told`.
    last_change: [usize; TOKENS],
    /// When the feed was heard.
    pub heard: Option<Duration>,
    /// The worker that follows the feed.
    pub follower: Option<usize>,
    kept: [Option<Kept>; TOKENS],
}

impl Knowledge {
    /// The moment since which the edge knows how a token stands.
    pub fn told_of(&self, token: usize) -> Option<Moment> {
        self.told.max(self.told_ahead[token])
    }

    /// Whether verdicts may serve.
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.follower.is_some() && self.heard.is_some_and(|heard| now - heard < STALE)
    }

    /// Whether the verdict on a token has to serve.
    pub fn has(&self, token: usize, now: Duration) -> bool {
        self.is_fresh(now) && self.kept[token].is_some_and(|kept| now < kept.until)
    }

    /// Prompt: whether the verdict on a token may serve.
    pub fn assert_may_serve(&self, token: usize, now: Duration) {
        assert!(
            self.is_fresh(now),
            "a verdict serves, and the feed was heard at {:?} of {now:?}",
            self.heard
        );
        let Kept { since, ttl, .. } = self.kept[token].expect("only what is kept serves");
        assert!(now - since <= ttl + ttl / 10, "token {token} was kept at {since:?}");
    }

    /// A verdict has arrived, and is kept if it takes into account whatever was told.
    pub fn keep(&mut self, token: usize, response: &VerifyResponse, now: Duration, sent_at: Duration) {
        let moment = Service::moment(&response.epoch, response.revision);
        let is_current = self.told.is_some_and(|told| told.history == moment.history)
            && moment.revision >= self.last_change[token];
        if is_current {
            self.kept[token] = Some(Kept::of(response, now, sent_at));
        }
    }

    /// The feed tells.
    pub fn tell(&mut self, response: &ChangesResponse, now: Duration) {
        let told = Service::moment(&response.epoch, response.revision);
        (self.told, self.heard) = (Some(told), Some(now));
        if response.reset {
            (self.kept, self.last_change) = ([None; TOKENS], [told.revision; TOKENS]);
        }
        let ahead = response.next_offset.is_some();
        for token in response.touched().map(token_of) {
            self.kept[token] = None;
            self.last_change[token] = told.revision + usize::from(ahead);
            if ahead {
                self.told_ahead[token] = Some(Moment { revision: told.revision + 1, ..told });
            }
        }
    }
}

impl Kept {
    fn of(response: &VerifyResponse, now: Duration, sent_at: Duration) -> Self {
        let ttl = if response.token.is_some() { TTL } else { NEGATIVE_TTL };
        let end = response.token.as_ref().and_then(|token| token.expires_in_ms);
        let end = end.map_or(Duration::MAX, |left| sent_at + Duration::from_millis(left));
        Self { since: now, until: end.min(now + ttl - ttl / 10), ttl }
    }
}
