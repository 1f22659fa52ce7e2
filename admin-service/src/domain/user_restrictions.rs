//! Limits of one user's own, which hold in place of the service's.

use serde::Serialize;

use super::limits::{Limit, Limits, Whose};
use super::period::Period;
use super::restrictions::{InvalidRestriction, Restrictions, check_lifetime};

/// Limits of one user's own. `None`: as the service's; `Some(None)`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UserRestrictions {
    /// The longest time from a token's making to its expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Option<Period>>,
    /// The most live tokens; 0: the user makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_user: Option<Option<u32>>,
}

/// A user's own limits, and those that hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimits {
    /// Its own.
    pub own: UserRestrictions,
    /// Those that hold: its own, and the service's for the rest.
    pub effective: Limits,
}

impl UserRestrictions {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`InvalidRestriction`] names the field that is wrong.
    pub fn check(&self) -> Result<(), InvalidRestriction> {
        check_lifetime(self.max_lifetime.flatten())
    }

    /// The limits that hold for the user in a service with these restrictions.
    #[must_use]
    pub fn limits(&self, service: &Restrictions) -> Limits {
        let limits = service.limits();
        Limits {
            lifetime: over(self.max_lifetime, limits.lifetime),
            tokens: over(self.max_tokens_per_user, limits.tokens),
            ..limits
        }
    }
}

fn over<T>(own: Option<Option<T>>, service: Limit<T>) -> Limit<T> {
    own.map_or(service, |most| Limit { most, whose: Whose::User })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::restrictions::DeleteExpired;

    #[test]
    fn what_a_user_has_no_limit_of_its_own_for_is_as_for_everyone() {
        let (day, hour) = (Period::from_days(1), Period::from_millis(3_600_000));
        let delete_expired = DeleteExpired { enabled: true, after: day, every: hour };
        let service = Restrictions {
            max_lifetime: Some(day),
            max_tokens_per_user: Some(10),
            outlive_maker: false,
            delete_expired,
        };
        assert_eq!(UserRestrictions::default().limits(&service), service.limits());
        let unlimited = UserRestrictions { max_lifetime: Some(None), max_tokens_per_user: None };
        let Limits { lifetime, tokens, .. } = unlimited.limits(&service);
        assert_eq!((lifetime, tokens), (Limit { most: None, whose: Whose::User }, service.limits().tokens));
        let tight = UserRestrictions { max_lifetime: Some(Some(hour)), max_tokens_per_user: Some(Some(0)) };
        let Limits { lifetime, tokens, .. } = tight.limits(&service);
        assert_eq!((lifetime.most, tokens.most), (Some(hour), Some(0)));
    }

    #[test]
    fn a_lifetime_that_lets_nothing_through_is_refused() {
        let own = |millis| UserRestrictions {
            max_lifetime: Some(Some(Period::from_millis(millis))),
            max_tokens_per_user: None,
        };
        assert_eq!(own(999).check().unwrap_err().field, "max_lifetime");
        assert_eq!(own(1000).check(), Ok(()));
        assert_eq!(UserRestrictions::default().check(), Ok(()));
    }
}
