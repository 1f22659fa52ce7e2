//! Scopes: what a token permits.

use std::fmt;

use super::text::{Invalid, text_type};

/// The most scopes of one token.
pub const MOST_SCOPES: usize = 32;
/// The scope that permits everything in the management API.
pub const ADMIN: &str = "latchkey:admin";
/// The scope that permits a caller to manage its own tokens.
pub const TOKENS: &str = "latchkey:tokens";

text_type! {
    /// A scope-token of RFC 6749, section 3.3: 1 to 64 printable ASCII characters but space, `"` and `\`.
    Scope,
    |text| {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(())
        } else {
            let has = if text.len() > 64 { format!("; one has {}", text.chars().count()) } else { String::new() };
            Err(Invalid(format!("must be 1 to 64 printable ASCII characters without space, '\"' and '\\' (RFC 6749){has}")))
        }
    }
}

/// The scopes of one token, each once, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Collects scopes, leaving out repetitions.
    ///
    /// # Errors
    /// [`Invalid`] when there are more than [`MOST_SCOPES`].
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, Invalid> {
        let mut unique = Vec::new();
        let mut scopes = scopes.into_iter().enumerate();
        while let Some((index, scope)) = scopes.next() {
            if !unique.contains(&scope) {
                unique.push(scope);
            }
            if unique.len() > MOST_SCOPES {
                let given = index + 1 + scopes.count();
                return Err(Invalid(format!(
                    "must hold at most {MOST_SCOPES} scopes, and {given} are given"
                )));
            }
        }
        Ok(Self(unique))
    }

    /// Just the scope that permits everything.
    #[must_use]
    pub fn admin() -> Self {
        Self(vec![Scope::stored(ADMIN.to_owned())])
    }

    /// Reads what [`Scopes`] displays.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.split_ascii_whitespace().map(|scope| Scope::stored(scope.to_owned())).collect())
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Scopes separated by spaces.
    pub(crate) fn listed(scopes: &[Scope]) -> String {
        scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly this scope is among them.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|held| held.as_str() == scope)
    }

    /// Whether they permit everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.contains(ADMIN)
    }

    /// The scopes of `wanted` that a holder of these may not hand out: none for an administrator.
    #[must_use]
    pub fn lacking<'a>(&self, wanted: &'a Self) -> Vec<&'a Scope> {
        if self.is_admin() {
            return Vec::new();
        }
        wanted.iter().filter(|scope| !self.contains(scope.as_str())).collect()
    }
}

impl fmt::Display for Scopes {
    /// Separated by spaces, as RFC 6749 writes a `scope` parameter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::listed(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        Scopes::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
    }

    #[test]
    fn a_scope_has_the_characters_of_rfc_6749() {
        for good in ["read", "latchkey:admin", "!", "#", "[", "]", "~", &"a".repeat(64)] {
            assert!(good.parse::<Scope>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"", "a\\", "é", "\u{7f}", &"a".repeat(65)] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn repetitions_are_left_out_and_the_order_stays() {
        assert_eq!(scopes(&["b", "a", "b"]).to_string(), "b a");
        assert_eq!(Scopes::stored("b a"), scopes(&["b", "a"]));
        assert_eq!(Scopes::stored(""), Scopes::default());
    }

    #[test]
    fn more_than_thirty_two_scopes_are_refused() {
        let many = |n: usize| Scopes::new((0..n).map(|i| format!("s{i}").parse().unwrap()));
        assert!(many(32).is_ok());
        assert!(many(33).is_err());
    }

    #[test]
    fn nobody_hands_out_what_they_lack_but_an_administrator() {
        let held = scopes(&["read", "write"]);
        assert!(held.lacking(&scopes(&["write"])).is_empty());
        assert_eq!(held.lacking(&scopes(&["read", "delete"])), vec![&"delete".parse::<Scope>().unwrap()]);
        assert!(Scopes::admin().lacking(&scopes(&["delete"])).is_empty());
    }
}
