//! Headers: what is read from a request's, in one pass, and what the filter sets in them and in no other hands' way.

use std::str::FromStr;

use crate::credential::Values;
use crate::gate::Identity;
use crate::rules::{MAX_METHODS, Target};
use crate::trace::Traceparent;

#[cfg(test)]
mod tests;

/// The header that carries credentials, as Envoy spells names.
pub const AUTHORIZATION: &str = "authorization";
/// The response header that tells in how many seconds the token expires.
pub const EXPIRES_IN: &str = "x-latchkey-expires-in";
/// Names that Envoy or HTTP itself gives a meaning to; an identity in one of them would break the request.
const RESERVED: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header's name (RFC 9110 §5.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

/// A text that cannot name an identity header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an identity header is 1 to 128 letters, digits and -, and none that HTTP itself needs, such as x-latchkey-user"
)]
pub struct InvalidHeaderName;

impl HeaderName {
    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an upstream may take `name` for this header: many read `_` as `-`, some (RFC 3875 §4.1.18) every character
    /// that is no letter and no digit, and none minds the case.
    #[must_use]
    #[inline]
    pub fn is_meant_by(&self, name: &[u8]) -> bool {
        is_read_as(name, self.0.as_bytes())
    }
}

/// Whether some server takes `name` for the header `meant`, which is in lower case and has no `_`.
#[inline]
fn is_read_as(name: &[u8], meant: &[u8]) -> bool {
    // Most names differ in their length or their end.
    name.len() == meant.len()
        && name.last().map(dashed) == meant.last().copied()
        && name.iter().map(dashed).eq(meant.iter().copied())
}

/// A byte of a name, as servers read it that know letters, digits and `-` alone.
fn dashed(byte: &u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

impl FromStr for HeaderName {
    type Err = InvalidHeaderName;

    fn from_str(text: &str) -> Result<Self, InvalidHeaderName> {
        let name = text.to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let sound = (1..=128).contains(&name.len()) && name.bytes().all(allowed);
        if sound && !RESERVED.contains(&name.as_str()) { Ok(Self(name)) } else { Err(InvalidHeaderName) }
    }
}

/// The headers that tell an upstream who a request acts for. Whatever a client sends in them is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Carries the user's name.
    pub user: HeaderName,
    /// Carries the token's identifier.
    pub token_id: HeaderName,
    /// Carries the token's scopes, separated by spaces.
    pub scopes: HeaderName,
    /// Whether the filter sets them.
    pub set: bool,
}

impl Default for IdentityHeaders {
    /// The contract's default names, set.
    fn default() -> Self {
        let name = |name: &str| HeaderName(name.to_owned());
        Self {
            user: name("x-latchkey-user"),
            token_id: name("x-latchkey-token-id"),
            scopes: name("x-latchkey-scopes"),
            set: true,
        }
    }
}

impl IdentityHeaders {
    /// Whether a client's header could be taken for one of these.
    #[must_use]
    #[inline]
    pub fn is_spoof(&self, name: &[u8]) -> bool {
        self.user.is_meant_by(name) || self.token_id.is_meant_by(name) || self.scopes.is_meant_by(name)
    }

    /// The headers to set for `identity`: names and values.
    pub fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = (&'a str, &'a str)> {
        let headers = [
            (self.user.as_str(), identity.user()),
            (self.token_id.as_str(), identity.token_id()),
            (self.scopes.as_str(), identity.scope_list()),
        ];
        headers.into_iter().filter(|_| self.set)
    }
}

/// What the filter needs of one request's headers.
#[derive(Clone, Debug, Default)]
pub struct RequestHeaders<'a> {
    /// What rules look at.
    pub target: Target<'a>,
    /// The values of the `Authorization` lines.
    pub authorization: Values<'a>,
    /// Whether it is a gRPC request.
    pub grpc: bool,
    /// The trace that it belongs to.
    pub trace: Option<Traceparent<'a>>,
    /// What logs call the request by.
    pub request_id: Option<&'a [u8]>,
    /// The names of headers that could be taken for identity headers, as they are spelt.
    pub spoofed: Vec<&'a [u8]>,
}

