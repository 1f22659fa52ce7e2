//! Challenges (RFC 9110 §11.6.1): for which schemes a 401 asks, and in which order, for some clients (`docker login`) take
//! the first one and no other.

use crate::credential::Schemes;
use crate::wire::Scheme;

/// The schemes that a client is challenged for, in this order: at least one, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Challenges {
    first: Scheme,
    second: Option<Scheme>,
}

/// A list of schemes that cannot be challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChallenges {
    /// RFC 9110 §15.5.2 wants at least one in a 401.
    #[error("name at least one of `bearer` and `basic`, or leave the field out")]
    Empty,
    /// A scheme is named more than once.
    #[error("name each of `bearer` and `basic` once at most")]
    Repeated,
    /// Clients would be asked for what is refused.
    #[error("`{0}` is not among `schemes`, so its credentials would be refused")]
    Disabled(&'static str),
}

impl Challenges {
    /// Bearer first, then Basic.
    pub const ALL: Self = Self { first: Scheme::Bearer, second: Some(Scheme::Basic) };

    /// Challenges for these schemes, all of which have to be `enabled`.
    ///
    /// # Errors
    /// [`InvalidChallenges`] says what is wrong with the list.
    pub fn new(list: &[Scheme], enabled: Schemes) -> Result<Self, InvalidChallenges> {
        let challenges = match *list {
            [] => return Err(InvalidChallenges::Empty),
            [first] => Self { first, second: None },
            [first, second] if first != second => Self { first, second: Some(second) },
            _ => return Err(InvalidChallenges::Repeated),
        };
        match challenges.iter().find(|scheme| !enabled.contains(*scheme)) {
            Some(Scheme::Bearer) => Err(InvalidChallenges::Disabled("bearer")),
            Some(Scheme::Basic) => Err(InvalidChallenges::Disabled("basic")),
            None => Ok(challenges),
        }
    }

    /// Challenges for the schemes of a list, in the order in which they are named first; `None`: it is empty.
    #[must_use]
    pub fn in_order_of(schemes: &[Scheme]) -> Option<Self> {
        let first = *schemes.first()?;
        Some(Self { first, second: schemes.iter().copied().find(|scheme| *scheme != first) })
    }

    /// The schemes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        std::iter::once(self.first).chain(self.second)
    }
}

impl Default for Challenges {
    /// [`Challenges::ALL`].
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_keep_their_order_and_name_each_enabled_scheme_once() {
        let order =
            |list: &[Scheme]| Challenges::new(list, Schemes::ALL).map(|it| it.iter().collect::<Vec<_>>());
        for list in [&[Scheme::Basic, Scheme::Bearer][..], &[Scheme::Bearer, Scheme::Basic], &[Scheme::Basic]]
        {
            assert_eq!(order(list).as_deref(), Ok(list));
        }
        assert_eq!(order(&[]), Err(InvalidChallenges::Empty));
        assert_eq!(order(&[Scheme::Basic, Scheme::Basic]), Err(InvalidChallenges::Repeated));
        assert_eq!(order(&[Scheme::Basic, Scheme::Bearer, Scheme::Basic]), Err(InvalidChallenges::Repeated));
        let basic_only = Schemes::from_iter([Scheme::Basic]);
        let disabled = Challenges::new(&[Scheme::Basic, Scheme::Bearer], basic_only);
        assert_eq!(disabled, Err(InvalidChallenges::Disabled("bearer")));
    }

    #[test]
    fn by_default_they_follow_the_schemes_as_these_are_written() {
        let order = |list: &[Scheme]| Challenges::in_order_of(list).map(|it| it.iter().collect::<Vec<_>>());
        assert_eq!(order(&[Scheme::Basic, Scheme::Bearer]), Some(vec![Scheme::Basic, Scheme::Bearer]));
        assert_eq!(order(&[Scheme::Basic, Scheme::Basic]), Some(vec![Scheme::Basic]));
        assert_eq!(order(&[]), None);
    }
}
