//! Times: whole milliseconds, in UTC, of the years that RFC 3339 can write (0000 to 9999).

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::Invalid;

/// What a time must be.
const EXAMPLE: &str = "must be a time such as 2030-12-31T00:00:00Z (RFC 3339)";
/// The Unix epoch without its offset.
const EPOCH: DateTime = civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// A point in time, in whole milliseconds since the Unix epoch: from the year 0000 to [`Timestamp::MAX`]. The time type of
/// the library below ends 26 hours earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00Z, the earliest time.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59Z, the latest time.
    pub const MAX: Self = Self(253_402_300_799_000);
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// The time so many milliseconds after the Unix epoch.
    ///
    /// # Errors
    /// [`Invalid`] beyond [`Timestamp::MIN`] and [`Timestamp::MAX`].
    pub fn from_millisecond(millis: i64) -> Result<Self, Invalid> {
        Self::of(i128::from(millis))
    }

    fn of(millis: i128) -> Result<Self, Invalid> {
        let time = i64::try_from(millis).map(Self).map_err(|_| out_of_range())?;
        if (Self::MIN..=Self::MAX).contains(&time) { Ok(time) } else { Err(out_of_range()) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millisecond(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn as_second(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time plus `length`, or the latest time.
    #[must_use]
    pub fn saturating_add(self, length: Duration) -> Self {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis)).min(Self::MAX)
    }

    /// This time minus `length`, or the earliest time.
    #[must_use]
    pub fn saturating_sub(self, length: Duration) -> Self {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis)).max(Self::MIN)
    }

    /// How long it is from `earlier` to this time.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> SignedDuration {
        SignedDuration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Date and time of day in UTC.
    #[must_use]
    pub fn civil(self) -> DateTime {
        EPOCH.checked_add(SignedDuration::from_millis(self.0)).unwrap_or(DateTime::MAX)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        self.saturating_add(length)
    }
}

/// What is said of a time that no [`Timestamp`] can be.
fn out_of_range() -> Invalid {
    Invalid(format!("is out of range: times are {} to {}", Timestamp::MIN, Timestamp::MAX))
}

impl From<jiff::Timestamp> for Timestamp {
    /// Without what is finer than a millisecond.
    fn from(time: jiff::Timestamp) -> Self {
        Self(time.as_millisecond()).clamp(Self::MIN, Self::MAX)
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;

    /// Reads RFC 3339: a date, a time of day and an offset. What is finer than a millisecond is left out.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if year_has_five_digits(text) {
            return Err(out_of_range());
        }
        let malformed = || Invalid::because(EXAMPLE);
        let pieces = Pieces::parse(text).map_err(|_| malformed())?;
        let offset = match pieces.offset() {
            Some(PiecesOffset::Zulu) => Offset::UTC,
            Some(PiecesOffset::Numeric(offset)) => offset.offset(),
            _ => return Err(malformed()),
        };
        let (Some(time), None) = (pieces.time(), pieces.time_zone_annotation()) else {
            return Err(malformed());
        };
        let local = pieces.date().to_datetime(time).duration_since(EPOCH);
        Self::of(local.as_millis() - i128::from(offset.seconds()) * 1000)
    }
}

/// Whether a text begins as a date of a year after 9999 does, as 10000-01-01.
fn year_has_five_digits(text: &str) -> bool {
    let year = text.strip_prefix('+').unwrap_or(text).split('-').next().unwrap_or_default();
    (5..=12).contains(&year.len()) && year.len() < text.len() && year.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.civil())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
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
    fn times_are_read_as_rfc_3339_writes_them() {
        for (text, read) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.001999Z", "2026-01-01T00:00:00.001Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59+01:00", "9999-12-31T22:59:59Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), read);
        }
    }

    #[test]
    fn what_is_beyond_the_range_is_told_apart_from_what_is_no_time() {
        for late in ["9999-12-31T23:59:59.001Z", "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z"] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(late.parse::<Timestamp>().unwrap_err(), @"is out of range: times are 0000-01-01T00:00:00Z to 9999-12-31T23:59:59Z");
            }
        }
        for bad in [
            "",
            "2026",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-02-30T00:00:00Z",
            "2026-01-01T00:00:00Z[UTC]",
            "tomorrow",
            "9999-12-31T24:00:00Z",
            "99999",
        ] {
            let refused = bad.parse::<Timestamp>().unwrap_err().to_string();
            assert_eq!(refused, EXAMPLE, "{bad}");
        }
    }

    #[test]
    fn the_ends_of_time_are_what_their_texts_say() {
        assert_eq!(Timestamp::MAX.to_string().parse(), Ok(Timestamp::MAX));
        assert_eq!(Timestamp::MIN.to_string().parse(), Ok(Timestamp::MIN));
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn every_time_survives_its_text(millis in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let time = Timestamp(millis);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
