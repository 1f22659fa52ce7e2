//! Tokens: what the service knows of one, what a caller may ask for, and whether one is live.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use latchkey::token::{Secret, TokenHash};
use latchkey::wire::Scheme;

use super::network::network;
use super::period::Period;
use super::scope::Scopes;
use super::text::{Invalid, id_type, plain, shown_name, text_type};
use super::user::{UserId, UserName};
use crate::domain::time::Timestamp;

/// The most networks that one token can be bound to.
pub const MOST_NETWORKS: usize = 32;

id_type! {
    /// A token's identifier (UUIDv7). It is no secret.
    TokenId
}

text_type! {
    /// The name that an owner gives a token: 1 to 100 characters, no control characters or marks of direction, no white
    /// space at either end, neither `<` nor `>`.
    TokenName,
    |text| shown_name(text, 1, 100)
}

text_type! {
    /// What an owner notes about a token: at most 500 characters, no control characters or marks of direction.
    Description,
    |text| plain(text, 0, 500)
}

/// The schemes that a token may be presented with: at least one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Schemes(Vec<Scheme>);

impl Schemes {
    /// Collects schemes, each once, Bearer first.
    ///
    /// # Errors
    /// [`Invalid`] when there is none.
    pub fn new(schemes: impl IntoIterator<Item = Scheme>) -> Result<Self, Invalid> {
        let mut schemes: Vec<Scheme> = schemes.into_iter().collect();
        schemes.sort();
        schemes.dedup();
        if schemes.is_empty() {
            return Err(Invalid::because("must hold at least one of \"bearer\" and \"basic\""));
        }
        Ok(Self(schemes))
    }

    /// The schemes, Bearer first.
    #[must_use]
    pub fn as_slice(&self) -> &[Scheme] {
        &self.0
    }

    /// Whether the token may be presented with this scheme.
    #[must_use]
    pub fn contains(&self, scheme: Scheme) -> bool {
        self.0.contains(&scheme)
    }

    /// Whether these are all among `outer`.
    #[must_use]
    pub fn within(&self, outer: &Self) -> bool {
        self.0.iter().all(|scheme| outer.contains(*scheme))
    }

    /// The schemes by their names, separated by spaces.
    pub(crate) fn listed(&self) -> String {
        let name = |scheme: &Scheme| match scheme {
            Scheme::Bearer => "bearer",
            Scheme::Basic => "basic",
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

impl Default for Schemes {
    /// All of them.
    fn default() -> Self {
        Self(vec![Scheme::Bearer, Scheme::Basic])
    }
}

/// The networks that a token may be used from; none listed: from anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads networks such as `10.0.0.0/8`, and single addresses such as `2001:db8::1`.
    ///
    /// # Errors
    /// [`Invalid`] when one is neither, has bits set after its prefix, or there are more than [`MOST_NETWORKS`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut networks = Vec::new();
        let mut texts = texts.into_iter().enumerate();
        while let Some((index, text)) = texts.next() {
            let network = network(text)?;
            if !networks.contains(&network) {
                networks.push(network);
            }
            if networks.len() > MOST_NETWORKS {
                let given = index + 1 + texts.count();
                return Err(Invalid(format!(
                    "must hold at most {MOST_NETWORKS} networks, and {given} are given"
                )));
            }
        }
        Ok(Self(networks))
    }

    /// The networks in the order in which they were given.
    #[must_use]
    pub fn as_slice(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether a token that is bound to these may be used from nowhere that one bound to `outer` may not.
    #[must_use]
    pub fn within(&self, outer: &Self) -> bool {
        let covered = |network: &IpNet| outer.0.iter().any(|one| one.contains(network));
        outer.0.is_empty() || (!self.0.is_empty() && self.0.iter().all(covered))
    }

    /// The networks separated by spaces.
    pub(crate) fn listed(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// When a new token shall expire, as its maker asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As late as the restrictions allow: never, where they set no longest lifetime.
    #[default]
    Latest,
    /// So long after it is made.
    In(Period),
    /// At a time.
    At(Timestamp),
}

/// What a caller asks for in a new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpec {
    /// Its name; names need not be unique.
    pub name: TokenName,
    /// A note about it.
    pub description: Option<Description>,
    /// What it may be presented with.
    pub schemes: Schemes,
    /// What it permits.
    pub scopes: Scopes,
    /// Where it may be used from.
    pub allowed_cidrs: Networks,
    /// When it expires.
    pub expiry: Expiry,
}

impl TokenSpec {
    /// A token for every scheme, from anywhere, with no scopes, that lasts as long as is allowed.
    #[must_use]
    pub fn named(name: TokenName) -> Self {
        Self {
            name,
            description: None,
            schemes: Schemes::default(),
            scopes: Scopes::default(),
            allowed_cidrs: Networks::default(),
            expiry: Expiry::Latest,
        }
    }
}

/// A token to be stored: what was asked for, and what may be kept of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What was asked for.
    pub spec: TokenSpec,
    /// The hash that will stand for it.
    pub hash: TokenHash,
    /// Its prefix and first characters.
    pub hint: String,
    /// When it was made, where that was elsewhere and before; `None`: now.
    pub created_at: Option<Timestamp>,
}

impl NewToken {
    /// Binds what was asked for to a secret, which is not kept.
    #[must_use]
    pub fn new(spec: TokenSpec, secret: &Secret) -> Self {
        Self { spec, hash: secret.hash(), hint: secret.hint(), created_at: None }
    }
}

/// A token as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The identifier.
    pub id: TokenId,
    /// The user that it acts for.
    pub user: UserName,
    /// The identifier of that user.
    pub user_id: UserId,
    /// The name that its owner gave it.
    pub name: TokenName,
    /// A note about it.
    pub description: Option<Description>,
    /// Its prefix and first characters, by which an owner recognises it.
    pub hint: String,
    /// SHA-256 of it.
    pub hash: TokenHash,
    /// What it may be presented with.
    pub schemes: Schemes,
    /// What it permits.
    pub scopes: Scopes,
    /// Where it may be used from.
    pub allowed_cidrs: Networks,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is expired; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// The token that it succeeds.
    pub rotated_from: Option<TokenId>,
    /// The last token that was made to succeed it. It may work for an overlap then, and is not counted as its user's.
    pub rotated_to: Option<TokenId>,
    /// The token that it was made with, or the nearest of that one's own makers that is still there; `None`: it was made
    /// with no token, or none of its makers is left.
    pub made_by: Option<TokenId>,
    /// When it was first looked up, if it succeeds another token.
    pub in_use_since: Option<Timestamp>,
}

