//! What the service itself has let through and refused, for gateways that ask it about each request: counted as the filter
//! counts, and written down in batches as the reports of an edge are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latchkey::usage::Usage;
use latchkey::wire::UsageReport;

use crate::clock::{NoEntropy, Passing};
use crate::domain::usage::Report;
use crate::error::chain;
use crate::lifecycle::Shutdown;
use crate::store::Store;
use crate::telemetry::USAGE_DROPPED;

/// How often what was counted is written down.
const FLUSH: Duration = Duration::from_secs(10);
/// How often to look whether it is time.
const LOOK: Duration = Duration::from_millis(500);

/// Counts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Used(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    usage: Usage,
    passing: Passing,
}

impl Used {
    /// Nothing counted.
    ///
    /// # Errors
    /// [`NoEntropy`]: it has a random name, as an edge has.
    pub fn new(store: Store) -> Result<Self, NoEntropy> {
        let now = store.sources().now();
        let usage = Usage::new(store.sources().new_id(now)?.to_string(), FLUSH);
        let passing = Passing::since(now);
        Ok(Self(Arc::new(Inner { store, counted: Mutex::new(Counted { usage, passing }) })))
    }

    /// Counts one request that presented a token which exists.
    pub fn count(&self, token_id: &str, allowed: bool) {
        let room = self.with(|usage, now| usage.count(token_id, allowed, now));
        if !room {
            metrics::counter!(USAGE_DROPPED).increment(1);
        }
    }

    /// Writes down what was counted, whenever it is time, until the service ends.
    pub async fn run(self, mut shutdown: Shutdown) {
        while !shutdown.requested_within(LOOK).await {
            if let Some(report) = self.with(Usage::report) {
                self.write(report).await;
            }
        }
    }

    /// Writes down what is left, when no more is counted.
    pub async fn write_rest(&self) {
        while let Some(report) = self.with(Usage::report_now) {
            if !self.write(report).await {
                return;
            }
        }
    }

    /// Writes one report; tells whether it is written.
    async fn write(&self, report: UsageReport) -> bool {
        // What was counted here is a report that can be: the store named the tokens.
        let Ok(report) = Report::try_from(report) else {
            self.with(Usage::written);
            return true;
        };
        match self.0.store.count_usage(&report).await {
            Ok(_) => {
                self.with(Usage::written);
                true
            }
            Err(error) => {
                tracing::warn!(cause = chain(&error), "usage cannot be counted; it is tried again");
                self.with(Usage::failed);
                false
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Usage, Duration) -> T) -> T {
        let clock = self.0.store.sources().now();
        let mut counted: MutexGuard<'_, Counted> =
            self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = counted.passing.now(clock);
        act(&mut counted.usage, now)
    }
}
