//! Lengths of time as users write them: "30d", "90m".

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::Invalid;
use super::time::Timestamp;

/// The longest period, a hundred years of 365 days, in milliseconds.
const LONGEST_MS: u64 = 36_500 * 86_400_000;

/// A unit of periods. Days have 24 hours, weeks seven days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Only of periods that the service sets for itself: nobody can write it.
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
}

impl Unit {
    /// Those that can be written, the largest first.
    const WRITTEN: [Self; 5] = [Self::Week, Self::Day, Self::Hour, Self::Minute, Self::Second];

    const fn millis(self) -> u64 {
        match self {
            Self::Millisecond => 1,
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::Week => 604_800_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Millisecond => "ms",
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "d",
            Self::Week => "w",
        }
    }

    /// The largest unit up to days that divides a length.
    const fn of(millis: u64) -> Self {
        match millis {
            0 => Self::Second,
            ms if ms % Self::Day.millis() == 0 => Self::Day,
            ms if ms % Self::Hour.millis() == 0 => Self::Hour,
            ms if ms % Self::Minute.millis() == 0 => Self::Minute,
            ms if ms % Self::Second.millis() == 0 => Self::Second,
            _ => Self::Millisecond,
        }
    }
}

/// A length of time in whole milliseconds, from none to a hundred years, and the unit that it was written in. Periods of
/// one length are equal, whatever their units.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    millis: u64,
    unit: Unit,
}

impl Period {
    /// A period of so many milliseconds, cut at a hundred years, in the largest unit up to days that divides it.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        let millis = if millis < LONGEST_MS { millis } else { LONGEST_MS };
        Self { millis, unit: Unit::of(millis) }
    }

    /// A period of so many days.
    #[must_use]
    pub const fn from_days(days: u32) -> Self {
        Self::from_millis(days as u64 * 86_400_000)
    }

    /// The same period in this unit, if that is one and divides it.
    #[must_use]
    pub(crate) fn written_in(self, unit: &str) -> Self {
        let unit = Unit::WRITTEN.into_iter().find(|one| one.name() == unit);
        match unit.filter(|unit| self.millis.is_multiple_of(unit.millis())) {
            Some(unit) => Self { unit, ..self },
            None => self,
        }
    }

    /// The unit that it was written in.
    #[must_use]
    pub(crate) const fn unit(self) -> &'static str {
        self.unit.name()
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// Whether it has no length.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.millis == 0
    }

    /// `time` plus this period, or the end of time.
    #[must_use]
    pub fn after(self, time: Timestamp) -> Timestamp {
        time.saturating_add(self.into())
    }

    /// `time` minus this period, or the beginning of time.
    #[must_use]
    pub fn before(self, time: Timestamp) -> Timestamp {
        time.saturating_sub(self.into())
    }
}

impl PartialEq for Period {
    fn eq(&self, other: &Self) -> bool {
        self.millis == other.millis
    }
}

impl Eq for Period {}

impl PartialOrd for Period {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Period {
    fn cmp(&self, other: &Self) -> Ordering {
        self.millis.cmp(&other.millis)
    }
}

impl Hash for Period {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.millis.hash(state);
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Self::from_millis(period.millis)
    }
}

impl FromStr for Period {
    type Err = Invalid;

    /// Reads a whole number and one unit, with nothing before, between or after them.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let unit = Unit::WRITTEN.into_iter().find(|unit| text.ends_with(unit.name()));
        let (Some(unit), Some(count)) = (unit, unit.and_then(|unit| text.strip_suffix(unit.name()))) else {
            return Err(malformed());
        };
        let whole = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        if !whole || (count.starts_with('0') && count != "0") {
            return Err(malformed());
        }
        let millis = count.parse::<u64>().ok().and_then(|count| count.checked_mul(unit.millis()));
        match millis {
            Some(millis) if millis <= LONGEST_MS => Ok(Self { millis, unit }),
            _ => {
                let longest = Self::from_millis(LONGEST_MS);
                Err(Invalid(format!("must be at most \"{longest}\", and is longer")))
            }
        }
    }
}

fn malformed() -> Invalid {
    Invalid::because(
        "must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as \"30d\", \"12h\" or \"90m\"; \
         a year is \"365d\"",
    )
}

impl fmt::Display for Period {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.millis / self.unit.millis(), self.unit.name())
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
    fn periods_read_back_as_they_were_put() {
        for text in ["365d", "1h", "90m", "24h", "60s", "0s", "0w", "2w", "36500d", "5214w", "8766h", "1m"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string(), text);
            let stored = Period::from_millis(period.as_millis()).written_in(period.unit());
            assert_eq!(stored.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_whole_number_of_one_unit_is_refused_with_what_is_allowed() {
        for bad in [
            "",
            "30",
            "d",
            "-1d",
            "+1d",
            "30 d",
            " 30d",
            "30d ",
            "30 days ago",
            "1y",
            "1M",
            "1h30m",
            "1h 30m",
            "1.5h",
            "1D",
            "1us",
            "1ns",
            "1500ms",
            "2weeks",
            "1day",
            "030d",
            "00s",
            "٣d",
            "1e3s",
            "1_000s",
        ] {
            let refused = bad.parse::<Period>().map_err(|invalid| invalid.to_string());
            assert!(
                refused.as_ref().is_err_and(|text| text.contains("s, m (minutes), h, d or w")),
                "{bad:?}: {refused:?}"
            );
        }
        for long in ["36501d", "5215w", "99999999999999999999d"] {
            let refused = long.parse::<Period>().unwrap_err().to_string();
            assert_eq!(refused, "must be at most \"36500d\", and is longer");
        }
    }

    #[test]
    fn a_period_without_a_unit_is_written_in_the_largest_up_to_days_that_divides_it() {
        for (millis, text) in
            [(0, "0s"), (1500, "1500ms"), (60_000, "1m"), (86_400_000, "1d"), (1_209_600_000, "14d")]
        {
            let period = Period::from_millis(millis);
            assert_eq!(period.to_string(), text);
            assert_eq!(period.written_in("y").to_string(), text, "no unit");
        }
        assert_eq!(Period::from_days(1).written_in("w").to_string(), "1d", "no whole number of weeks");
    }

    #[test]
    fn periods_of_one_length_are_equal_whatever_their_units() {
        let period = |text: &str| text.parse::<Period>().unwrap();
        assert_eq!(period("24h"), period("1d"));
        assert!(period("1d") <= period("24h") && period("25h") > period("1d"));
    }

    #[test]
    fn the_ends_of_time_are_not_passed() {
        assert_eq!(Period::from_days(1).after(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(Period::from_days(1).before(Timestamp::MIN), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn every_whole_number_of_seconds_survives_its_text(seconds in 0..=LONGEST_MS / 1000) {
            let period = Period::from_millis(seconds * 1000);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
