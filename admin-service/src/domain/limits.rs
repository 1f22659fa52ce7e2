//! The limits that hold for one user, and what they say to one request.

use std::fmt;

use crate::domain::time::Timestamp;

use super::period::Period;
use super::token::Expiry;

/// Who set a limit, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// It is the service's, for everyone.
    Service,
    /// It is the user's own.
    User,
}

impl Whose {
    /// The limit, as a sentence names it.
    #[must_use]
    pub const fn the_limit(self) -> &'static str {
        match self {
            Self::Service => "the limit",
            Self::User => "the user's own limit",
        }
    }
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The most that is allowed; `None`: no limit.
    pub most: Option<T>,
    /// Where it comes from.
    pub whose: Whose,
}

/// The limits that hold for one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest time from a token's making to its expiry.
    pub lifetime: Limit<Period>,
    /// The most live tokens; 0: the user makes none.
    pub tokens: Limit<u32>,
    /// When the token ends that asks, where what it makes may not outlive it; `None`: it may.
    pub maker_ends_at: Option<Timestamp>,
}

/// Why a token cannot have the expiry that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryRefusal {
    /// It is further off than the limit allows.
    #[error("{0}")]
    TooLong(TooLong),
    /// It is later than that of the token that asks for it.
    #[error("{}", outlives_maker(*.latest, .asked))]
    OutlivesMaker {
        /// The end of the token that asks.
        latest: Timestamp,
        /// What was asked for.
        asked: Expiry,
    },
    /// The token was rotated, and its end is set.
    #[error("a token that was rotated can end sooner, and no later than at {end}; {} was asked for", in_words(.asked))]
    Rotated {
        /// The end that is set.
        end: Timestamp,
        /// What was asked for.
        asked: Expiry,
    },
    /// It is not in the future.
    #[error("a token must expire in the future: it is {now}, and {} was asked for", in_words(.asked))]
    NotInFuture {
        /// The time now.
        now: Timestamp,
        /// What was asked for.
        asked: Expiry,
    },
}

/// An expiry beyond the longest lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The longest lifetime.
    pub longest: Period,
    /// Whose limit that is.
    pub whose: Whose,
    /// When the token would end after it.
    pub latest: Timestamp,
    /// What was asked for.
    pub asked: Expiry,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { longest, whose, latest, asked } = self;
        let own = if *whose == Whose::User { ", which is the user's own limit" } else { "" };
        let asked = in_words(asked);
        write!(f, "a token may live for at most {longest}{own}: until {latest}; {asked} was asked for")
    }
}

/// What to do about an expiry that is later than that of the token that asks for it.
fn outlives_maker(latest: Timestamp, asked: &Expiry) -> String {
    let asked = in_words(asked);
    format!(
        "a token cannot give an expiry later than its own, which is {latest}; {asked} was asked for. \
         Use a token that expires later, or have an administrator set `outlive_maker`"
    )
}

/// An expiry as it was asked for.
fn in_words(asked: &Expiry) -> String {
    asked.value().unwrap_or_else(|| "the latest that is allowed".to_owned())
}

impl Expiry {
    /// A period or a time, as it is written; `None`: neither was asked for.
    #[must_use]
    pub fn value(&self) -> Option<String> {
        match self {
            Self::Latest => None,
            Self::In(period) => Some(period.to_string()),
            Self::At(time) => Some(time.to_string()),
        }
    }
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self {
        lifetime: Limit { most: None, whose: Whose::Service },
        tokens: Limit { most: None, whose: Whose::Service },
        maker_ends_at: None,
    };

    /// The same for a change of a token that expires at `end`, which may stay so however soon the asking token ends.
    #[must_use]
    pub fn for_change_of(&self, end: Option<Timestamp>) -> Self {
        let maker_ends_at = self.maker_ends_at.and_then(|maker| end.map(|end| end.max(maker)));
        Self { maker_ends_at, ..*self }
    }

    /// When a token that is made `now` expires; `None`: never.
    ///
    /// # Errors
    /// [`ExpiryRefusal`] when what was asked for is past, or too far off.
    pub fn expiry(&self, now: Timestamp, asked: Expiry) -> Result<Option<Timestamp>, ExpiryRefusal> {
        self.expiry_of(now, now, asked)
    }

