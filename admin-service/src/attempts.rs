//! Failed authentications, limited for each source, so that who guesses or goes on with a dead token is told to slow down, and
//! costs the others nothing: a valid credential passes all the same, from that source too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use latchkey::refusal::Reason;

use crate::clock::Sources;
use crate::rate::{RateLimiter, TooMany};

/// How many failures of one source are allowed at once, and within a minute afterwards, where nothing else is said.
pub const MOST: u32 = 300;

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

/// Counts failures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts(Arc<RateLimiter<Source>>);

impl Attempts {
    /// So many failures of one source are allowed at once, and within a minute; 0: any number.
    #[must_use]
    pub fn new(limit: u32, sources: Sources) -> Self {
        Self(Arc::new(RateLimiter::new(limit, sources)))
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// [`TooMany`]: this one is beyond the limit, and does not put the next one off.
    pub fn failed(&self, address: IpAddr) -> Result<(), TooMany> {
        self.0.take(address.into())
    }

    /// Whether a failure would be beyond the limit now.
    ///
    /// # Errors
    /// [`TooMany`]: it would.
    pub fn check_failed(&self, address: IpAddr) -> Result<(), TooMany> {
        self.0.peek(address.into())
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
    fn a_missing_or_good_credential_is_no_failed_attempt() {
        let failed: Vec<_> = Reason::ALL.into_iter().filter(|reason| is_failed(*reason)).collect();
        assert_eq!(failed.len(), 9, "{failed:?}");
        for none in [Reason::Missing, Reason::Address, Reason::InsufficientScope, Reason::Unavailable] {
            assert!(!failed.contains(&none), "{none:?}");
        }
    }
}
