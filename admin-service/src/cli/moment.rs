//! Times on the command line: as they are, or how far from now.

use std::str::FromStr;

use crate::domain::time::Timestamp;

use crate::domain::Invalid;
use crate::domain::period::Period;

/// A time, or a length of time from now on or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Away(Period),
}

impl FromStr for Moment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        text.parse().map(Self::Away).map_err(|_| {
            Invalid::because(
                "must be a time such as 2030-12-31T00:00:00Z (RFC 3339), or a length of time such as 7d",
            )
        })
    }
}

impl Moment {
    /// The time that is meant, a length of time counted from `now` on.
    pub(super) fn ahead(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Away(period) => period.after(now),
        }
    }

    /// The time that is meant, a length of time counted back from `now`.
    pub(super) fn ago(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Away(period) => period.before(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_far_from_now() {
        let now: Timestamp = "2026-01-08T00:00:00Z".parse().unwrap();
        let meant = |text: &str| {
            let moment: Moment = text.parse().unwrap();
            [moment.ahead(now), moment.ago(now)].map(|time| time.to_string())
        };
        assert_eq!(meant("7d"), ["2026-01-15T00:00:00Z", "2026-01-01T00:00:00Z"]);
        assert_eq!(meant("2026-02-01T01:00:00+01:00"), ["2026-02-01T00:00:00Z"; 2]);
        for bad in ["", "tomorrow", "2026-02-01", "7"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }
}
