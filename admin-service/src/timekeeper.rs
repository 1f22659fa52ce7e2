//! The task that watches the clock: twice a second it has the store look, and tells operators when this machine's clock and the
//! database's are apart.

use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::{Hold, SKEW, apart};
use crate::error::chain;
use crate::lifecycle::Shutdown;
use crate::store::Store;
use crate::telemetry::{CLOCK_AHEAD, SCHEDULER_PAUSED};

/// How often to look: a jump is to reach every edge within a second.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is said that the clocks are apart.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// See the module's text.
#[derive(Debug)]
pub struct Timekeeper {
    store: Store,
    /// Whether it was looked at what the database tells of the time before this process.
    begun: bool,
    /// When it was last said that the clocks are apart, by the steady clock; `None`: they are not.
    told: Option<Duration>,
}

impl Timekeeper {
    /// Looks for the first time, before anybody is answered by the clock. Where the database cannot be asked, nothing is deleted by
    /// the clock, and the task looks again.
    pub async fn begin(store: Store) -> Self {
        let mut timekeeper = Self { store, begun: false, told: None };
        if !timekeeper.look().await {
            timekeeper.store.sources().doubt_clock();
        }
        timekeeper
    }

    /// Looks again and again until the service ends.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        while !shutdown.requested_within(LOOK).await {
            self.look().await;
        }
    }

    /// Looks once, and tells whether that could be done.
    async fn look(&mut self) -> bool {
        let looked = async {
            if !self.begun {
                self.store.check_clock_at_start().await?;
                self.begun = true;
            }
            self.store.look_at_clock().await
        };
        let looked = looked.await.inspect_err(|error| {
            // The change feed tells of a database that fails.
            tracing::debug!(cause = chain(error), "the clock cannot be looked at; retrying");
        });
        metrics::gauge!(SCHEDULER_PAUSED).set(f64::from(u8::from(self.store.clock_hold().is_some())));
        self.tell();
        looked.is_ok()
    }

    /// Says that the clocks are apart, and that they are no longer.
    fn tell(&mut self) {
        let sources = self.store.sources();
        let ahead = sources.ahead_of_database();
        metrics::gauge!(CLOCK_AHEAD).set(ahead.as_secs_f64());
        let now = sources.steady();
        if ahead.abs() > SKEW {
            if self.told.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY) {
                self.told = Some(now);
                tracing::warn!(ahead_seconds = ahead.as_secs_f64(), "{}", Hold::Apart(ahead));
            }
        } else if self.told.take().is_some() {
            tracing::info!("this machine's clock agrees with the database's again");
        }
    }
}

/// What `/readyz` says of the clock; `None`: nothing.
#[must_use]
pub fn readiness(store: &Store) -> Option<String> {
    let ahead: SignedDuration = store.sources().ahead_of_database();
    (ahead.abs() > SKEW).then(|| {
        format!(
            "is {} the database's: this replica goes by that one, and deletes nothing by time until the clock is set right",
            apart(ahead)
        )
    })
}
