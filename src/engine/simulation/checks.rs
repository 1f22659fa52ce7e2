//! What must hold of the edge after each step, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::callouts::{InFlight, asked};
use super::decisions::Judged;
use super::edge::Edge;
use super::request::{Kind, Path, Request};
use super::service::{Service, TOKENS};
use super::{GIVEN_UP, TIMEOUT};
use crate::engine::{Definition, Metrics};
use crate::refusal::Reason;

impl Edge {
    /// Contained: what must hold after each step.
    pub fn check(&self, now: Duration) {
        let waiting: BTreeSet<(usize, usize)> =
            self.streams.iter().map(|((worker, _), waiting)| (*worker, waiting.token)).collect();
        let verifies = self.calls.iter().filter(|call| call.is_verify());
        let verifies: Vec<usize> = verifies.map(|call| call.worker).collect();
        // While two callouts are in flight, further tokens are gathered.
        let gathers = |worker: &usize| verifies.iter().filter(|it| *it == worker).count() >= 2;
        let lost = waiting.iter().find(|(worker, token)| {
            let is_verified = |call: &InFlight| {
                call.worker == *worker && call.is_verify() && asked(&call.dispatch).contains(token)
            };
            !gathers(worker) && !self.calls.iter().any(is_verified)
        });
        assert_eq!(lost, None, "a stream waits for nothing");
        assert!(self.streams.values().all(|waiting| now - waiting.since <= GIVEN_UP + TIMEOUT));
    }

    /// Whether nothing is in flight but the feed, and the feed has told all.
    pub fn is_quiet(&self, service: &Service, now: Duration) -> bool {
        let verifies = self.calls.iter().any(InFlight::is_verify);
        !verifies
            && self.streams.is_empty()
            && self.knows.told == Some(service.now())
            && self.knows.is_fresh(now)
    }

    /// Accountable: the service has counted each use once.
    pub fn check_usage(&self, service: &Service) {
        assert_eq!(service.counted, self.uses);
    }

    /// The metrics are what has happened.
    pub fn check_metrics(&self) {
        let definitions = Metrics::definitions();
        let mut counts = BTreeMap::new();
        self.metrics.take(|place, difference| {
            let name = match definitions[place] {
                Definition { name, label: Some((_, case)), .. } => format!("{name}.{case}"),
                Definition { name, .. } => name.to_owned(),
            };
            *counts.entry(name).or_insert(0) += difference;
        });
        for name in ["passed", "cache_hits", "cache_misses", "callouts_under_way", "callouts.ok"] {
            assert_eq!(counts.get(name), self.counts.get(name), "{name}");
        }
        for reason in Reason::ALL {
            for group in ["refused", "shadow_refused"] {
                let name = format!("{group}.{}", reason.name());
                assert_eq!(counts.get(&name), self.counts.get(&name), "{name}");
            }
        }
        let gauge = |name: &str| counts.get(name).copied().unwrap_or_default();
        assert!((0..=2 * TOKENS as i64).contains(&gauge("cache_entries")), "{counts:?}");
        assert!((0..=1).contains(&gauge("feeds_stale")) && gauge("cache_bytes") >= 0, "{counts:?}");
    }
}

/// What is decided without a verdict, where a request needs none.
pub fn expected_without_verdict(request: Request) -> Option<Judged> {
    if request.path == Path::None {
        return Some(Ok(None));
    }
    match request.kind {
        Kind::Token(_) | Kind::Forging(_) | Kind::WrongUser(_) => None,
        Kind::Nothing if request.path == Path::Optional => Some(Ok(None)),
        Kind::Nothing => Some(Err(Reason::Missing)),
        Kind::Garbage | Kind::Foreign => Some(Err(Reason::Malformed)),
        Kind::Twice(_) => Some(Err(Reason::MultipleCredentials)),
    }
}
