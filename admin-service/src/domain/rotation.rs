//! Rotation: a token gets a successor with a new secret, and ends after an overlap in which both work.

use std::str::FromStr;

use latchkey::token::{Secret, TokenHash};

use super::limits::{ExpiryRefusal, Limits};
use super::period::Period;
use super::text::Invalid;
use super::token::{Expiry, Token, TokenId, TokenStatus};
use crate::domain::time::Timestamp;

/// How long a token goes on working beside its successor, at most: overlapped tokens do not count against the limit.
pub const LONGEST_OVERLAP: Period = Period::from_days(30);

/// How long a token goes on working beside its successor: not at all, to [`LONGEST_OVERLAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap(Period);

impl Overlap {
    /// The token ends when its successor is made.
    pub const NONE: Self = Self(Period::from_millis(0));

    /// Its length.
    #[must_use]
    pub const fn period(self) -> Period {
        self.0
    }
}

impl FromStr for Overlap {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let period: Period = text.parse()?;
        if period > LONGEST_OVERLAP {
            return Err(Invalid(format!("must be at most \"{LONGEST_OVERLAP}\", and is \"{period}\"")));
        }
        Ok(Self(period))
    }
}

/// What a caller asks for, and what may be kept of the new secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long the old token goes on working.
    pub overlap: Overlap,
    /// How long the successor lives; `None`: as long as the old one was made for, or as is allowed.
    pub expires_in: Option<Period>,
    /// The hash that will stand for the successor.
    pub hash: TokenHash,
    /// Its prefix and first characters.
    pub hint: String,
}

/// What a rotation of a token comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// It gets its first successor, which takes its place in the count.
    First,
    /// The successor that it has was never used, so that its secret may have been lost on the way: another takes its
    /// place, and it is revoked.
    Replaces(TokenId),
    /// Its successor is gone, and it still works: another one counts.
    Again,
}

/// Why a token cannot be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationRefusal {
    /// It has ended, and not by a rotation whose secret may have been lost.
    NotActive(TokenStatus),
    /// It was rotated, and its successor is in use, or was rotated itself.
    Rotated(TokenId),
}

impl Succession {
    /// What rotating `old` comes to `now`, where `successor` is the last that it got.
    ///
    /// # Errors
    /// [`RotationRefusal`].
    pub fn of(old: &Token, successor: Option<&Token>, now: Timestamp) -> Result<Self, RotationRefusal> {
        let standing = match successor {
            Some(next) if next.rotated_to.is_some() => return Err(RotationRefusal::Rotated(next.id)),
            Some(next) if next.status(now) == TokenStatus::Active && next.is_unused_successor() => {
                return Ok(Self::Replaces(next.id));
            }
            Some(next) if next.status(now) == TokenStatus::Active => {
                return Err(RotationRefusal::Rotated(next.id));
            }
            _ if old.rotated_to.is_some() => Self::Again,
            _ => Self::First,
        };
        match old.status(now) {
            TokenStatus::Active => Ok(standing),
            ended => Err(RotationRefusal::NotActive(ended)),
        }
    }
}

impl Rotation {
    /// The old token as it is from `now` on, when it has this successor. Repeating a rotation never prolongs it.
    #[must_use]
    pub fn ended(&self, old: Token, successor: TokenId, now: Timestamp) -> Token {
        let ends_at = self.overlap.period().after(now);
        let old = Token { rotated_to: Some(successor), ..old };
        match old.status(now) {
            TokenStatus::Active if self.overlap == Overlap::NONE => Token { revoked_at: Some(now), ..old },
            TokenStatus::Active => {
                Token { expires_at: Some(old.expires_at.map_or(ends_at, |end| end.min(ends_at))), ..old }
            }
            _ => old,
        }
    }

