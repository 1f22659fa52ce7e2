//! What a caller may give to a token: nothing that its own token lacks.

use crate::domain::time::Timestamp;

use super::limits::Limits;
use super::scope::{Scope, Scopes};
use super::token::{Networks, Schemes, Token};

/// What the one who asks for a change holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Everything: an administrator, or whoever works beside the database.
    Everything,
    /// What a token that is no administrator's permits.
    Token(Held),
}

/// What a token permits its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its scopes.
    pub scopes: Scopes,
    /// Where it may be used from.
    pub networks: Networks,
    /// What it may be presented with.
    pub schemes: Schemes,
    /// The latest expiry that it may give: its own, unless tokens may outlive their maker; `None`: any.
    pub ends_at: Option<Timestamp>,
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
    /// Schemes that its token may not be presented with.
    #[error("a token cannot give schemes that it lacks itself: `schemes` must be among {}", .0.listed())]
    Schemes(Schemes),
    /// More for a token that expires later than its own.
    #[error(
        "a token cannot give more to one that expires later than itself, which is {0}: \
         use a token that expires later, or have an administrator set `outlive_maker`"
    )]
    Expiry(Timestamp),
}

impl Authority {
    /// What a token permits its holder.
    #[must_use]
    pub fn of(held: Held) -> Self {
        if held.scopes.is_admin() { Self::Everything } else { Self::Token(held) }
    }

    /// Whether it may make a token that permits so much, or hand out its secret anew.
    ///
    /// # Errors
    /// [`Beyond`] names what is lacking.
    pub fn may_give(&self, scopes: &Scopes, networks: &Networks, schemes: &Schemes) -> Result<(), Beyond> {
        let Self::Token(held) = self else { return Ok(()) };
        let lacking = held.scopes.lacking(scopes);
        if !lacking.is_empty() {
            return Err(Beyond::Scopes(lacking.into_iter().cloned().collect()));
        }
        if !networks.within(&held.networks) {
            return Err(Beyond::Networks(held.networks.clone()));
        }
        if schemes.within(&held.schemes) { Ok(()) } else { Err(Beyond::Schemes(held.schemes.clone())) }
    }

    /// The limits of what it makes or changes, where those of the user are `limits`.
    #[must_use]
    pub fn limits(&self, limits: Limits) -> Limits {
        match self {
            Self::Everything => limits,
            Self::Token(held) => Limits { maker_ends_at: held.ends_at, ..limits },
        }
    }

    /// Whether it may turn the token `before` into `after`: anything that makes it less, and more only where it could
    /// make the whole of `after` itself.
    ///
    /// # Errors
    /// [`Beyond`] names what is lacking.
    pub fn may_change(&self, before: &Token, after: &Token) -> Result<(), Beyond> {
        let wider = is_later(after.expires_at, before.expires_at)
            || !before.scopes.lacking(&after.scopes).is_empty()
            || !after.allowed_cidrs.within(&before.allowed_cidrs);
        if !wider {
            return Ok(());
        }
        self.may_give(&after.scopes, &after.allowed_cidrs, &after.schemes)?;
        match self {
            Self::Token(Held { ends_at: Some(end), .. }) if is_later(after.expires_at, Some(*end)) => {
                Err(Beyond::Expiry(*end))
            }
            _ => Ok(()),
        }
    }
}

/// Whether one expiry is later than another, where none is never.
fn is_later(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one > other,
        (one, other) => one.is_none() && other.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use latchkey::wire::Scheme;

    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        Scopes::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
    }

    fn networks(texts: &[&str]) -> Networks {
        Networks::parse(texts.iter().copied()).unwrap()
    }

    fn held(held: &[&str], bound: &[&str]) -> Held {
        let (scopes, networks) = (scopes(held), networks(bound));
        Held { scopes, networks, schemes: Schemes::default(), ends_at: None }
    }

    fn holder(scopes: &[&str], bound: &[&str]) -> Authority {
        Authority::of(held(scopes, bound))
    }

    fn give(by: &Authority, scopes: &Scopes, networks: &Networks) -> Result<(), Beyond> {
        by.may_give(scopes, networks, &Schemes::default())
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
        assert_eq!(give(&office, &scopes(&["read"]), &networks(&["10.1.0.0/16", "10.2.0.1"])), Ok(()));
        assert_eq!(give(&office, &scopes(&[]), &networks(&["10.0.0.0/8"])), Ok(()));
        let lacking = give(&office, &scopes(&["read", "delete"]), &networks(&["10.0.0.0/8"])).unwrap_err();
        assert_eq!(lacking.to_string(), "a token cannot give scopes that it lacks itself: delete");
        for wider in
            [&[] as &[&str], &["0.0.0.0/0"], &["10.0.0.0/7"], &["10.0.0.0/8", "192.0.2.1"], &["::/0"]]
        {
            let refused = give(&office, &scopes(&[]), &networks(wider)).unwrap_err();
            assert_eq!(refused, Beyond::Networks(networks(&["10.0.0.0/8"])), "{wider:?}");
        }
    }

    #[test]
    fn an_administrator_gives_anything_from_wherever_its_token_is_used() {
        let admin = holder(&["latchkey:admin"], &["10.0.0.0/8"]);
        assert_eq!(give(&admin, &scopes(&["read"]), &Networks::default()), Ok(()));
        assert_eq!(give(&Authority::Everything, &Scopes::admin(), &Networks::default()), Ok(()));
    }

    #[test]
    fn a_token_gives_no_scheme_that_it_may_not_be_presented_with() {
        let only = |scheme| Schemes::new([scheme]).unwrap();
        let bearer = Held { schemes: only(Scheme::Bearer), ..held(&["read"], &[]) };
        let by = Authority::of(bearer);
        let give = |schemes: &Schemes| by.may_give(&scopes(&["read"]), &networks(&[]), schemes);
        assert_eq!(give(&only(Scheme::Bearer)), Ok(()));
        for wider in [only(Scheme::Basic), Schemes::default()] {
            assert_eq!(give(&wider), Err(Beyond::Schemes(only(Scheme::Bearer))));
        }
        let refused = give(&Schemes::default()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "a token cannot give schemes that it lacks itself: `schemes` must be among bearer"
        );
    }

    #[test]
    fn a_token_gives_more_to_none_that_outlives_it() {
        let (near, far) = (Some("2026-01-01T00:00:00Z"), Some("2027-01-01T00:00:00Z"));
        let ends_at = near.map(|time| time.parse().unwrap());
        let by = Authority::of(Held { ends_at, ..held(&["read", "write"], &[]) });
        for end in [far, None] {
            let refused = by.may_change(&token(&[], &[], end), &token(&["read"], &[], end));
            assert_eq!(refused, Err(Beyond::Expiry(ends_at.unwrap())), "{end:?}");
            let less = by.may_change(&token(&["read", "write"], &[], end), &token(&["read"], &[], end));
            assert_eq!(less, Ok(()), "{end:?}");
        }
        assert_eq!(by.may_change(&token(&[], &[], near), &token(&["read"], &[], near)), Ok(()));
        let limits = by.limits(Limits::NONE);
        assert_eq!((limits.maker_ends_at, Authority::Everything.limits(limits)), (ends_at, limits));
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