impl<'a> RequestHeaders<'a> {
    /// Reads name and value pairs, names in lower case.
    #[must_use]
    pub fn read(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, identity: &IdentityHeaders) -> Self {
        let mut read = Self::default();
        for (name, value) in pairs {
            match name {
                b":method" => read.target.method = value,
                b":path" => read.target.path = Some(value),
                b":authority" => read.target.authority = Some(value),
                b"content-type" => read.grpc = is_grpc(value),
                b"authorization" => read.authorization.add(value),
                b"traceparent" => read.trace = Traceparent::of(value),
                b"x-request-id" => read.request_id = Some(value),
                name if identity.is_spoof(name) => read.spoofed.push(name),
                name if Override::may_be(name) => read.target.add_override(name, value),
                _ => {}
            }
        }
        read
    }
}

impl<'a> Target<'a> {
    /// Keeps what a header replaces, if this is such a header.
    #[cold]
    fn add_override(&mut self, name: &[u8], value: &'a [u8]) {
        let Some(replaced) = Override::of(name) else { return };
        let overrides = self.overrides.get_or_insert_default();
        // Of a list, servers take the first, the last or each one, or the value as it is.
        let mut parts =
            value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty());
        match replaced {
            Override::Method => {
                // More than are looked at are refused as too many, so they need not be collected.
                std::iter::once(value).chain(parts).for_each(|part| {
                    if overrides.methods.len() <= MAX_METHODS && !overrides.methods.contains(&part) {
                        overrides.methods.push(part);
                    }
                });
            }
            Override::Path => {
                let (first, last) = (parts.next(), parts.next_back());
                for part in std::iter::once(value).chain(first).chain(last) {
                    if !overrides.paths.contains(&part) {
                        overrides.paths.push(part);
                    }
                }
            }
        }
    }
}

/// What a header may replace in the eyes of some servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Override {
    Method,
    Path,
}

impl Override {
    const NAMES: [(&str, Self); 5] = [
        ("x-http-method-override", Self::Method),
        ("x-http-method", Self::Method),
        ("x-method-override", Self::Method),
        ("x-original-url", Self::Path),
        ("x-rewrite-url", Self::Path),
    ];

    /// The lengths of the names, one bit each.
    const LENGTHS: u32 = {
        let [(a, _), (b, _), (c, _), (d, _), (e, _)] = Self::NAMES;
        1 << a.len() | 1 << b.len() | 1 << c.len() | 1 << d.len() | 1 << e.len()
    };

    /// Whether a name can be one of these by its length and its last letter.
    fn may_be(name: &[u8]) -> bool {
        name.len() < 32
            && Self::LENGTHS >> name.len() & 1 == 1
            && matches!(name.last(), Some(b'e' | b'd' | b'l' | b'E' | b'D' | b'L'))
    }

    /// What a header of this name may replace.
    fn of(name: &[u8]) -> Option<Self> {
        let meant = Self::NAMES.iter().find(|(meant, _)| is_read_as(name, meant.as_bytes()));
        meant.map(|(_, replaced)| *replaced)
    }
}

/// Whether Envoy takes a request of this content type for a gRPC request.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// Whether an answer of this content type is JSON (RFC 9110 §8.3.1).
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or(content_type);
    media_type.trim_ascii().eq_ignore_ascii_case(crate::wire::CONTENT_TYPE.as_bytes())
}

/// A path without its query, where some clients put credentials.
#[must_use]
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or(path)
}

/// A value of a request as one word of a log's line: what is no visible ASCII stands as `?`, and after so many bytes it ends.
#[must_use]
pub fn loggable(value: &[u8], most: usize) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    let mut text: String = value.iter().take(most).map(shown).collect();
    if value.len() > most {
        text.push('…');
    }
    text
}
