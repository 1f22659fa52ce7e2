//! The time that the whole service goes by: the machine's, or that of the database which all replicas share. And whether it
//! is sure enough to delete by.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;

use super::{Clock, Sources};
use crate::domain::time::Timestamp;

/// By how much the time may move at once without being a jump.
const JUMP_MS: i64 = 1_000;
/// How far the machine's clock may be from the database's.
pub const SKEW: SignedDuration = SignedDuration::from_secs(2);
/// For how long a clock that has jumped must have been steady before anything is deleted by it.
pub const STEADY: Duration = Duration::from_secs(3_600);
/// "None", where milliseconds are kept.
const NONE: i64 = i64::MIN;
/// How often the two clocks are read, at most, for a pair of one moment.
const READINGS: usize = 4;
/// How far apart two readings of the steady clock may be to be of one moment, in milliseconds.
const MOMENT_MS: i64 = 5;

/// What all clones of [`Sources`] share: milliseconds.
#[derive(Debug)]
pub(super) struct ServiceTime {
    /// The database's time less the steady clock's; [`NONE`]: the service goes by the machine's clock.
    database: AtomicI64,
    /// The machine's time less the steady clock's, when that was last accepted.
    accepted: AtomicI64,
    /// When the time was last doubted, by the steady clock.
    doubted: AtomicI64,
    /// How far the machine's clock is ahead of the database's.
    ahead: AtomicI64,
}

/// Why nothing may be deleted by the clock for now. Displays as a sentence without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The time has jumped, or may have while nobody looked.
    Doubted,
    /// This machine's clock is so far ahead of the database's.
    Apart(SignedDuration),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubted => f.write_str(
                "the clock may be wrong; nothing is deleted by it until it was steady for an hour",
            ),
            Self::Apart(ahead) => write!(
                f,
                "this machine's clock is {} the database's; nothing is deleted from here until it is set right",
                apart(*ahead)
            ),
        }
    }
}

/// Says how far one clock is ahead of another: `300 s ahead of`.
#[must_use]
pub fn apart(ahead: SignedDuration) -> String {
    let way = if ahead.is_negative() { "behind" } else { "ahead of" };
    format!("{} s {way}", (ahead.abs().as_millis() + 500) / 1_000)
}

impl ServiceTime {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self {
            database: AtomicI64::new(NONE),
            accepted: AtomicI64::new(above_steady(clock)),
            doubted: AtomicI64::new(NONE),
            ahead: AtomicI64::new(0),
        }
    }
}

