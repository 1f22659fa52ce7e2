//! How often something may be done: a bucket for each key that refills as time passes (the generic cell rate algorithm). So much
//! may be done at once, and then as much as the bucket has refilled.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::clock::{Passing, Sources};

/// What a limit is counted over: a bucket that is empty is full again after this.
pub const SPAN: Duration = Duration::from_secs(60);
/// How many keys are remembered: the one that was not counted for longest is dropped for another.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// The bucket of a key is empty. Displays what the limit is, and when there is room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many are allowed at once, and within [`SPAN`] afterwards.
    pub limit: u32,
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

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, seconds) = (self.limit, self.again_in_seconds());
        write!(f, "{limit} are allowed at once, then ")?;
        match limit / 60 {
            each if limit.is_multiple_of(60) => write!(f, "{each} a second")?,
            _ => write!(f, "{limit} a minute")?,
        }
        write!(f, "; the next in {seconds} s")
    }
}

/// Counts what each key does. Its memory is bounded, however many there are.
#[derive(Debug)]
pub struct RateLimiter<K: Hash + Eq> {
    /// 0: no limit.
    limit: u32,
    sources: Sources,
    counted: Mutex<Counted<K>>,
}

/// For each key the time at which its bucket is full again: each count puts it off by the same time.
#[derive(Debug)]
struct Counted<K: Hash + Eq> {
    passing: Passing,
    full_at: LruCache<K, Duration>,
}

impl<K: Hash + Eq> RateLimiter<K> {
    /// So many are allowed at once, and within [`SPAN`]; 0: any number.
    #[must_use]
    pub fn new(limit: u32, sources: Sources) -> Self {
        let counted = Counted { passing: Passing::since(sources.now()), full_at: LruCache::new(MAX_KEYS) };
        Self { limit, sources, counted: Mutex::new(counted) }
    }

    /// Counts one.
    ///
    /// # Errors
    /// [`TooMany`]: this one is beyond the limit, and does not put the next one off.
    pub fn take(&self, key: K) -> Result<(), TooMany> {
        self.check(key, true)
    }

    /// Whether one would be beyond the limit now.
    ///
    /// # Errors
    /// [`TooMany`]: it would.
    pub fn peek(&self, key: K) -> Result<(), TooMany> {
        self.check(key, false)
    }

    fn check(&self, key: K, count: bool) -> Result<(), TooMany> {
        let limit = self.limit;
        if limit == 0 {
            return Ok(());
        }
        let clock = self.sources.now();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = counted.passing.now(clock);
        let full_at = counted.full_at.peek(&key).copied().unwrap_or_default();
        let next = full_at.max(now) + SPAN / limit;
        match next.checked_sub(now + SPAN) {
            Some(again_in) if !again_in.is_zero() => Err(TooMany { limit, again_in }),
            _ => {
                if count {
                    counted.full_at.put(key, next);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, OsEntropy};

    fn limiter(limit: u32) -> (RateLimiter<u32>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        (RateLimiter::new(limit, Sources::new(clock.clone(), Arc::new(OsEntropy))), clock)
    }

    #[test]
    fn so_much_is_allowed_at_once_and_again_as_time_passes() {
        let (limiter, clock) = limiter(3);
        for _ in 0..3 {
            assert_eq!(limiter.peek(1), Ok(()));
            assert_eq!(limiter.take(1), Ok(()));
        }
        let too_many = limiter.take(1).unwrap_err();
        assert_eq!((too_many.limit, too_many.again_in_seconds()), (3, 20));
        assert_eq!(limiter.peek(1), Err(too_many));
        assert_eq!(limiter.take(2), Ok(()), "another key is limited with it");
        clock.advance(Duration::from_millis(19_001));
        assert_eq!(limiter.take(1).unwrap_err().again_in_seconds(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(limiter.take(1), Ok(()));
        assert!(limiter.take(1).is_err());
        clock.advance(Duration::from_secs(3600));
        for _ in 0..3 {
            assert_eq!(limiter.take(1), Ok(()), "an hour earns no more than the limit");
        }
        assert!(limiter.take(1).is_err());
    }

    #[test]
    fn memory_is_bounded_however_many_keys_there_are() {
        let (limiter, _) = limiter(1);
        for key in 0..20_000 {
            assert!(limiter.take(key).is_ok());
        }
        assert_eq!(limiter.counted.lock().unwrap().full_at.len(), MAX_KEYS.get());
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let (limiter, _) = limiter(0);
        assert!((0..1000).all(|_| limiter.take(1).is_ok()));
    }

    #[test]
    fn it_says_that_the_bucket_refills() {
        let said = |limit, millis| TooMany { limit, again_in: Duration::from_millis(millis) }.to_string();
        assert_eq!(said(300, 200), "300 are allowed at once, then 5 a second; the next in 1 s");
        assert_eq!(said(7, 8_571), "7 are allowed at once, then 7 a minute; the next in 9 s");
    }
}