/// What has become of a token by itself: whether its user is active is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenStatus {
    /// It is neither expired nor revoked.
    Active,
    /// Its time is over, and it was not revoked.
    Expired,
    /// It was revoked, whether or not its time is over as well.
    Revoked,
}

impl fmt::Display for TokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

impl FromStr for TokenStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::Active, Self::Expired, Self::Revoked];
        let found = all.into_iter().find(|status| status.to_string() == text);
        found.ok_or_else(|| Invalid::because("must be one of active, expired, revoked"))
    }
}

impl Token {
    /// The status at a time. A token is expired from the very millisecond `expires_at` on.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> TokenStatus {
        if self.revoked_at.is_some() {
            TokenStatus::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            TokenStatus::Expired
        } else {
            TokenStatus::Active
        }
    }

    /// Whether it succeeds another token, and nobody is known to have presented it yet. A repeated rotation may take its
    /// place until then.
    #[must_use]
    pub const fn is_unused_successor(&self) -> bool {
        self.rotated_from.is_some() && self.in_use_since.is_none() && self.last_used_at.is_none()
    }

    /// Milliseconds until it expires, 0 when it is over; `None`: never.
    #[must_use]
    pub fn expires_in_ms(&self, now: Timestamp) -> Option<u64> {
        self.expires_at.map(|end| u64::try_from(end.as_millisecond() - now.as_millisecond()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_expired_from_the_very_millisecond_on() {
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let just_before = Period::from_millis(1).before(end);
        let mut token = Token { expires_at: Some(end), ..Token::example() };
        assert_eq!(token.status(just_before), TokenStatus::Active);
        assert_eq!(token.expires_in_ms(just_before), Some(1));
        assert_eq!(token.status(end), TokenStatus::Expired);
        assert_eq!(token.expires_in_ms(Period::from_days(1).after(end)), Some(0));
        token.revoked_at = Some(just_before);
        assert_eq!(token.status(end), TokenStatus::Revoked);
        token.expires_at = None;
        assert_eq!(token.expires_in_ms(end), None);
    }

    #[test]
    fn networks_are_networks_or_single_addresses() {
        let parsed =
            Networks::parse(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "10.0.0.0/8"]).unwrap();
        let texts: Vec<String> = parsed.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"]);
        for bad in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8 "] {
            assert!(Networks::parse([bad]).is_err(), "{bad:?}");
        }
        let sloppy = Networks::parse(["10.1.2.3/8"]).unwrap_err().to_string();
        assert!(sloppy.contains("10.0.0.0/8 and not 10.1.2.3/8"), "{sloppy}");
    }

    #[test]
    fn schemes_are_at_least_one_each_once() {
        assert!(Schemes::new([]).is_err());
        assert_eq!(Schemes::new([Scheme::Basic, Scheme::Bearer, Scheme::Basic]), Ok(Schemes::default()));
        assert!(!Schemes::new([Scheme::Basic]).unwrap().contains(Scheme::Bearer));
    }

    impl Token {
        /// A live token with nothing special about it.
        pub(crate) fn example() -> Self {
            Self {
                id: TokenId(uuid::Uuid::nil()),
                user: "alice".parse().unwrap(),
                user_id: UserId(uuid::Uuid::nil()),
                name: "ci".parse().unwrap(),
                description: None,
                hint: "lk_abcd".to_owned(),
                hash: TokenHash::of(b"x"),
                schemes: Schemes::default(),
                scopes: Scopes::default(),
                allowed_cidrs: Networks::default(),
                created_at: Timestamp::UNIX_EPOCH,
                expires_at: None,
                revoked_at: None,
                last_used_at: None,
                rotated_from: None,
                rotated_to: None,
                made_by: None,
                in_use_since: None,
            }
        }
    }
}
