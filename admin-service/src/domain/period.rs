//! Lengths of time as users write them: "30d", "90m".

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::Invalid;

/// The longest period, a hundred years of 365 days, in milliseconds.
const LONGEST_MS: u64 = 36_500 * 86_400_000;

/// A length of time in whole milliseconds, from none to a hundred years. Days have 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

impl Period {
    /// A period of so many milliseconds, cut at a hundred years.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis < LONGEST_MS { millis } else { LONGEST_MS })
    }

    /// A period of so many days.
    #[must_use]
    pub const fn from_days(days: u32) -> Self {
        Self::from_millis(days as u64 * 86_400_000)
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whether it has no length.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `time` plus this period, or the end of time.
    #[must_use]
    pub fn after(self, time: Timestamp) -> Timestamp {
        time.checked_add(Duration::from(self)).unwrap_or(Timestamp::MAX)
    }

    /// `time` minus this period, or the beginning of time.
    #[must_use]
    pub fn before(self, time: Timestamp) -> Timestamp {
        time.checked_sub(Duration::from(self)).unwrap_or(Timestamp::MIN)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Self::from_millis(period.0)
    }
}

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::because("must be a length of time such as \"30d\", \"12h\" or \"90m\"");
        let duration = humantime::parse_duration(text).map_err(|_| invalid())?;
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(Invalid::because("must be whole milliseconds"));
        }
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if millis > LONGEST_MS {
            let most = Self(LONGEST_MS);
            return Err(Invalid(format!(
                "must be at most \"{most}\", and is \"{}d\"",
                duration.as_secs() / 86_400
            )));
        }
        Ok(Self(millis))
    }
}

impl fmt::Display for Period {
    /// In the largest unit that divides it evenly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match UNITS.iter().find(|(size, _)| self.0 != 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None if self.0 == 0 => f.write_str("0s"),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_print_in_the_largest_unit_that_divides_them() {
        for (text, printed) in [
            ("365d", "365d"),
            ("1h", "1h"),
            ("90m", "90m"),
            ("24h", "1d"),
            ("1h 30m", "90m"),
            ("1500ms", "1500ms"),
            ("60s", "1m"),
            ("0s", "0s"),
            ("2weeks", "14d"),
            ("1.5h", "90m"),
            ("36500d", "36500d"),
        ] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for bad in ["", "30", "d", "-1d", "30 days ago", "36501d", "99999999999999999999d", "1us", "1ns"] {
            assert!(bad.parse::<Period>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_ends_of_time_are_not_passed() {
        assert_eq!(Period::from_days(1).after(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(Period::from_days(1).before(Timestamp::MIN), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn every_period_survives_its_text(millis in 0..=LONGEST_MS) {
            let period = Period::from_millis(millis);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
