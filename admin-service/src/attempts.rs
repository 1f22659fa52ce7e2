//! Failed authentications, limited for each source, so that who guesses or goes on with a dead token is told to slow down, and
//! costs the others nothing: a valid credential passes all the same, from that source too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use latchkey::refusal::Reason;
use lru::LruCache;

use crate::clock::{Passing, Sources};

/// How many failures of one source are allowed within [`SPAN`], where nothing else is said.
pub const MOST: u32 = 300;
/// What the limit is counted over.
pub const SPAN: Duration = Duration::from_secs(60);
/// How many sources are remembered: the one that has not failed for longest is forgotten for another.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Whether a refusal is a failed attempt: not one without a credential, and not one of a credential that is good.
#[must_use]
pub fn is_failed(reason: Reason) -> bool {
    reason.status() == 401 && reason != Reason::Missing
}

/// Where attempts come from: an IPv4 address, or the network of 64 bits that IPv6 gives to one customer (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address.
    V4(Ipv4Addr),
    /// The first four groups of one.
    V6([u16; 4]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
}

/// A source has failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many failures are allowed within [`SPAN`].
    pub most: u32,
    /// After what time the next is allowed.
    pub again_in: Duration,
}

impl TooMany {
    /// Whole seconds until the next is allowed, for `Retry-After`.
    #[must_use]
    pub fn again_in_seconds(&self) -> u64 {
        self.again_in.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }
}

/// Counts failures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// 0: no limit.
    most: u32,
    sources: Sources,
    failed: Mutex<Failed>,
}

/// For each source the time at which all its failures are forgiven: each puts it off by the same time.
#[derive(Debug)]
struct Failed {
    passing: Passing,
    until: LruCache<Source, Duration>,
}

impl Attempts {
    /// So many failures are allowed within [`SPAN`]; 0: any number.
    #[must_use]
    pub fn new(most: u32, sources: Sources) -> Self {
        let failed = Failed { passing: Passing::since(sources.now()), until: LruCache::new(REMEMBERED) };
        Self(Arc::new(Inner { most, sources, failed: Mutex::new(failed) }))
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// [`TooMany`]: this one is beyond the limit, and does not put the next one off.
    pub fn failed(&self, address: IpAddr) -> Result<(), TooMany> {
        self.check(address, true)
    }

    /// Whether a failure would be beyond the limit now.
    ///
    /// # Errors
    /// [`TooMany`]: it would.
    pub fn check_failed(&self, address: IpAddr) -> Result<(), TooMany> {
        self.check(address, false)
    }

    fn check(&self, address: IpAddr, count: bool) -> Result<(), TooMany> {
        let Inner { most, sources, failed } = &*self.0;
        let (most, source) = (*most, Source::from(address));
        if most == 0 {
            return Ok(());
        }
        let clock = sources.now();
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = failed.passing.now(clock);
        let until = failed.until.peek(&source).copied().unwrap_or_default();
        let next = until.max(now) + SPAN / most;
        match next.checked_sub(now + SPAN) {
            Some(again_in) if !again_in.is_zero() => Err(TooMany { most, again_in }),
            _ => {
                if count {
                    failed.until.put(source, next);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, OsEntropy};

    fn attempts(most: u32) -> (Attempts, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        (Attempts::new(most, Sources::new(clock.clone(), Arc::new(OsEntropy))), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_may_fail_so_often_and_again_as_time_passes() {
        let (attempts, clock) = attempts(3);
        let source = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(attempts.check_failed(source), Ok(()));
            assert_eq!(attempts.failed(source), Ok(()));
        }
        let too_many = attempts.failed(source).unwrap_err();
        assert_eq!((too_many.most, too_many.again_in_seconds()), (3, 20));
        assert_eq!(attempts.check_failed(source), Err(too_many));
        clock.advance(Duration::from_millis(19_001));
        assert_eq!(attempts.failed(source).unwrap_err().again_in_seconds(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(attempts.failed(source), Ok(()));
        assert!(attempts.failed(source).is_err());
        clock.advance(Duration::from_secs(3600));
        for _ in 0..3 {
            assert_eq!(attempts.failed(source), Ok(()), "an hour earns no more than the limit");
        }
        assert!(attempts.failed(source).is_err());
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network_and_others_are_not_limited_with_it() {
        let (attempts, _) = attempts(1);
        assert!(attempts.failed(ip("192.0.2.1")).is_ok());
        assert!(attempts.failed(ip("2001:db8:1:2::1")).is_ok());
        for same in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9"] {
            assert!(attempts.failed(ip(same)).is_err(), "{same}");
        }
        for other in ["192.0.2.2", "2001:db8:1:3::1"] {
            assert!(attempts.failed(ip(other)).is_ok(), "{other}");
        }
    }

    #[test]
    fn memory_is_bounded_however_many_sources_fail() {
        let (attempts, _) = attempts(1);
        for number in 0..20_000_u32 {
            assert!(attempts.failed(Ipv4Addr::from(number).into()).is_ok());
        }
        let failed = attempts.0.failed.lock().unwrap();
        assert_eq!(failed.until.len(), REMEMBERED.get());
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let (attempts, _) = attempts(0);
        assert!((0..1000).all(|_| attempts.failed(ip("192.0.2.1")).is_ok()));
    }

    #[test]
    fn a_missing_or_good_credential_is_no_failed_attempt() {
        let failed: Vec<_> = Reason::ALL.into_iter().filter(|reason| is_failed(*reason)).collect();
        assert_eq!(failed.len(), 9, "{failed:?}");
        for none in [Reason::Missing, Reason::Address, Reason::InsufficientScope, Reason::Unavailable] {
            assert!(!failed.contains(&none), "{none:?}");
        }
    }
}