/// The machine's time less the steady clock's. Both are read within a moment, if the machine lets them be.
fn above_steady(clock: &dyn Clock) -> i64 {
    let reading = |_| {
        let before = millis(clock.steady());
        let now = clock.now().as_millisecond();
        let width = millis(clock.steady()) - before;
        (width, now - before - width / 2)
    };
    let mut best = (i64::MAX, 0);
    for one in (0..READINGS).map(reading) {
        best = best.min(one);
        if best.0 <= MOMENT_MS {
            break;
        }
    }
    best.1
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Sources {
    /// The time now that the service goes by, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.time.database.load(Ordering::SeqCst) {
            NONE => self.clock.now(),
            above => {
                let now = above.saturating_add(millis(self.clock.steady()));
                Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// The time of a clock that nobody can set, for measuring how long something takes.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.clock.steady()
    }

    /// Names what [`Sources::steady`] counts from, with the machine's time less the steady clock's in milliseconds, which changes only
    /// where the clock is set; `None` where the service goes by another clock than the machine's.
    #[must_use]
    pub fn boot(&self) -> Option<(String, i64)> {
        let boot = self.clock.boot().filter(|_| !self.follows_database());
        boot.map(|boot| (boot, above_steady(&*self.clock)))
    }

    /// Whether the service goes by the database's clock where that has one.
    #[must_use]
    pub fn yields_to_database(&self) -> bool {
        self.clock.yields_to_database()
    }

    /// Whether it does so.
    #[must_use]
    pub fn follows_database(&self) -> bool {
        self.time.database.load(Ordering::SeqCst) != NONE
    }

    /// The time by this machine's own clock.
    #[must_use]
    pub fn machine_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// By how many milliseconds the database's clock has moved on its own, if it is so far above the steady one now.
    #[must_use]
    pub fn database_moved(&self, above_steady: i64) -> i64 {
        match self.time.database.load(Ordering::SeqCst) {
            NONE => 0,
            before => above_steady.saturating_sub(before),
        }
    }

    /// Goes by the database's clock from now on, which is so many milliseconds above the steady one.
    pub fn follow_database(&self, above_steady: i64) {
        self.time.database.store(above_steady, Ordering::SeqCst);
        let ahead = self.clock.now().duration_since(self.now());
        self.time.ahead.store(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// How far this machine's clock was ahead of the database's when they were last compared; none where only one is there.
    #[must_use]
    pub fn ahead_of_database(&self) -> SignedDuration {
        SignedDuration::from_millis(self.time.ahead.load(Ordering::SeqCst))
    }

    /// By how much the machine's clock was set since it was last accepted, where that is more than a second and the service
    /// goes by it.
    #[must_use]
    pub fn jump(&self) -> Option<SignedDuration> {
        if self.follows_database() {
            return None;
        }
        is_jump(above_steady(&*self.clock) - self.time.accepted.load(Ordering::SeqCst), 0)
    }

    /// Accepts the machine's clock as it is set now.
    pub fn accept_clock(&self) {
        self.time.accepted.store(above_steady(&*self.clock), Ordering::SeqCst);
    }

    /// Has nothing deleted by the clock until it was steady for [`STEADY`] from now on.
    pub fn doubt_clock(&self) {
        self.time.doubted.store(millis(self.clock.steady()), Ordering::SeqCst);
    }

    /// Why nothing may be deleted by the clock now, as far as this process knows; `None`: it may.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        let doubted = self.time.doubted.load(Ordering::SeqCst);
        let steady_for = millis(self.clock.steady()).saturating_sub(doubted);
        let ahead = self.ahead_of_database();
        if (doubted != NONE && steady_for < millis(STEADY)) || self.jump().is_some() {
            Some(Hold::Doubted)
        } else if ahead.abs() > SKEW {
            Some(Hold::Apart(ahead))
        } else {
            None
        }
    }
}

/// A movement of the time as a jump, if it is one; `uncertain`: by how many milliseconds it may be mistaken.
#[must_use]
pub fn is_jump(moved: i64, uncertain: i64) -> Option<SignedDuration> {
    (moved.saturating_abs() > JUMP_MS.saturating_add(uncertain)).then(|| SignedDuration::from_millis(moved))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, OsEntropy};

    fn sources() -> (Arc<ManualClock>, Sources) {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        (clock.clone(), Sources::new(clock, Arc::new(OsEntropy)))
    }

    #[test]
    fn time_that_passes_is_no_jump_and_a_clock_that_is_set_by_more_than_a_second_is() {
        let (clock, sources) = sources();
        clock.advance(Duration::from_secs(70 * 86_400));
        assert_eq!((sources.jump(), sources.hold()), (None, None));
        for (millis, jump) in [(1_000, None), (1, Some(1_001)), (-2_002, Some(-1_001)), (1_001, None)] {
            clock.jump(millis);
            assert_eq!(sources.jump(), jump.map(SignedDuration::from_millis), "{millis}");
            assert_eq!(sources.hold(), jump.map(|_| Hold::Doubted));
        }
    }

    #[test]
    fn small_steps_add_up_to_a_jump() {
        let (clock, sources) = sources();
        clock.jump(600);
        assert_eq!(sources.jump(), None);
        clock.jump(600);
        assert_eq!(sources.jump(), Some(SignedDuration::from_millis(1_200)));
        sources.accept_clock();
        assert_eq!(sources.jump(), None);
    }

    #[test]
    fn a_clock_that_was_doubted_is_sure_again_when_it_was_steady_for_an_hour() {
        let (clock, sources) = sources();
        sources.doubt_clock();
        clock.advance(STEADY - Duration::from_millis(1));
        assert_eq!(sources.hold(), Some(Hold::Doubted));
        clock.advance(Duration::from_millis(1));
        assert_eq!(sources.hold(), None);
    }

    #[test]
    fn the_databases_time_goes_on_whatever_happens_to_the_machines_clock() {
        let (clock, sources) = sources();
        let steady = millis(clock.steady());
        let theirs: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        sources.follow_database(theirs.as_millisecond() - steady);
        assert_eq!(sources.ahead_of_database(), SignedDuration::from_mins(-5));
        assert_eq!(sources.hold(), Some(Hold::Apart(SignedDuration::from_mins(-5))));
        clock.jump(86_400_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(sources.now().to_string(), "2026-01-01T00:05:01Z");
        assert_eq!((sources.jump(), sources.boot()), (None, None));
    }

    #[test]
    fn a_hold_says_what_it_is() {
        let hold = |secs| Hold::Apart(SignedDuration::from_secs(secs)).to_string();
        assert!(
            hold(300).starts_with("this machine's clock is 300 s ahead of the database's;"),
            "{}",
            hold(300)
        );
        assert!(hold(-3).starts_with("this machine's clock is 3 s behind the database's;"), "{}", hold(-3));
    }

    #[test]
    fn the_machines_steady_clock_goes_on_and_its_boot_has_a_name() {
        let sources = Sources::system();
        let before = sources.steady();
        assert!(!before.is_zero() && sources.steady() >= before);
        assert!(sources.boot().is_some_and(|(boot, _)| boot.len() == 36), "{:?}", sources.boot());
    }
}
