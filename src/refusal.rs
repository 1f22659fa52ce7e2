//! What a refused client is told: each reason's status, challenges (RFC 9110 §11.6.1), body, gRPC status and metric name.
//!
//! The client learns the kind of refusal alone; the exact reason goes to metrics and access logs.

use std::sync::Arc;

use crate::challenges::Challenges;
use crate::credential::{CredentialError, Schemes};
use crate::wire::{RefusalReason, Scheme};

#[cfg(test)]
mod tests;

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No credential was presented.
    Missing,
    /// The credential's scheme is not enabled.
    UnsupportedScheme,
    /// The credential does not follow its grammar, or its token is not shaped as ours are.
    Malformed,
    /// The token's checksum is wrong: mistyped, or made up.
    Checksum,
    /// No token has this hash.
    Unknown,
    /// The token's time is over.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The token's user was disabled or deleted.
    UserDisabled,
    /// The token belongs to another user than the one who was named (Basic).
    WrongUser,
    /// The token was not made for this scheme.
    WrongScheme,
    /// More than one credential was presented.
    MultipleCredentials,
    /// The token lacks a scope that the request needs.
    InsufficientScope,
    /// The token may not be used from this address.
    Address,
    /// The service could not be asked, or its answer was none.
    Unavailable,
    /// Too many requests are waiting for an answer already.
    Overloaded,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::UnsupportedScheme,
        Self::Malformed,
        Self::Checksum,
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::UserDisabled,
        Self::WrongUser,
        Self::WrongScheme,
        Self::MultipleCredentials,
        Self::InsufficientScope,
        Self::Address,
        Self::Unavailable,
        Self::Overloaded,
    ];

    /// The reason in metric names, after `latchkey.refused.`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.details().trim_start_matches("latchkey_")
    }

    /// The response code details of Envoy's access log.
    #[must_use]
    pub const fn details(self) -> &'static str {
        match self {
            Self::Missing => "latchkey_missing",
            Self::UnsupportedScheme => "latchkey_unsupported_scheme",
            Self::Malformed => "latchkey_malformed",
            Self::Checksum => "latchkey_checksum",
            Self::Unknown => "latchkey_unknown",
            Self::Expired => "latchkey_expired",
            Self::Revoked => "latchkey_revoked",
            Self::UserDisabled => "latchkey_user_disabled",
            Self::WrongUser => "latchkey_wrong_user",
            Self::WrongScheme => "latchkey_wrong_scheme",
            Self::MultipleCredentials => "latchkey_multiple_credentials",
            Self::InsufficientScope => "latchkey_insufficient_scope",
            Self::Address => "latchkey_address",
            Self::Unavailable => "latchkey_unavailable",
            Self::Overloaded => "latchkey_overloaded",
        }
    }

    /// The HTTP status of the refusal.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Missing
            | Self::UnsupportedScheme
            | Self::Malformed
            | Self::Checksum
            | Self::Unknown
            | Self::Expired
            | Self::Revoked
            | Self::UserDisabled
            | Self::WrongUser
            | Self::WrongScheme => 401,
            Self::MultipleCredentials => 400,
            Self::InsufficientScope | Self::Address => 403,
            Self::Unavailable | Self::Overloaded => 503,
        }
    }

    /// The `grpc-status` of the refusal of a gRPC request: `UNAUTHENTICATED`, `PERMISSION_DENIED`, `INTERNAL` or
    /// `UNAVAILABLE`, as Envoy maps the HTTP statuses.
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        match self.status() {
            400 => 13,
            401 => 16,
            403 => 7,
            _ => 14,
        }
    }

    /// What the client is told.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Missing => "API key is missing",
            Self::MultipleCredentials => "More than one credential was provided",
            Self::InsufficientScope => "API key does not permit this request",
            Self::Address => "API key is not permitted from this address",
            Self::Unavailable | Self::Overloaded => "Authorization is temporarily unavailable",
            _ => "Provided API key is invalid",
        }
    }

    /// The body that every refusal by the filter has.
    #[must_use]
    pub fn body(self) -> String {
        format!(r#"{{ "error": {{ "status": "ERROR", "message": "{}" }} }}"#, self.message())
    }
}

impl From<RefusalReason> for Reason {
    fn from(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::Unknown => Self::Unknown,
            RefusalReason::Expired => Self::Expired,
            RefusalReason::Revoked => Self::Revoked,
            RefusalReason::UserDisabled => Self::UserDisabled,
        }
    }
}

/// The protection space that challenges name (RFC 9110 §11.5): 1 to 64 printable ASCII characters, no `"` and no `\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(String);

