//! Changes of a token that is there.

use crate::domain::time::Timestamp;

use super::limits::{ExpiryRefusal, Limits};
use super::scope::Scopes;
use super::token::{Description, Expiry, Networks, Token, TokenName};

/// A change of a token: `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPatch {
    /// The new name.
    pub name: Option<TokenName>,
    /// The new note; `Some(None)` removes it.
    pub description: Option<Option<Description>>,
    /// What it permits from now on.
    pub scopes: Option<Scopes>,
    /// Where it may be used from, from now on.
    pub allowed_cidrs: Option<Networks>,
    /// When it expires from now on.
    pub expiry: Option<Expiry>,
}

impl TokenPatch {
    /// The token with the change made `now`. The longest lifetime counts from when the token was made, so that no token
    /// is prolonged again and again; an expiry that stays as it is holds, whatever the restrictions have become.
    ///
    /// # Errors
    /// [`ExpiryRefusal`] when the new expiry is past, or too far off.
    pub fn apply(&self, token: Token, limits: &Limits, now: Timestamp) -> Result<Token, ExpiryRefusal> {
        let limits = limits.for_change_of(token.expires_at);
        let expires_at = match self.expiry {
            None => token.expires_at,
            Some(Expiry::At(time)) if token.expires_at == Some(time) => token.expires_at,
            Some(asked) => limits.expiry_of(token.created_at, now, asked)?,
        };
        let end = token.expires_at.filter(|_| token.rotated_to.is_some());
        if let (Some(end), Some(asked)) = (end, self.expiry)
            && expires_at.is_none_or(|wanted| wanted > end)
        {
            return Err(ExpiryRefusal::Rotated { end, asked });
        }
        Ok(Token {
            name: self.name.clone().unwrap_or(token.name),
            description: self.description.clone().unwrap_or(token.description),
            scopes: self.scopes.clone().unwrap_or(token.scopes),
            allowed_cidrs: self.allowed_cidrs.clone().unwrap_or(token.allowed_cidrs),
            expires_at,
            ..token
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::{TooLong, Whose};
    use crate::domain::period::Period;

    fn limits(days: Option<u32>) -> Limits {
        Limits::of_lifetime(days.map(Period::from_days))
    }

    /// The refusal of what goes beyond so many days.
    fn too_long(days: u32, asked: Expiry) -> Result<Option<Timestamp>, ExpiryRefusal> {
        let longest = Period::from_days(days);
        let limit =
            TooLong { longest, whose: Whose::Service, latest: longest.after(Timestamp::UNIX_EPOCH), asked };
        Err(ExpiryRefusal::TooLong(limit))
    }

    /// A token made at 1970-01-01 that expires after so many days.
    fn made(days: u32) -> Token {
        Token { expires_at: Some(after(days)), ..Token::example() }
    }

    fn after(days: u32) -> Timestamp {
        Period::from_days(days).after(Timestamp::UNIX_EPOCH)
    }

    fn expiry(token: Token, asked: Expiry, longest: Option<u32>) -> Result<Option<Timestamp>, ExpiryRefusal> {
        let patch = TokenPatch { expiry: Some(asked), ..TokenPatch::default() };
        // Changed on the fifth day.
        patch.apply(token, &limits(longest), after(5)).map(|token| token.expires_at)
    }

    #[test]
    fn what_is_not_given_stays() {
        let token = Token { description: Some("note".parse().unwrap()), ..made(10) };
        let unchanged = TokenPatch::default().apply(token.clone(), &limits(Some(1)), after(5));
        assert_eq!(unchanged, Ok(token.clone()));
        let patch = TokenPatch { description: Some(None), ..TokenPatch::default() };
        let changed = patch.apply(token.clone(), &limits(Some(1)), after(5));
        assert_eq!(changed, Ok(Token { description: None, ..token }));
    }

    #[test]
    fn the_longest_lifetime_counts_from_when_the_token_was_made() {
        let longest = Some(30);
        assert_eq!(expiry(made(10), Expiry::At(after(30)), longest), Ok(Some(after(30))));
        assert_eq!(expiry(made(10), Expiry::Latest, longest), Ok(Some(after(30))));
        let later = Expiry::At(Period::from_millis(1).after(after(30)));
        assert_eq!(expiry(made(10), later, longest), too_long(30, later));
        assert_eq!(expiry(made(10), Expiry::Latest, None), Ok(None));
        assert_eq!(expiry(made(10), Expiry::At(after(9_000)), None), Ok(Some(after(9_000))));
    }

    #[test]
    fn restrictions_that_became_tighter_let_an_expiry_stay_and_none_be_chosen_beyond_them() {
        assert_eq!(expiry(made(10), Expiry::At(after(10)), Some(3)), Ok(Some(after(10))));
        // The latest that is allowed is over.
        for asked in [Expiry::At(after(9)), Expiry::Latest] {
            assert_eq!(expiry(made(10), asked, Some(3)), too_long(3, asked));
        }
    }

    #[test]
    fn a_token_that_ends_sooner_prolongs_none_and_may_cut_any() {
        let by_maker = limits(Some(30)).by_maker_until(after(12));
        let changed = |token: Token, asked| {
            let patch = TokenPatch { expiry: Some(asked), ..TokenPatch::default() };
            patch.apply(token, &by_maker, after(5)).map(|token| token.expires_at)
        };
        assert_eq!(changed(made(10), Expiry::At(after(12))), Ok(Some(after(12))));
        assert_eq!(changed(made(10), Expiry::Latest), Ok(Some(after(12))));
        let asked = Expiry::At(after(13));
        let refused = Err(ExpiryRefusal::OutlivesMaker { latest: after(12), asked });
        assert_eq!(changed(made(10), asked), refused);
        // One that lasts for longer already.
        assert_eq!(changed(made(20), Expiry::Latest), Ok(Some(after(20))));
        assert_eq!(changed(made(20), Expiry::At(after(15))), Ok(Some(after(15))));
        let asked = Expiry::At(after(21));
        let refused = Err(ExpiryRefusal::OutlivesMaker { latest: after(20), asked });
        assert_eq!(changed(made(20), asked), refused);
    }

    #[test]
    fn the_end_that_a_rotation_has_set_comes_sooner_and_no_later() {
        let rotated = Token { rotated_to: Some(Token::example().id), ..made(10) };
        for later in [Expiry::At(after(11)), Expiry::Latest] {
            let refused = Err(ExpiryRefusal::Rotated { end: after(10), asked: later });
            assert_eq!(expiry(rotated.clone(), later, Some(30)), refused);
            assert_eq!(expiry(rotated.clone(), later, None), refused);
        }
        assert_eq!(expiry(rotated, Expiry::At(after(9)), Some(30)), Ok(Some(after(9))));
    }

    #[test]
    fn a_new_expiry_is_in_the_future() {
        for past in [after(5), after(4), Timestamp::MIN] {
            let (now, asked) = (after(5), Expiry::At(past));
            assert_eq!(expiry(made(10), asked, Some(30)), Err(ExpiryRefusal::NotInFuture { now, asked }));
        }
    }
}
