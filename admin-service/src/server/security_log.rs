//! What operators are warned of: failed authentications and callers that were slowed. One line for each address and minute, with
//! the number since the last, so that an attacker cannot flood the log.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::attempts::Source;
use crate::clock::{Passing, Sources};
use crate::domain::time::Timestamp;
use crate::error::Code;
use crate::lifecycle::Shutdown;

/// How long an address is only counted after a line about it.
const SPAN: Duration = Duration::from_secs(60);
/// How often to look whether a line is due.
const SWEEP: Duration = Duration::from_secs(1);
/// How many addresses have lines of their own; what others do stands in one line together.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Whether an error is worth a warning: whoever gets it has presented what is not accepted, or was slowed.
const fn is_suspicious(code: Code) -> bool {
    matches!(code, Code::ApiKeyInvalid | Code::TooManyFailures | Code::TooManyChanges)
}

/// Warns. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct SecurityLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Sources,
    noted: Mutex<Noted>,
}

/// What one address did since the last line about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// `None`: of the addresses that have no line of their own.
    client: Option<IpAddr>,
    listener: &'static str,
    code: Code,
    count: u64,
}

impl Line {
    fn write(&self) {
        let client = self.client.map_or_else(|| "others".to_owned(), |client| client.to_string());
        let (listener, count) = (self.listener, self.count);
        tracing::warn!(
            target: "latchkey::security",
            client, listener, code = self.code.text(), count, "authentication failed or throttled"
        );
    }
}

#[derive(Debug)]
struct Noted {
    passing: Passing,
    addresses: LruCache<Source, (Duration, Line)>,
    others: (Duration, Line),
}

impl Noted {
    fn new(clock: Timestamp) -> Self {
        let none = Line { client: None, listener: "", code: Code::ApiKeyInvalid, count: 0 };
        let addresses = LruCache::new(MAX_ADDRESSES);
        Self { passing: Passing::since(clock), addresses, others: (Duration::ZERO, none) }
    }

    /// Counts one, which is the returned line if it is the first of its address.
    fn note(&mut self, client: IpAddr, listener: &'static str, code: Code, now: Duration) -> Option<Line> {
        let (source, one) = (Source::from(client), Line { client: Some(client), listener, code, count: 1 });
        if let Some((_, line)) = self.addresses.get_mut(&source) {
            *line = Line { count: line.count + 1, ..one };
            return None;
        }
        if self.addresses.len() < MAX_ADDRESSES.get() {
            self.addresses.put(source, (now, Line { count: 0, ..one.clone() }));
            return Some(one);
        }
        let (since, line) = &mut self.others;
        if line.count == 0 {
            *since = now;
        }
        *line = Line { client: None, count: line.count + 1, ..one };
        None
    }

    /// The lines that are due, and forgets addresses that have done nothing more.
    fn due(&mut self, now: Duration) -> Vec<Line> {
        let over = |since: Duration| now >= since + SPAN;
        let ended: Vec<Source> =
            self.addresses.iter().filter(|(_, (since, _))| over(*since)).map(|(source, _)| *source).collect();
        let mut lines = Vec::new();
        for source in ended {
            match self.addresses.peek_mut(&source) {
                Some((since, line)) if line.count > 0 => {
                    lines.push(line.clone());
                    *line = Line { count: 0, ..line.clone() };
                    *since = now;
                }
                _ => drop(self.addresses.pop(&source)),
            }
        }
        let (since, line) = &mut self.others;
        if line.count > 0 && over(*since) {
            lines.push(line.clone());
            line.count = 0;
        }
        lines
    }
}

impl SecurityLog {
    /// Nothing noted.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let noted = Mutex::new(Noted::new(sources.now()));
        Self(Arc::new(Inner { sources, noted }))
    }

    /// Notes the answer to a client, if it is worth it.
    pub fn note(&self, client: IpAddr, listener: &'static str, code: Code) {
        if is_suspicious(code)
            && let Some(line) = self.with(|noted, now| noted.note(client, listener, code, now))
        {
            line.write();
        }
    }

    /// Writes the lines that are due, until the service ends; then what was counted and not yet told.
    pub async fn run(self, mut shutdown: Shutdown) {
        loop {
            let ending = shutdown.requested_within(SWEEP).await;
            let lines = self.with(|noted, now| noted.due(if ending { now + SPAN } else { now }));
            lines.iter().for_each(Line::write);
            if ending {
                return;
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Noted, Duration) -> T) -> T {
        let clock = self.0.sources.now();
        let mut noted = self.0.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = noted.passing.now(clock);
        act(&mut noted, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const START: Duration = Duration::ZERO;

    fn noted() -> Noted {
        Noted::new("2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn counts(lines: &[Line]) -> Vec<(Option<IpAddr>, u64)> {
        lines.iter().map(|line| (line.client, line.count)).collect()
    }

    #[test]
    fn an_address_has_a_line_at_once_and_one_a_minute_with_the_number_since() {
        let (mut noted, client) = (noted(), IpAddr::from([192, 0, 2, 1]));
        let note = |noted: &mut Noted, at| noted.note(client, "api", Code::ApiKeyInvalid, at);
        assert_eq!(note(&mut noted, START).map(|line| line.count), Some(1));
        for _ in 0..1700 {
            assert_eq!(note(&mut noted, START), None);
        }
        assert!(noted.due(SPAN / 2).is_empty());
        assert_eq!(counts(&noted.due(SPAN)), [(Some(client), 1700)]);
        assert!(noted.due(SPAN).is_empty());
        assert!(noted.due(2 * SPAN).is_empty());
        assert_eq!(noted.addresses.len(), 0, "an address that is quiet is forgotten");
        assert_eq!(note(&mut noted, 2 * SPAN).map(|line| line.count), Some(1));
    }

    #[test]
    fn many_addresses_take_no_more_than_a_bounded_number_of_lines() {
        let mut noted = noted();
        let lines = (0..5000_u32).filter_map(|number| {
            noted.note(Ipv4Addr::from(number).into(), "edge", Code::EdgeSecretInvalid, START)
        });
        assert_eq!(lines.count(), MAX_ADDRESSES.get());
        let rest = 5000 - MAX_ADDRESSES.get() as u64;
        assert_eq!(counts(&noted.due(SPAN)), [(None, rest)]);
        assert_eq!(noted.addresses.len(), 0);
    }

    #[test]
    fn what_is_no_attack_or_has_a_warning_of_its_own_is_no_warning() {
        for code in [
            Code::EdgeSecretInvalid,
            Code::ApiKeyMissing,
            Code::InsufficientScope,
            Code::NotFound,
            Code::InternalError,
        ] {
            assert!(!is_suspicious(code), "{code:?}");
        }
    }
}
