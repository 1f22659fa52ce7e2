//! What a caller may give to a token: nothing that its own token lacks.

use super::scope::{Scope, Scopes};
use super::token::{Networks, Token};

/// What the one who asks for a change holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Everything: an administrator, or whoever works beside the database.
    Everything,
    /// What a token that is no administrator's permits.
    Token {
        /// Its scopes.
        scopes: Scopes,
        /// Where it may be used from.
        networks: Networks,
    },
}

/// What a caller cannot give, for it does not have it itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// Scopes that its token lacks.
    #[error("a token cannot give scopes that it lacks itself: {}", Scopes::listed(.0))]
    Scopes(Vec<Scope>),
    /// Networks that its token may not be used from.
    #[error(
        "a token that is bound to networks cannot give others: `allowed_cidrs` must lie within {}",
        .0.listed()
    )]
    Networks(Networks),
}

impl Authority {
    /// What a token of these scopes and networks permits its holder.
    #[must_use]
    pub fn of(scopes: Scopes, networks: Networks) -> Self {
        if scopes.is_admin() { Self::Everything } else { Self::Token { scopes, networks } }
    }

    /// Whether it may make a token that permits so much, or hand out its secret anew.
    ///
    /// # Errors
    /// [`Beyond`] names what is lacking.
    pub fn may_give(&self, scopes: &Scopes, networks: &Networks) -> Result<(), Beyond> {
        let Self::Token { scopes: held, networks: bound } = self else { return Ok(()) };
        let lacking = held.lacking(scopes);
        if !lacking.is_empty() {
            return Err(Beyond::Scopes(lacking.into_iter().cloned().collect()));
        }
        if networks.within(bound) { Ok(()) } else { Err(Beyond::Networks(bound.clone())) }
    }

    /// Whether it may turn the token `before` into `after`: anything that makes it less, and more only where it could
    /// make the whole of `after` itself.
    ///
    /// # Errors
    /// [`Beyond`] names what is lacking.
    pub fn may_change(&self, before: &Token, after: &Token) -> Result<(), Beyond> {
        let later = match (before.expires_at, after.expires_at) {
            (Some(before), Some(after)) => after > before,
            (before, after) => before.is_some() && after.is_none(),
        };
        let wider = !before.scopes.lacking(&after.scopes).is_empty()
            || !after.allowed_cidrs.within(&before.allowed_cidrs);
        if later || wider { self.may_give(&after.scopes, &after.allowed_cidrs) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        Scopes::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
    }

    fn networks(texts: &[&str]) -> Networks {
        Networks::parse(texts.iter().copied()).unwrap()
    }

    fn holder(held: &[&str], bound: &[&str]) -> Authority {
        Authority::of(scopes(held), networks(bound))
    }

    fn token(held: &[&str], bound: &[&str], expires_at: Option<&str>) -> Token {
        Token {
            scopes: scopes(held),
            allowed_cidrs: networks(bound),
            expires_at: expires_at.map(|time| time.parse().unwrap()),
            ..Token::example()
        }
    }

    #[test]
    fn a_token_gives_what_it_has_and_no_more() {
        let office = holder(&["read", "write"], &["10.0.0.0/8"]);
        assert_eq!(office.may_give(&scopes(&["read"]), &networks(&["10.1.0.0/16", "10.2.0.1"])), Ok(()));
        assert_eq!(office.may_give(&scopes(&[]), &networks(&["10.0.0.0/8"])), Ok(()));
        let lacking = office.may_give(&scopes(&["read", "delete"]), &networks(&["10.0.0.0/8"])).unwrap_err();
        assert_eq!(lacking.to_string(), "a token cannot give scopes that it lacks itself: delete");
        for wider in
            [&[] as &[&str], &["0.0.0.0/0"], &["10.0.0.0/7"], &["10.0.0.0/8", "192.0.2.1"], &["::/0"]]
        {
            let refused = office.may_give(&scopes(&[]), &networks(wider)).unwrap_err();
            assert_eq!(refused, Beyond::Networks(networks(&["10.0.0.0/8"])), "{wider:?}");
        }
    }

    #[test]
    fn an_administrator_gives_anything_from_wherever_its_token_is_used() {
        let admin = holder(&["latchkey:admin"], &["10.0.0.0/8"]);
        assert_eq!(admin.may_give(&scopes(&["read"]), &Networks::default()), Ok(()));
        assert_eq!(Authority::Everything.may_give(&Scopes::admin(), &Networks::default()), Ok(()));
    }

    #[test]
    fn who_lacks_what_a_token_has_makes_it_less_and_never_more() {
        let reader = holder(&["read"], &[]);
        let (near, far) = (Some("2026-01-01T00:00:00Z"), Some("2027-01-01T00:00:00Z"));
        let before = token(&["read", "write"], &["10.0.0.0/8"], near);
        for less in [
            token(&["write"], &["10.0.0.0/8"], near),
            token(&["read", "write"], &["10.0.0.0/16"], near),
            token(&["read", "write"], &["10.0.0.0/8"], Some("2025-01-01T00:00:00Z")),
        ] {
            assert_eq!(reader.may_change(&before, &less), Ok(()));
        }
        for more in [
            token(&["read", "write"], &["10.0.0.0/8"], far),
            token(&["read", "write"], &["10.0.0.0/8"], None),
            token(&["read", "write"], &[], near),
            token(&["write", "delete"], &["10.0.0.0/8"], near),
        ] {
            assert!(matches!(reader.may_change(&before, &more), Err(Beyond::Scopes(_))), "{more:?}");
            assert_eq!(Authority::Everything.may_change(&before, &more), Ok(()));
        }
        assert_eq!(
            reader.may_change(&before, &token(&["read"], &[], None)),
            Ok(()),
            "it could make this one"
        );
    }
}