    /// The successor of `old`, made `now`. Without another wish it lives as long as `like` was made for: the old token,
    /// or the successor whose place this one takes, for the old one's time was cut by then; and no longer than the token
    /// that asks, where the limits say so.
    ///
    /// # Errors
    /// [`ExpiryRefusal`] when it would live for longer than is allowed.
    pub fn successor(
        &self,
        id: TokenId,
        old: &Token,
        like: &Token,
        limits: &Limits,
        now: Timestamp,
        made_by: Option<TokenId>,
    ) -> Result<Token, ExpiryRefusal> {
        let lived = like.expires_at.map(|end| end.as_millisecond() - like.created_at.as_millisecond());
        let lifetime = lived.map(|lived| Period::from_millis(u64::try_from(lived).unwrap_or(0)));
        let expiry = match (self.expires_in, lifetime, limits.lifetime.most) {
            (Some(wanted), ..) => Expiry::In(wanted),
            (None, Some(lifetime), Some(longest)) => Expiry::In(lifetime.min(longest)),
            (None, Some(lifetime), None) => Expiry::In(lifetime),
            (None, None, _) => Expiry::Latest,
        };
        let unasked = self.expires_in.is_none();
        let expiry = match (expiry, limits.maker_ends_at) {
            (Expiry::In(lifetime), Some(end)) if unasked && lifetime.after(now) > end => Expiry::At(end),
            _ => expiry,
        };
        Ok(Token {
            id,
            hash: self.hash,
            hint: self.hint.clone(),
            created_at: now,
            expires_at: limits.expiry(now, expiry)?,
            rotated_from: Some(old.id),
            rotated_to: None,
            revoked_at: None,
            last_used_at: None,
            made_by,
            in_use_since: None,
            ..old.clone()
        })
    }

