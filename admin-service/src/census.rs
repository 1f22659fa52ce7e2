//! The count of all users and tokens: one at a time, and on large databases kept for a while, so that asking for it again
//! and again costs little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::domain::period::Period;
use crate::domain::stats::Counts;
use crate::domain::time::Timestamp;
use crate::store::{Store, StoreError};

/// Up to so many users and tokens, each who asks gets a count that knows of all that was done before.
const COUNTED_ANEW: u64 = 100_000;
/// Above that, a count is kept for so many times as long as it took, and for so long at most.
const KEPT_TIMES: u64 = 20;
const KEPT_AT_MOST: u64 = 60_000;
/// How long an answer waits for a count.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts for all who ask. Cheap to clone; all clones share their counts.
#[derive(Clone, Debug)]
pub struct Census(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// How many counts have begun.
    begun: AtomicU64,
    /// Held by the count under way.
    turn: Mutex<()>,
    latest: RwLock<Option<Latest>>,
}

/// The last count that was finished.
#[derive(Clone, Copy, Debug)]
struct Latest {
    /// How many counts had begun with it.
    number: u64,
    counts: Counts,
    /// When it is too old.
    kept_until: Timestamp,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// The first one takes its time, and goes on.
    #[error("the users and tokens are being counted for the first time; try again in a few seconds")]
    Counting,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Census {
    /// Counts what is in a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let (begun, turn, latest) = Default::default();
        Self(Arc::new(Inner { store, begun, turn, latest }))
    }

    /// How many users and tokens there are, and as of when. Where a new count takes longer than the answer waits, it is
    /// an earlier one, and the new one is there for those who ask later.
    ///
    /// # Errors
    /// [`CensusError`].
    pub async fn counts(&self) -> Result<Counts, CensusError> {
        let inner = Arc::clone(&self.0);
        // A task of its own, which goes on when nobody waits any more.
        let counted = tokio::spawn(async move { inner.counts(inner.begun.load(Ordering::SeqCst)).await });
        match tokio::time::timeout(PATIENCE, counted).await {
            Ok(Ok(Some(counted))) => Ok(counted?),
            Ok(Ok(None) | Err(_)) | Err(_) => match self.0.latest() {
                Some(latest) => Ok(latest.counts),
                None => Err(CensusError::Counting),
            },
        }
    }
}

impl Inner {
    /// The counts for somebody who asked when so many counts had `begun`; `None` where one that has begun since has failed.
    async fn counts(&self, begun: u64) -> Option<Result<Counts, StoreError>> {
        let now = || self.store.sources().now();
        if let Some(latest) = self.latest().filter(|latest| latest.is_kept(now())) {
            return Some(Ok(latest.counts));
        }
        let _turn = self.turn.lock().await;
        // Of those who have waited for their turn, one counts for all.
        if self.begun.load(Ordering::SeqCst) > begun {
            return self.latest().filter(|latest| latest.number > begun).map(|latest| Ok(latest.counts));
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let counts = match self.store.counts().await {
            Ok(counts) => counts,
            Err(error) => return Some(Err(error)),
        };
        let latest = Latest { number, counts, kept_until: kept_until(&counts, now()) };
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        Some(Ok(counts))
    }

    fn latest(&self) -> Option<Latest> {
        *self.latest.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn is_kept(&self, now: Timestamp) -> bool {
        // A clock that was set back keeps nothing.
        (self.counts.as_of..self.kept_until).contains(&now)
    }
}

/// Until when counts are kept that were done at `end`.
fn kept_until(counts: &Counts, end: Timestamp) -> Timestamp {
    if counts.users.total() + counts.tokens.total() <= COUNTED_ANEW {
        return counts.as_of;
    }
    let took = u64::try_from(end.as_millisecond() - counts.as_of.as_millisecond()).unwrap_or(0);
    Period::from_millis(took.saturating_mul(KEPT_TIMES).min(KEPT_AT_MOST)).after(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::stats::{TokenCounts, UserCounts};

    fn of(tokens: u64, as_of: Timestamp) -> Counts {
        let tokens = TokenCounts { active: tokens, ..TokenCounts::default() };
        Counts { as_of, users: UserCounts::default(), tokens }
    }

    #[test]
    fn a_count_is_kept_the_longer_the_more_it_cost() {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |millis| Period::from_millis(millis).after(began);
        assert_eq!(kept_until(&of(100_000, began), after(900)), began);
        assert_eq!(kept_until(&of(100_001, began), after(100)), after(2_100));
        assert_eq!(kept_until(&of(10_000_000, began), after(9_000)), after(69_000));
    }

    #[test]
    fn a_count_from_a_clock_that_was_set_back_is_not_kept() {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let counts = of(1_000_000, began);
        let latest = Latest {
            number: 1,
            counts,
            kept_until: kept_until(&counts, Period::from_millis(500).after(began)),
        };
        assert!(latest.is_kept(Period::from_millis(1_000).after(began)));
        assert!(!latest.is_kept(Period::from_millis(1).before(began)));
        assert!(!latest.is_kept(Period::from_days(1).after(began)));
    }
}
