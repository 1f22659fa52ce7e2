//! Time, randomness, and the identifiers made from both. They are passed in, so that a test decides what they are;
//! nothing else in the service asks the system for them.

mod service_time;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::time::Timestamp;
use service_time::ServiceTime;
pub use service_time::{Hold, SKEW, STEADY, apart, is_jump};

/// Tells the time, in whole milliseconds.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now, by a clock that can be set.
    fn now(&self) -> Timestamp;

    /// The time since the machine was started, by a clock that nobody can set and that goes on while the machine is suspended.
    fn steady(&self) -> Duration;

    /// Names what [`Clock::steady`] counts from; `None`: that cannot be told.
    fn boot(&self) -> Option<String> {
        None
    }

    /// Whether the service goes by its database's clock in place of this one, where the database has one.
    fn yields_to_database(&self) -> bool {
        false
    }
}

/// The clock that counts the time while the machine is suspended, too.
#[cfg(target_os = "linux")]
const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now(&self) -> Timestamp {
        jiff::Timestamp::now().into()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn steady(&self) -> Duration {
        rustix::time::clock_gettime(SINCE_BOOT).try_into().unwrap_or_default()
    }

    fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    fn yields_to_database(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is set: for tests.
#[derive(Debug)]
pub struct ManualClock {
    steady: AtomicI64,
    /// The time less the steady clock's.
    above_steady: AtomicI64,
}

/// How long a [`ManualClock`] has been steady when it is made, in milliseconds.
const MANUAL_BEGINNING: i64 = 1_000_000;

impl ManualClock {
    /// A clock that says `time`.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        let above = time.as_millisecond() - MANUAL_BEGINNING;
        Self { steady: AtomicI64::new(MANUAL_BEGINNING), above_steady: AtomicI64::new(above) }
    }

    /// Lets the time pass until `time`; one that is past sets the clock back, as an operator would.
    pub fn set(&self, time: Timestamp) {
        let by = time.as_millisecond() - self.now().as_millisecond();
        let moved = if by < 0 { &self.above_steady } else { &self.steady };
        moved.fetch_add(by, Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.steady.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock forward or back by so many milliseconds, while no time passes.
    pub fn jump(&self, millis: i64) {
        self.above_steady.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let steady = self.steady.load(Ordering::SeqCst);
        let now = steady.saturating_add(self.above_steady.load(Ordering::SeqCst));
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.steady.load(Ordering::SeqCst)).unwrap_or(0))
    }

    fn boot(&self) -> Option<String> {
        Some("manual".to_owned())
    }
}

/// Time that never goes back, however the clock is set: for measuring how long ago something was.
#[derive(Debug)]
pub struct Passing {
    last: Timestamp,
    passed: Duration,
}

impl Passing {
    /// None has passed since `now`.
    #[must_use]
    pub fn since(now: Timestamp) -> Self {
        Self { last: now, passed: Duration::ZERO }
    }

    /// How much has passed, now that the clock says `clock`.
    pub fn now(&mut self, clock: Timestamp) -> Duration {
        let since = clock.as_millisecond() - self.last.as_millisecond();
        self.passed += Duration::from_millis(u64::try_from(since).unwrap_or(0));
        self.last = clock;
        self.passed
    }
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

/// Gives unpredictable bytes.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// [`NoEntropy`] when the source cannot; the buffer must not be used then.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(buffer).map_err(|_| NoEntropy)
    }
}

/// Where the service's time and randomness come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sources {
    clock: Arc<dyn Clock>,
    time: Arc<ServiceTime>,
    entropy: Arc<dyn Entropy>,
    last: Arc<Mutex<LastId>>,
}

/// How many identifiers were made in the last millisecond that had any.
#[derive(Debug, Default)]
struct LastId {
    millis: i64,
    count: u16,
}

impl Sources {
    /// The operating system's clock and generator.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(OsEntropy))
    }

    /// A given clock and generator.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let time = Arc::new(ServiceTime::of(&*clock));
        Self { clock, time, entropy, last: Arc::default() }
    }

    /// Fills the buffer with random bytes.
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator cannot.
    pub fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.entropy.fill(buffer)
    }

    /// A new identifier: a UUID of version 7 (RFC 9562), so that identifiers sort by the time they were made. Those of one
    /// millisecond sort in the order in which this process made them, by a counter (method 1 of section 6.2).
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator cannot.
    pub fn new_id(&self, now: Timestamp) -> Result<Uuid, NoEntropy> {
        let mut random = [0; 10];
        self.fill(&mut random)?;
        let [high, low] = self.count(now).to_be_bytes();
        random[0] = high;
        random[1] = low;
        Ok(id_at(now, random))
    }

    /// How many identifiers were made in this millisecond before. It starts over after 4096, as the counter has 12 bits.
    fn count(&self, now: Timestamp) -> u16 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = now.as_millisecond();
        let count = if last.millis == millis { (last.count + 1) % 4096 } else { 0 };
        *last = LastId { millis, count };
        count
    }
}

/// The UUID of version 7 of a time and 74 of the given bits: the last 12 of the first two bytes sort first.
#[must_use]
pub fn id_at(time: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(clock.now(), clock.now());
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:01.5Z");
    }

    #[test]
    fn time_passes_when_the_clock_goes_on_and_stands_still_when_it_is_set_back() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut passing = Passing::since(at("2026-01-01T00:00:10Z"));
        for (clock, passed) in [
            ("2026-01-01T00:00:11Z", 1),
            ("2025-01-01T00:00:00Z", 1),
            ("2025-01-01T00:00:02Z", 3),
            ("2025-01-01T00:00:02Z", 3),
        ] {
            assert_eq!(passing.now(at(clock)), Duration::from_secs(passed), "{clock}");
        }
    }

    #[test]
    fn identifiers_are_version_7_and_sort_by_time() {
        let sources = Sources::system();
        let early = sources.new_id("2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let late = sources.new_id("2026-01-01T00:00:00.001Z".parse().unwrap()).unwrap();
        assert_eq!(early.get_version_num(), 7);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn identifiers_of_one_millisecond_sort_in_the_order_of_their_making() {
        let sources = Sources::system();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let made: Vec<Uuid> = (0..4096).map(|_| sources.clone().new_id(now).unwrap()).collect();
        assert!(made.is_sorted() && made.iter().all(|id| id.get_version_num() == 7));
        assert!(
            !made.contains(&sources.new_id(now).unwrap()),
            "the counter starts over, and the rest differs"
        );
    }
}