    /// Binds what was asked for to a secret, which is not kept.
    #[must_use]
    pub fn new(overlap: Overlap, expires_in: Option<Period>, secret: &Secret) -> Self {
        Self { overlap, expires_in, hash: secret.hash(), hint: secret.hint() }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::limits::{TooLong, Whose};

    fn at(hours: u64) -> Timestamp {
        hour(hours).after(Timestamp::UNIX_EPOCH)
    }

    fn hour(hours: u64) -> Period {
        Period::from_millis(hours * 3_600_000)
    }

    fn rotation(overlap: &str, expires_in: Option<Period>) -> Rotation {
        let hash = TokenHash::of(b"new");
        Rotation { overlap: overlap.parse().unwrap(), expires_in, hash, hint: "lk_efgh".to_owned() }
    }

    /// A token made at the beginning, for ten hours.
    fn old() -> Token {
        Token { expires_at: Some(at(10)), ..Token::example() }
    }

    fn next() -> Token {
        Token { id: TokenId(Uuid::from_u128(2)), rotated_from: Some(old().id), ..old() }
    }

    #[test]
    fn an_overlap_is_none_to_thirty_days() {
        assert_eq!("0s".parse(), Ok(Overlap::NONE));
        assert_eq!("30d".parse::<Overlap>().unwrap().period(), LONGEST_OVERLAP);
        let refused = "31d".parse::<Overlap>().unwrap_err().to_string();
        assert_eq!(refused, "must be at most \"30d\", and is \"31d\"");
        assert!("-1h".parse::<Overlap>().is_err());
    }

    #[test]
    fn the_old_token_ends_with_the_overlap_and_never_later_than_it_would_have() {
        let ended = rotation("0s", None).ended(old(), next().id, at(5));
        assert_eq!((ended.revoked_at, ended.expires_at), (Some(at(5)), Some(at(10))));
        let overlapped = rotation("1h", None).ended(old(), next().id, at(5));
        assert_eq!((overlapped.revoked_at, overlapped.expires_at), (None, Some(at(6))));
        assert_eq!(overlapped.rotated_to, Some(next().id));
        assert_eq!(rotation("9h", None).ended(old(), next().id, at(5)).expires_at, Some(at(10)));
        let eternal = Token { expires_at: None, ..old() };
        assert_eq!(rotation("1h", None).ended(eternal, next().id, at(5)).expires_at, Some(at(6)));
        // Asked for again, it does not live longer for it.
        assert_eq!(rotation("9h", None).ended(overlapped.clone(), next().id, at(5)).expires_at, Some(at(6)));
        let over = rotation("9h", None).ended(overlapped.clone(), next().id, at(7));
        assert_eq!(over.expires_at, overlapped.expires_at);
    }

    #[test]
    fn a_successor_lives_as_long_as_the_old_one_was_made_for_within_the_restrictions() {
        let made = |rotation: Rotation, like: &Token, longest| {
            let id = TokenId(Uuid::from_u128(3));
            rotation
                .successor(id, &old(), like, &Limits::of_lifetime(longest), at(5), None)
                .map(|next| next.expires_at)
        };
        assert_eq!(made(rotation("0s", None), &old(), None), Ok(Some(at(15))));
        assert_eq!(made(rotation("0s", None), &old(), Some(hour(4))), Ok(Some(at(9))));
        assert_eq!(made(rotation("0s", Some(hour(3))), &old(), Some(hour(4))), Ok(Some(at(8))));
        let (longest, asked) = (hour(4), Expiry::In(hour(5)));
        let limit = TooLong { longest, whose: Whose::Service, latest: at(9), asked };
        let refused = Err(ExpiryRefusal::TooLong(limit));
        assert_eq!(made(rotation("0s", Some(hour(5))), &old(), Some(hour(4))), refused);
        let eternal = Token { expires_at: None, ..old() };
        assert_eq!(made(rotation("0s", None), &eternal, None), Ok(None));
        assert_eq!(made(rotation("0s", None), &eternal, Some(hour(4))), Ok(Some(at(9))));
    }

    #[test]
    fn a_successor_ends_no_later_than_the_token_that_asks_for_it() {
        let made = |expires_in, longest, like: &Token| {
            let limits = Limits::of_lifetime(longest).by_maker_until(at(12));
            let (id, by) = (TokenId(Uuid::from_u128(3)), Some(old().id));
            let next = rotation("0s", expires_in).successor(id, &old(), like, &limits, at(5), by)?;
            assert_eq!(next.made_by, by);
            Ok(next.expires_at)
        };
        let eternal = Token { expires_at: None, ..old() };
        for longest in [None, Some(hour(20))] {
            assert_eq!(made(None, longest, &old()), Ok(Some(at(12))));
            assert_eq!(made(None, longest, &eternal), Ok(Some(at(12))));
            assert_eq!(made(Some(hour(7)), longest, &old()), Ok(Some(at(12))));
            let asked = Expiry::In(hour(8));
            let refused = Err(ExpiryRefusal::OutlivesMaker { latest: at(12), asked });
            assert_eq!(made(Some(hour(8)), longest, &old()), refused);
        }
        assert_eq!(made(None, Some(hour(2)), &old()), Ok(Some(at(7))));
    }

    #[test]
    fn a_rotation_whose_answer_was_lost_can_be_repeated_until_the_successor_is_used() {
        let rotated = Token { rotated_to: Some(next().id), revoked_at: Some(at(1)), ..old() };
        let unused = next();
        let used = Token { last_used_at: Some(at(2)), ..next() };
        let looked_up = Token { in_use_since: Some(at(2)), ..next() };
        let rotated_again = Token { rotated_to: Some(old().id), ..next() };
        let gone = Token { revoked_at: Some(at(2)), ..next() };
        let of = |old: &Token, next| Succession::of(old, next, at(3));
        assert_eq!(of(&old(), None), Ok(Succession::First));
        for old in [&rotated, &Token { revoked_at: None, ..rotated.clone() }] {
            assert_eq!(of(old, Some(&unused)), Ok(Succession::Replaces(unused.id)));
            for taken in [&used, &looked_up, &rotated_again] {
                assert_eq!(of(old, Some(taken)), Err(RotationRefusal::Rotated(taken.id)));
            }
        }
        let refused = Err(RotationRefusal::NotActive(TokenStatus::Revoked));
        assert_eq!(of(&rotated, Some(&gone)), refused);
        assert_eq!(of(&rotated, None), refused);
        let overlapped = Token { revoked_at: None, ..rotated };
        assert_eq!(of(&overlapped, Some(&gone)), Ok(Succession::Again));
        let expired = Err(RotationRefusal::NotActive(TokenStatus::Expired));
        assert_eq!(Succession::of(&old(), None, at(10)), expired);
    }
}