    /// When a token that was made at `made` expires, if that is asked for `now`; `None`: never.
    ///
    /// # Errors
    /// [`ExpiryRefusal`] when what was asked for is past, or too far off.
    pub fn expiry_of(
        &self,
        made: Timestamp,
        now: Timestamp,
        asked: Expiry,
    ) -> Result<Option<Timestamp>, ExpiryRefusal> {
        let latest = self.latest(made, asked);
        let wanted = match (asked, latest) {
            (Expiry::Latest, None) => return Ok(None),
            (Expiry::Latest, Some((latest, refusal))) if latest <= now => return Err(refusal),
            (Expiry::Latest, Some((latest, _))) => latest,
            (Expiry::In(period), _) => period.after(now),
            (Expiry::At(time), _) => time,
        };
        if wanted <= now {
            return Err(ExpiryRefusal::NotInFuture { now, asked });
        }
        match latest {
            Some((latest, refusal)) if wanted > latest => Err(refusal),
            _ => Ok(Some(wanted)),
        }
    }

    /// The latest expiry of a token that was made at `made`, by the tighter of its two limits, and the refusal of a later one.
    fn latest(&self, made: Timestamp, asked: Expiry) -> Option<(Timestamp, ExpiryRefusal)> {
        let whose = self.lifetime.whose;
        let of_lifetime = self.lifetime.most.map(|longest| {
            let latest = longest.after(made);
            (latest, ExpiryRefusal::TooLong(TooLong { longest, whose, latest, asked }))
        });
        let of_maker =
            self.maker_ends_at.map(|latest| (latest, ExpiryRefusal::OutlivesMaker { latest, asked }));
        of_lifetime.into_iter().chain(of_maker).min_by_key(|(latest, _)| *latest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Limits {
        /// Limits of the service, of lifetimes alone.
        pub(crate) fn of_lifetime(longest: Option<Period>) -> Self {
            let whose = Whose::Service;
            Self { lifetime: Limit { most: longest, whose }, ..Self::NONE }
        }

        /// The same for what a token makes that ends so soon itself.
        pub(crate) const fn by_maker_until(self, end: Timestamp) -> Self {
            Self { maker_ends_at: Some(end), ..self }
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// The refusal of what is beyond a limit of the service's.
    fn too_long(longest: Period, asked: Expiry) -> Result<Option<Timestamp>, ExpiryRefusal> {
        let latest = longest.after(now());
        Err(ExpiryRefusal::TooLong(TooLong { longest, whose: Whose::Service, latest, asked }))
    }

    #[test]
    fn without_a_longest_lifetime_a_token_may_last_for_ever() {
        let free = Limits::of_lifetime(None);
        assert_eq!(free.expiry(now(), Expiry::Latest), Ok(None));
        let far = Period::from_days(36_500);
        assert_eq!(free.expiry(now(), Expiry::In(far)), Ok(Some(far.after(now()))));
    }

    #[test]
    fn with_a_longest_lifetime_it_is_what_a_token_gets_and_no_millisecond_more() {
        let day = Period::from_days(1);
        let limited = Limits::of_lifetime(Some(day));
        let end = day.after(now());
        assert_eq!(limited.expiry(now(), Expiry::Latest), Ok(Some(end)));
        assert_eq!(limited.expiry(now(), Expiry::In(day)), Ok(Some(end)));
        assert_eq!(limited.expiry(now(), Expiry::At(end)), Ok(Some(end)));
        let longer = Period::from_millis(day.as_millis() + 1);
        for asked in [Expiry::In(longer), Expiry::At(longer.after(now()))] {
            assert_eq!(limited.expiry(now(), asked), too_long(day, asked));
        }
    }

    #[test]
    fn a_refusal_names_the_limit_whose_it_is_and_what_was_asked_for() {
        let mut limited = Limits::of_lifetime(Some(Period::from_days(90)));
        let refusal = |limits: &Limits, asked| limits.expiry(now(), asked).unwrap_err().to_string();
        let asked = Expiry::In(Period::from_days(400));
        insta::assert_snapshot!(refusal(&limited, asked), @"a token may live for at most 90d: until 2026-04-01T00:00:00Z; 400d was asked for");
        limited.lifetime.whose = Whose::User;
        let asked = Expiry::At("2030-01-01T00:00:00Z".parse().unwrap());
        insta::assert_snapshot!(refusal(&limited, asked), @"a token may live for at most 90d, which is the user's own limit: until 2026-04-01T00:00:00Z; 2030-01-01T00:00:00Z was asked for");
        insta::assert_snapshot!(refusal(&limited, Expiry::At(now())), @"a token must expire in the future: it is 2026-01-01T00:00:00Z, and 2026-01-01T00:00:00Z was asked for");
        let over = limited.expiry_of(Period::from_days(91).before(now()), now(), Expiry::Latest);
        insta::assert_snapshot!(over.unwrap_err(), @"a token may live for at most 90d, which is the user's own limit: until 2025-12-31T00:00:00Z; the latest that is allowed was asked for");
    }

    #[test]
    fn a_token_must_expire_in_the_future() {
        for asked in [Expiry::At(now()), Expiry::In(Period::from_millis(0)), Expiry::At(Timestamp::MIN)] {
            let refusal = Err(ExpiryRefusal::NotInFuture { now: now(), asked });
            assert_eq!(Limits::of_lifetime(None).expiry(now(), asked), refusal);
        }
    }

    #[test]
    fn what_a_token_makes_ends_when_it_does_and_no_millisecond_later() {
        let (day, far) = (Period::from_days(1), Period::from_days(400));
        let end = day.after(now());
        for longest in [None, Some(Period::from_days(90)), Some(far)] {
            let limits = Limits::of_lifetime(longest).by_maker_until(end);
            assert_eq!(limits.expiry(now(), Expiry::Latest), Ok(Some(end)));
            assert_eq!(limits.expiry(now(), Expiry::At(end)), Ok(Some(end)));
            let later = Period::from_millis(day.as_millis() + 1);
            for asked in [Expiry::In(later), Expiry::At(later.after(now())), Expiry::In(far)] {
                let refused = Err(ExpiryRefusal::OutlivesMaker { latest: end, asked });
                assert_eq!(limits.expiry(now(), asked), refused);
            }
        }
        let hour = Period::from_millis(3_600_000);
        let tighter = Limits::of_lifetime(Some(hour)).by_maker_until(end);
        assert_eq!(tighter.expiry(now(), Expiry::Latest), Ok(Some(hour.after(now()))));
        assert_eq!(tighter.expiry(now(), Expiry::In(day)), too_long(hour, Expiry::In(day)));
        let refused = ExpiryRefusal::OutlivesMaker { latest: end, asked: Expiry::In(far) }.to_string();
        insta::assert_snapshot!(refused, @"a token cannot give an expiry later than its own, which is 2026-01-02T00:00:00Z; 400d was asked for. Use a token that expires later, or have an administrator set `outlive_maker`");
    }

    #[test]
    fn a_change_may_leave_an_expiry_that_is_later_than_the_asking_tokens() {
        let (day, week) = (Period::from_days(1), Period::from_days(7));
        let limits = Limits::of_lifetime(None).by_maker_until(day.after(now()));
        let later = Some(week.after(now()));
        assert_eq!(limits.for_change_of(later).maker_ends_at, later);
        assert_eq!(limits.for_change_of(Some(now())).maker_ends_at, limits.maker_ends_at);
        assert_eq!(limits.for_change_of(None).maker_ends_at, None);
        assert_eq!(Limits::NONE.for_change_of(later).maker_ends_at, None);
    }

    proptest! {
        #[test]
        fn no_expiry_ever_passes_the_longest_lifetime(longest in 1_u64..1_000_000, asked in 0_u64..2_000_000) {
            let limited = Limits::of_lifetime(Some(Period::from_millis(longest)));
            match limited.expiry(now(), Expiry::In(Period::from_millis(asked))) {
                Ok(end) => {
                    let end = end.unwrap();
                    prop_assert!(end > now() && end <= Period::from_millis(longest).after(now()));
                }
                Err(_) => prop_assert!(asked == 0 || asked > longest),
            }
        }
    }
}