/// A text that cannot be a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a realm is 1 to 64 printable ASCII characters, without \" and \\")]
pub struct InvalidRealm;

impl Realm {
    /// The realm as it stands between the quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Realm {
    /// `api`, the contract's default.
    fn default() -> Self {
        Self("api".to_owned())
    }
}

impl std::str::FromStr for Realm {
    type Err = InvalidRealm;

    fn from_str(text: &str) -> Result<Self, InvalidRealm> {
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRealm)
        }
    }
}

/// A refusal: its reason, and what its challenge needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    /// The scheme that was used, if it is one of the enabled ones.
    scheme: Option<Scheme>,
    /// The scopes that the request needs, for a refusal that is about them.
    scopes: Option<Arc<[String]>>,
    /// What a client is challenged for that used none of the enabled schemes; `None`: each of these.
    challenges: Option<Challenges>,
}

impl Refusal {
    /// A refusal of a request whose credential came with `scheme`; `None` where there was none that is enabled.
    #[must_use]
    pub fn new(reason: Reason, scheme: Option<Scheme>) -> Self {
        Self { reason, scheme, scopes: None, challenges: None }
    }

    /// A refusal for want of one or more of `scopes`, all of which the request needs.
    #[must_use]
    pub fn insufficient_scope(scopes: &Arc<[String]>) -> Self {
        Self { scopes: Some(Arc::clone(scopes)), ..Self::new(Reason::InsufficientScope, None) }
    }

    /// The same, for a client that is to be challenged for these schemes where it used none.
    #[must_use]
    pub fn challenging(self, challenges: Challenges) -> Self {
        Self { challenges: Some(challenges), ..self }
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The `WWW-Authenticate` values, one per line (RFC 6750 §3, RFC 7617 §2).
    #[must_use]
    pub fn challenges(&self, realm: &Realm, schemes: Schemes) -> Vec<String> {
        let realm = realm.as_str();
        let scope = self.scopes.as_deref().unwrap_or_default().join(" ");
        match (self.reason, self.reason.status()) {
            (Reason::InsufficientScope, _) => {
                vec![format!(r#"Bearer realm="{realm}", error="insufficient_scope", scope="{scope}""#)]
            }
            (Reason::Missing, _) => {
                self.asked_for(schemes).iter().map(|scheme| challenge(*scheme, realm, "")).collect()
            }
            (_, 401) => {
                let asked_for = self.scheme.map_or_else(|| self.asked_for(schemes), |used| vec![used]);
                let invalid = |scheme: &Scheme| challenge(*scheme, realm, r#", error="invalid_token""#);
                asked_for.iter().map(invalid).collect()
            }
            (_, 400) if schemes.contains(Scheme::Bearer) => {
                vec![challenge(Scheme::Bearer, realm, r#", error="invalid_request""#)]
            }
            _ => Vec::new(),
        }
    }

    /// The schemes that a client is challenged for that used none of them.
    fn asked_for(&self, schemes: Schemes) -> Vec<Scheme> {
        match self.challenges {
            Some(challenges) => challenges.iter().collect(),
            None => schemes.iter().collect(),
        }
    }

    /// Every header of the refusal but its content type, names in lower case.
    #[must_use]
    pub fn headers(&self, realm: &Realm, schemes: Schemes) -> Vec<(&'static str, String)> {
        let challenges = self.challenges(realm, schemes).into_iter();
        let mut headers: Vec<_> = challenges.map(|value| ("www-authenticate", value)).collect();
        if self.reason.status() == 503 {
            headers.push(("retry-after", "1".to_owned()));
        }
        headers
    }

    /// What the answer follows from, where that is its reason and schemes alone.
    #[must_use]
    pub fn always_the_same(&self) -> Option<(Reason, Option<Scheme>, Option<Challenges>)> {
        self.scopes.is_none().then_some((self.reason, self.scheme, self.challenges))
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Missing => Self::new(Reason::Missing, None),
            CredentialError::Multiple => Self::new(Reason::MultipleCredentials, None),
            CredentialError::UnsupportedScheme => Self::new(Reason::UnsupportedScheme, None),
            CredentialError::Malformed(scheme) => Self::new(Reason::Malformed, scheme),
            CredentialError::Checksum(scheme) => Self::new(Reason::Checksum, Some(scheme)),
        }
    }
}

/// One challenge. The `error` attribute is Bearer's; Basic has none.
fn challenge(scheme: Scheme, realm: &str, error: &str) -> String {
    match scheme {
        Scheme::Bearer => format!(r#"Bearer realm="{realm}"{error}"#),
        Scheme::Basic => format!(r#"Basic realm="{realm}", charset="UTF-8""#),
    }
}
