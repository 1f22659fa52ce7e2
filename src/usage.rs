//! What tokens were used for, until the service has written it down: counted here, reported in batches, and sent again under
//! the same number until the answer comes, so that everything is counted and nothing twice. Pure; times are durations since
//! any fixed moment.

use std::collections::HashMap;
use std::time::Duration;

use crate::wire::{MAX_USAGE_ENTRIES, TokenUsage, UsageReport};

#[cfg(test)]
mod tests;

/// How many tokens are counted at most; the use of further ones is not, until some were reported.
const MAX_TOKENS: usize = 100_000;
/// How long after a failed report it is sent again: doubled with each further failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is counted and not yet written down.
#[derive(Debug)]
pub struct Usage {
    edge: String,
    flush: Duration,
    counts: Counts,
    /// What the report under way, or the one that failed, says. It stays as it is until the service has it.
    reported: Vec<(String, Count)>,
    sequence: u64,
    sending: bool,
    failures: u32,
    next: Option<Duration>,
}

/// Requests by token, bounded.
#[derive(Debug, Default)]
pub struct Counts(HashMap<String, Count>);

impl Counts {
    /// Counts one request that presented a token which exists. `false`: there is no room for another token.
    pub fn count(&mut self, token_id: &str, allowed: bool, now: Duration) -> bool {
        if let Some(count) = self.0.get_mut(token_id) {
            count.add(allowed, now);
            return true;
        }
        let has_room = self.0.len() < MAX_TOKENS;
        if has_room {
            let mut first = Count::default();
            first.add(allowed, now);
            self.0.insert(token_id.to_owned(), first);
        }
        has_room
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over what others have counted. Returns how many requests were dropped, of tokens for which there is no room.
    fn absorb(&mut self, others: Self) -> u64 {
        let mut dropped = 0_u64;
        for (token_id, count) in others.0 {
            if let Some(sum) = self.0.get_mut(&token_id) {
                sum.merge(count);
            } else if self.0.len() < MAX_TOKENS {
                self.0.insert(token_id, count);
            } else {
                dropped = dropped.saturating_add(count.allowed).saturating_add(count.denied);
            }
        }
        dropped
    }

    fn take(&mut self, most: usize) -> Vec<(String, Count)> {
        if self.0.len() <= most {
            return self.0.drain().collect();
        }
        let ids: Vec<String> = self.0.keys().take(most).cloned().collect();
        ids.into_iter().filter_map(|id| self.0.remove_entry(&id)).collect()
    }
}

/// The use of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    allowed: u64,
    denied: u64,
    /// The last one that was allowed.
    last_allowed: Option<Duration>,
}

impl Count {
    fn add(&mut self, allowed: bool, now: Duration) {
        if allowed {
            self.allowed += 1;
            self.last_allowed = Some(now);
        } else {
            self.denied += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.allowed = self.allowed.saturating_add(other.allowed);
        self.denied = self.denied.saturating_add(other.denied);
        self.last_allowed = self.last_allowed.max(other.last_allowed);
    }
}

impl Usage {
    /// Nothing counted. `edge` names this VM and no other; a report is made every `flush`.
    #[must_use]
    pub fn new(edge: String, flush: Duration) -> Self {
        Self {
            edge,
            flush,
            counts: Counts::default(),
            reported: Vec::new(),
            sequence: 0,
            sending: false,
            failures: 0,
            next: None,
        }
    }

    /// Counts one request that presented a token which exists. `false`: there is no room for another token.
    pub fn count(&mut self, token_id: &str, allowed: bool, now: Duration) -> bool {
        let counted = self.counts.count(token_id, allowed, now);
        self.expect_report(now);
        counted
    }

    /// Takes over what was counted elsewhere. Returns how many requests were dropped, of tokens for which there is no room.
    pub fn absorb(&mut self, counts: Counts, now: Duration) -> u64 {
        let dropped = self.counts.absorb(counts);
        self.expect_report(now);
        dropped
    }

    fn expect_report(&mut self, now: Duration) {
        if !self.counts.is_empty() {
            self.next.get_or_insert(now.saturating_add(self.flush));
        }
    }

    /// Something was counted elsewhere, to be taken over once [`Usage::is_due`].
    pub fn note_use(&mut self, now: Duration) {
        self.next.get_or_insert(now.saturating_add(self.flush));
    }

    /// Whether [`Usage::report`] would give a report, were there anything to report.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        !self.sending && self.next.is_some_and(|next| next <= now)
    }

    /// The next report, if it is time; it ends with [`Usage::written`] or [`Usage::failed`].
    pub fn report(&mut self, now: Duration) -> Option<UsageReport> {
        if !self.is_due(now) {
            return None;
        }
        if self.reported.is_empty() && self.counts.is_empty() {
            self.next = None;
            return None;
        }
        if self.reported.is_empty() {
            self.reported = self.counts.take(MAX_USAGE_ENTRIES);
            self.sequence += 1;
        }
        self.sending = true;
        let ago = |last: Duration| u64::try_from(now.saturating_sub(last).as_millis()).unwrap_or(u64::MAX);
        let entry = |(token_id, count): &(String, Count)| TokenUsage {
            token_id: token_id.clone(),
            allowed: count.allowed,
            denied: count.denied,
            last_used_ms_ago: count.last_allowed.map_or(0, ago),
        };
        let usage = self.reported.iter().map(entry).collect();
        Some(UsageReport { edge: self.edge.clone(), sequence: self.sequence, usage })
    }

    /// The next report, whether or not it is time, unless one is under way or there is nothing to report.
    pub fn report_now(&mut self, now: Duration) -> Option<UsageReport> {
        if self.next.is_some() {
            self.next = Some(now);
        }
        self.report(now)
    }

    /// The service has written the report down, or never will. What does not fit into one goes out at once.
    pub fn written(&mut self, now: Duration) {
        (self.sending, self.failures) = (false, 0);
        self.reported = Vec::new();
        self.next = match self.counts.0.len() {
            0 => None,
            many if many >= MAX_USAGE_ENTRIES => Some(now),
            _ => Some(now.saturating_add(self.flush)),
        };
    }

    /// The report failed, or its answer was lost: it is sent again as it is.
    pub fn failed(&mut self, now: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.sending = false;
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now.saturating_add(pause));
    }
}
