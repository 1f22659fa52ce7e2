//! The administrator's limits, and what they say to one request.

use serde::{Deserialize, Serialize};

use super::limits::{Limit, Limits, Whose};
use super::period::Period;
use super::text::Invalid;
use crate::domain::time::Timestamp;

/// The shortest period of a limit.
const LEAST: Period = Period::from_millis(1000);

/// The limits of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restrictions {
    /// The longest time from a token's making to its expiry; `None`: no limit, and a token may last for ever.
    pub max_lifetime: Option<Period>,
    /// The most live tokens that one user may have; 0: nobody makes tokens; `None`: no limit.
    pub max_tokens_per_user: Option<u32>,
    /// Whether a token may make others that expire later than itself. An administrator's may either way.
    pub outlive_maker: bool,
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

impl Restrictions {
    /// Checks what the types do not: limits that would let nothing through, and a scheduler that would never rest.
    ///
    /// # Errors
    /// [`InvalidRestriction`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidRestriction> {
        check_lifetime(self.max_lifetime)?;
        match self.delete_expired.every {
            every if every < LEAST => {
                refuse("delete_expired.every", format!("must be at least \"{LEAST}\", and is \"{every}\""))
            }
            _ => Ok(()),
        }
    }

    /// What they say of any one user.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        let whose = Whose::Service;
        Limits {
            lifetime: Limit { most: self.max_lifetime, whose },
            tokens: Limit { most: self.max_tokens_per_user, whose },
            maker_ends_at: None,
        }
    }
}

/// Checks that a longest lifetime lets something through.
pub(super) fn check_lifetime(longest: Option<Period>) -> Result<(), InvalidRestriction> {
    match longest {
        Some(longest) if longest < LEAST => refuse(
            "max_lifetime",
            format!("must be at least \"{LEAST}\", or null for no limit, and is \"{longest}\""),
        ),
        _ => Ok(()),
    }
}

fn refuse(field: &'static str, problem: String) -> Result<(), InvalidRestriction> {
    Err(InvalidRestriction { field, problem: Invalid(problem) })
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
    use super::*;

    fn restrictions(max_lifetime: Option<Period>) -> Restrictions {
        Restrictions {
            max_lifetime,
            max_tokens_per_user: Some(10),
            outlive_maker: false,
            delete_expired: DeleteExpired {
                enabled: true,
                after: Period::from_days(30),
                every: Period::from_millis(3_600_000),
            },
        }
    }

    #[test]
    fn json_is_as_the_contract_writes_it() {
        let json = serde_json::json!({
            "max_lifetime": "365d", "max_tokens_per_user": 10, "outlive_maker": false,
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
}
