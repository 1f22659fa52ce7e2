//! Why the time may be wrong: what was seen of the clock, and what the database tells of it at the start.

use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::{STEADY, is_jump};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Epoch;

/// Why the time is not believed to delete by. Displays as a sentence without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    /// It moved by so much at once.
    #[error("the clock jumped {}", jumped(*.0))]
    Jumped(SignedDuration),
    /// The machine's clock was set by so much while no service ran.
    #[error("the clock was set while the service did not run, and jumped {}", jumped(*.0))]
    Set(SignedDuration),
    /// Something was recorded at a time that is still to come.
    #[error(
        "the newest record is of {0}, which is still to come: the clock was ahead then, or is behind now"
    )]
    Ahead(Timestamp),
    /// Nothing was recorded for longer than the jobs rest.
    #[error("nothing was recorded since {0}: no service ran, or the clock is wrong")]
    Gap(Timestamp),
}

fn jumped(by: SignedDuration) -> String {
    let way = if by.is_negative() { "back" } else { "forward" };
    format!("{} s {way}", (by.abs().as_millis() + 500) / 1_000)
}

impl Doubt {
    /// Whether verdicts may have been given by a wrong time.
    pub(super) fn is_of_verdicts(self) -> bool {
        !matches!(self, Self::Gap(_))
    }
}

/// What the database tells of the clock before this process began.
pub(super) struct AtStart {
    pub epoch: Epoch,
    pub boot: Option<(String, i64)>,
    pub newest: Option<Timestamp>,
    /// When the clock was last doubted.
    pub doubted_at: Option<Timestamp>,
    pub known_ahead: Timestamp,
    pub every: Duration,
}

/// How often something is recorded at least while a service runs, beside the scheduler's runs, and what that may be late.
const RECORDED_EVERY: Duration = Duration::from_secs(660);
/// How far a record may be ahead of the time without a doubt.
const SLACK: Duration = Duration::from_secs(1);

impl AtStart {
    pub(super) fn doubt(&self, now: Timestamp, boot: Option<&(String, i64)>) -> Option<Doubt> {
        let set = self.boot.as_ref().zip(boot).filter(|((before, _), (boot, _))| before == boot);
        if let Some(by) = set.and_then(|((_, before), (_, above))| is_jump(above - before, 0)) {
            return Some(Doubt::Set(by));
        }
        let newest = self.newest?;
        if newest > now.saturating_add(SLACK) {
            return (newest > self.known_ahead).then_some(Doubt::Ahead(newest));
        }
        let expected = newest.saturating_add(self.every).saturating_add(RECORDED_EVERY);
        // While deletions are paused, the jobs record nothing.
        let paused = self.doubted_at.is_some_and(|doubted| now < doubted.saturating_add(STEADY));
        (now > expected && !paused).then_some(Doubt::Gap(newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn found(newest: &str) -> AtStart {
        AtStart {
            epoch: Epoch("e".to_owned()),
            boot: Some(("this boot".to_owned(), 1_000_000)),
            newest: Some(at(newest)),
            doubted_at: None,
            known_ahead: Timestamp::UNIX_EPOCH,
            every: Duration::from_secs(3_600),
        }
    }

    fn boot(name: &str, above: i64) -> (String, i64) {
        (name.to_owned(), above)
    }

    #[test]
    fn a_start_soon_after_the_last_record_leaves_no_doubt() {
        let now = at("2026-01-01T12:00:00Z");
        for newest in ["2026-01-01T11:00:00Z", "2026-01-01T12:00:01Z"] {
            assert_eq!(found(newest).doubt(now, Some(&boot("this boot", 1_001_000))), None, "{newest}");
            assert_eq!(found(newest).doubt(now, None), None, "{newest}");
        }
        assert_eq!(
            AtStart { newest: None, ..found("2026-01-01T12:00:00Z") }.doubt(now, None),
            None,
            "nothing yet"
        );
    }

    #[test]
    fn a_clock_that_was_set_between_two_runs_is_known_by_the_time_since_the_machine_started() {
        let (now, found) = (at("2026-01-01T12:00:00Z"), found("2026-01-01T12:00:00Z"));
        let by = SignedDuration::from_millis(-1_001);
        assert_eq!(found.doubt(now, Some(&boot("this boot", 998_999))), Some(Doubt::Set(by)));
        assert_eq!(found.doubt(now, Some(&boot("another boot", 998_999))), None);
    }

    #[test]
    fn a_record_that_is_still_to_come_is_doubted_once() {
        let (now, newest) = (at("2026-01-01T12:00:00Z"), at("2026-01-01T12:00:01.001Z"));
        let found = found("2026-01-01T12:00:01.001Z");
        assert_eq!(found.doubt(now, None), Some(Doubt::Ahead(newest)));
        assert_eq!(AtStart { known_ahead: newest, ..found }.doubt(now, None), None);
    }

    #[test]
    fn a_long_silence_is_doubted_and_a_short_one_is_not() {
        let found = found("2026-01-01T12:00:00Z");
        assert_eq!(found.doubt(at("2026-01-01T13:11:00Z"), None), None);
        let doubt = found.doubt(at("2026-01-01T13:11:00.001Z"), None);
        assert_eq!(doubt, Some(Doubt::Gap(at("2026-01-01T12:00:00Z"))));
    }

    #[test]
    fn a_silence_while_deletions_are_paused_does_not_prolong_the_pause() {
        let doubted_at = at("2026-01-01T12:00:00Z");
        let paused = AtStart {
            doubted_at: Some(doubted_at),
            every: Duration::from_secs(60),
            ..found("2026-01-01T12:00:00Z")
        };
        assert_eq!(paused.doubt(at("2026-01-01T12:59:59Z"), None), None);
        assert_eq!(paused.doubt(at("2026-01-01T13:00:00Z"), None), Some(Doubt::Gap(doubted_at)));
    }
}
