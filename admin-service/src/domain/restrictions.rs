//! The administrator's limits, and what they say to one request.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::period::Period;
use super::text::Invalid;
use super::token::Expiry;

/// The limits of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restrictions {
    /// The longest time from a token's making to its expiry; `None`: no limit, and a token may last for ever.
    pub max_lifetime: Option<Period>,
    /// The most live tokens that one user may have; 0: nobody makes tokens; `None`: no limit.
    pub max_tokens_per_user: Option<u32>,
    /// What becomes of expired tokens.
    pub delete_expired: DeleteExpired,
}

/// When expired tokens are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteExpired {
    /// Whether the scheduler runs by itself.
    pub enabled: bool,
    /// How long an expired token is kept.
    pub after: Period,
    /// How often the scheduler runs.
    pub every: Period,
}

/// A field of [`Restrictions`] that no service could keep to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidRestriction {
    /// The field's path in JSON.
    pub field: &'static str,
    /// What is allowed.
    pub problem: Invalid,
}

/// Why a token cannot have the expiry that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryRefusal {
    /// It is further off than the restrictions allow.
    #[error("a token may live for at most {longest}")]
    TooLong {
        /// The longest lifetime.
        longest: Period,
    },
    /// The token was rotated, and its end is set.
    #[error("a token that was rotated can end sooner, and no later")]
    Rotated,
    /// It is not in the future.
    #[error("a token must expire in the future")]
    NotInFuture,
}

impl Restrictions {
    /// Checks what the types do not: limits that would let nothing through, and a scheduler that would never rest.
    ///
    /// # Errors
    /// [`InvalidRestriction`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidRestriction> {
        let refuse =
            |field, problem: &str| Err(InvalidRestriction { field, problem: Invalid::because(problem) });
        let second = Period::from_millis(1000);
        if self.max_lifetime.is_some_and(|longest| longest < second) {
            return refuse("max_lifetime", "must be at least \"1s\", or null for no limit");
        }
        if self.delete_expired.every < second {
            return refuse("delete_expired.every", "must be at least \"1s\"");
        }
        Ok(())
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
        let latest = self.max_lifetime.map(|longest| (longest, longest.after(made)));
        let wanted = match (asked, latest) {
            (Expiry::Latest, None) => return Ok(None),
            (Expiry::Latest, Some((longest, latest))) if latest <= now => {
                return Err(ExpiryRefusal::TooLong { longest });
            }
            (Expiry::Latest, Some((_, latest))) => latest,
            (Expiry::In(period), _) => period.after(now),
            (Expiry::At(time), _) => crate::clock::whole_milliseconds(time),
        };
        if wanted <= now {
            return Err(ExpiryRefusal::NotInFuture);
        }
        match latest {
            Some((longest, latest)) if wanted > latest => Err(ExpiryRefusal::TooLong { longest }),
            _ => Ok(Some(wanted)),
        }
    }

    /// How many more live tokens a user with `live` of them may have; `None`: any number.
    #[must_use]
    pub fn room(&self, live: u32) -> Option<u32> {
        self.max_tokens_per_user.map(|most| most.saturating_sub(live))
    }
}

impl DeleteExpired {
    /// The expiry up to which tokens are due for deletion: `expires_at + after <= now`.
    #[must_use]
    pub fn due_up_to(&self, now: Timestamp) -> Timestamp {
        self.after.before(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restrictions(max_lifetime: Option<Period>) -> Restrictions {
        Restrictions {
            max_lifetime,
            max_tokens_per_user: Some(10),
            delete_expired: DeleteExpired {
                enabled: true,
                after: Period::from_days(30),
                every: Period::from_millis(3_600_000),
            },
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn without_a_longest_lifetime_a_token_may_last_for_ever() {
        let free = restrictions(None);
        assert_eq!(free.expiry(now(), Expiry::Latest), Ok(None));
        let far = Period::from_days(36_500);
        assert_eq!(free.expiry(now(), Expiry::In(far)), Ok(Some(far.after(now()))));
    }

    #[test]
    fn with_a_longest_lifetime_it_is_what_a_token_gets_and_no_millisecond_more() {
        let day = Period::from_days(1);
        let limited = restrictions(Some(day));
        let end = day.after(now());
        assert_eq!(limited.expiry(now(), Expiry::Latest), Ok(Some(end)));
        assert_eq!(limited.expiry(now(), Expiry::In(day)), Ok(Some(end)));
        assert_eq!(limited.expiry(now(), Expiry::At(end)), Ok(Some(end)));
        let longer = Period::from_millis(day.as_millis() + 1);
        let refusal = Err(ExpiryRefusal::TooLong { longest: day });
        assert_eq!(limited.expiry(now(), Expiry::In(longer)), refusal);
        assert_eq!(limited.expiry(now(), Expiry::At(longer.after(now()))), refusal);
    }

    #[test]
    fn a_token_must_expire_in_the_future() {
        for asked in [Expiry::At(now()), Expiry::In(Period::from_millis(0)), Expiry::At(Timestamp::MIN)] {
            assert_eq!(restrictions(None).expiry(now(), asked), Err(ExpiryRefusal::NotInFuture));
        }
    }

    #[test]
    fn json_is_as_the_contract_writes_it() {
        let json = serde_json::json!({
            "max_lifetime": "365d", "max_tokens_per_user": 10,
            "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
        });
        let parsed: Restrictions = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(parsed, restrictions(Some(Period::from_days(365))));
        assert_eq!(serde_json::to_value(parsed).unwrap(), json);
    }

    #[test]
    fn limits_that_nobody_could_keep_to_are_refused_by_name() {
        let mut wrong = restrictions(Some(Period::from_millis(999)));
        assert_eq!(wrong.check().unwrap_err().field, "max_lifetime");
        wrong.max_lifetime = None;
        wrong.delete_expired.every = Period::from_millis(0);
        assert_eq!(wrong.check().unwrap_err().field, "delete_expired.every");
        wrong.delete_expired.every = Period::from_millis(1000);
        assert_eq!(wrong.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn no_expiry_ever_passes_the_longest_lifetime(longest in 1_u64..1_000_000, asked in 0_u64..2_000_000) {
            let limited = restrictions(Some(Period::from_millis(longest)));
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
