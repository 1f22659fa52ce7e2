//! Looking for tokens among those of all users: which, in which order, and where a page ended.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::page::InvalidCursor;
use super::text::{plain, text_type};
use super::token::{TokenId, TokenStatus};
use super::user::UserName;
use crate::domain::time::Timestamp;

text_type! {
    /// A part of a text that is looked for: 1 to 100 characters, no control characters.
    SearchText,
    |text| plain(text, 1, 100)
}

/// Which tokens: those that meet all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFilter {
    /// Of this user.
    pub user: Option<UserName>,
    /// With this status.
    pub status: Option<TokenStatus>,
    /// With this in their name, description or hint, or in their user's name, in whatever case.
    pub text: Option<SearchText>,
    /// That expire before this time, or have expired.
    pub expires_before: Option<Timestamp>,
    /// That were last used before this time, or were made before it and never used.
    pub last_used_before: Option<Timestamp>,
}

/// The order of a list of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrder {
    /// As they were made.
    Made,
    /// Those that expire first come first.
    Expiry,
}

impl TokenFilter {
    /// By expiry where it is asked for, else as they were made.
    #[must_use]
    pub fn order(&self) -> TokenOrder {
        if self.expires_before.is_some() || self.status == Some(TokenStatus::Expired) {
            TokenOrder::Expiry
        } else {
            TokenOrder::Made
        }
    }
}

/// Where a page of tokens ended, in the order of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// With this token.
    Made(TokenId),
    /// With the token that expires at this time.
    Expiry(Timestamp, TokenId),
}

impl TokenPlace {
    /// The order in which it is a place.
    #[must_use]
    pub fn order(&self) -> TokenOrder {
        match self {
            Self::Made(_) => TokenOrder::Made,
            Self::Expiry(..) => TokenOrder::Expiry,
        }
    }
}

impl fmt::Display for TokenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, id) = match self {
            Self::Made(id) => (Vec::new(), id),
            Self::Expiry(time, id) => (time.as_millisecond().to_be_bytes().to_vec(), id),
        };
        f.write_str(&URL_SAFE_NO_PAD.encode([&time, id.0.as_bytes().as_slice()].concat()))
    }
}

impl FromStr for TokenPlace {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let id = |bytes: &[u8]| Uuid::from_slice(bytes).map(TokenId).map_err(|_| InvalidCursor);
        match bytes.split_first_chunk() {
            Some((time, rest)) if rest.len() == 16 => {
                let time =
                    Timestamp::from_millisecond(i64::from_be_bytes(*time)).map_err(|_| InvalidCursor)?;
                Ok(Self::Expiry(time, id(rest)?))
            }
            _ => Ok(Self::Made(id(&bytes)?)),
        }
    }
}

/// A text as it is compared, whatever its case.
#[must_use]
pub fn folded(text: &str) -> String {
    // Letter by letter: a final sigma is a sigma.
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text_and_nothing_else_is_one() {
        let id = TokenId(Uuid::from_u128(7));
        for place in [
            TokenPlace::Made(id),
            TokenPlace::Expiry("2026-01-01T00:00:00.001Z".parse().unwrap(), id),
            TokenPlace::Expiry(Timestamp::from_millisecond(-1).unwrap(), id),
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
            for bad in [format!("{place}A"), format!("{place}="), format!("A{place}")] {
                assert_eq!(bad.parse::<TokenPlace>(), Err(InvalidCursor), "{bad:?}");
            }
        }
        let endless = URL_SAFE_NO_PAD.encode([0x7f; 24]);
        for bad in ["", "x", "AAAA", "not base64!", &endless] {
            assert_eq!(bad.parse::<TokenPlace>(), Err(InvalidCursor), "{bad:?}");
        }
    }

    #[test]
    fn letters_of_every_script_are_folded() {
        assert_eq!(folded("CI of «ÖDEGÅRD» ΟΔΟΣ"), "ci of «ödegård» οδοσ");
    }

    #[test]
    fn expiry_is_the_order_where_it_is_asked_for() {
        let soon = TokenFilter { expires_before: Some(Timestamp::UNIX_EPOCH), ..TokenFilter::default() };
        let expired = TokenFilter { status: Some(TokenStatus::Expired), ..TokenFilter::default() };
        assert_eq!((soon.order(), expired.order()), (TokenOrder::Expiry, TokenOrder::Expiry));
        let active = TokenFilter { status: Some(TokenStatus::Active), ..TokenFilter::default() };
        assert_eq!((active.order(), TokenFilter::default().order()), (TokenOrder::Made, TokenOrder::Made));
    }
}
