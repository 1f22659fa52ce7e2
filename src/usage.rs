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
    counts: HashMap<String, Count>,
    /// What the report under way, or the one that failed, says. It stays as it is until the service has it.
    reported: Vec<(String, Count)>,
    sequence: u64,
    sending: bool,
    failures: u32,
    next: Option<Duration>,
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
}

impl Usage {
    /// Nothing counted. `edge` names this VM and no other; a report is made every `flush`.
    #[must_use]
    pub fn new(edge: String, flush: Duration) -> Self {
        Self {
            edge,
            flush,
            counts: HashMap::new(),
            reported: Vec::new(),
            sequence: 0,
            sending: false,
            failures: 0,
            next: None,
        }
    }

    /// Counts one request that presented a token which exists. `false`: there is no room for another token.
    pub fn count(&mut self, token_id: &str, allowed: bool, now: Duration) -> bool {
        if let Some(count) = self.counts.get_mut(token_id) {
            count.add(allowed, now);
            return true;
        }
        let has_room = self.counts.len() < MAX_TOKENS;
        if has_room {
            let mut first = Count::default();
            first.add(allowed, now);
            self.counts.insert(token_id.to_owned(), first);
            self.next.get_or_insert(now.saturating_add(self.flush));
        }
        has_room
    }

    /// The next report, if it is time; it ends with [`Usage::written`] or [`Usage::failed`].
    pub fn report(&mut self, now: Duration) -> Option<UsageReport> {
        if self.sending || self.next.is_none_or(|next| now < next) {
            return None;
        }
        if self.reported.is_empty() {
            let ids: Vec<String> = self.counts.keys().take(MAX_USAGE_ENTRIES).cloned().collect();
            self.reported = ids.into_iter().filter_map(|id| self.counts.remove_entry(&id)).collect();
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
        self.next = match self.counts.len() {
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
