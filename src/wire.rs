//! What filter and service say to each other: paths, headers, questions and verdicts of the edge API (`/edge/v1`).
//!
//! Readers ignore fields that they do not know, so that a filter and a service of neighbouring versions understand
//! each other.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ipnet::IpNet;
use serde::de::value::{Error, MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::token::{HashPrefix, TokenHash};

mod batch;
#[cfg(test)]
mod tests;

pub use batch::{
    InvalidTokenHashes, MAX_TOKEN_HASHES, TokenHashes, TokenVerdict, VerifyBatchRequest, VerifyBatchResponse,
};

/// Where a filter asks for a verdict.
pub const VERIFY_PATH: &str = "/edge/v1/verify";
/// Where a filter hears of changes.
pub const CHANGES_PATH: &str = "/edge/v1/changes";
/// Where a filter reports what tokens were used for.
pub const USAGE_PATH: &str = "/edge/v1/usage";
/// The header of an answer to the question for changes that says how many milliseconds ago the first of its changes was made.
pub const CHANGE_AGE: &str = "x-latchkey-change-age-ms";
/// The header of the question for changes by which a filter asks for [`ChangesResponse::hash_prefixes`] in place of whole
/// hashes, in answers of at most [`MAX_PREFIXES`]. Its value is the [`ChangesResponse::next_offset`] of the answer before, else
/// 0. A header and no parameter, so that a service of an earlier version answers as it always did.
pub const PREFIX_OFFSET: &str = "x-latchkey-prefix-offset";
/// The most hash prefixes of one answer. In JSON it stays under 64 KiB, the smallest window that HTTP/2 opens (RFC 9113), and
/// takes 0.2 s on a line of 320 KB/s, so that keepalives get through and other workers get their turn.
pub const MAX_PREFIXES: usize = 8_000;
/// The only content type of questions and answers (RFC 8259).
pub const CONTENT_TYPE: &str = "application/json";

/// How a client presents a token: the authentication schemes of RFC 7617 and RFC 6750.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `Authorization: Bearer <token>` (RFC 6750).
    Bearer,
    /// `Authorization: Basic base64(<username>:<token>)` (RFC 7617).
    Basic,
}

/// The question of `POST /edge/v1/verify` about one token; [`VerifyBatchRequest`] is about several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// SHA-256 of the token that a client presented.
    pub token_hash: TokenHash,
}

/// The answer of `POST /edge/v1/verify`: what the service says of one token hash, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResponse {
    /// Names the history that `revision` counts in.
    pub epoch: String,
    /// The last change that this verdict takes into account.
    pub revision: u64,
    /// The hash that was asked for.
    pub token_hash: TokenHash,
    /// The token, if it may be used now. An answer that does not say is none.
    #[serde(deserialize_with = "object_or_null")]
    pub token: Option<TokenFacts>,
    /// Why it may not, if it may not; a reason of a later version is read as [`RefusalReason::Unknown`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_reason")]
    pub reason: Option<RefusalReason>,
    /// Which token may not be used, if there is one of this hash: for logs and counts. A service of an earlier version does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object_or_null")]
    pub denied_token: Option<DeniedToken>,
}

/// A token that may not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedToken {
    /// The token's identifier (UUIDv7).
    pub id: String,
    /// The name of the user that it acted for.
    pub user: String,
}

/// What an edge needs to know of a usable token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The token's identifier (UUIDv7).
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// The name of the user that it acts for.
    pub user: String,
    /// The schemes that it may be presented with; schemes of a later version are left out.
    #[serde(deserialize_with = "known_schemes")]
    pub schemes: Vec<Scheme>,
    /// The scopes that it carries, in the order in which they were given.
    pub scopes: Vec<String>,
    /// The networks that it may be used from; none listed: from anywhere.
    pub allowed_cidrs: Vec<IpNet>,
    /// Milliseconds until it expires, counted by the service when it answered; `None`: never.
    pub expires_in_ms: Option<u64>,
}

/// Why the service says no to a token hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// No token has this hash.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked, or replaced by its successor.
    Revoked,
    /// Its user was disabled or deleted.
    UserDisabled,
}

/// The answer of `GET /edge/v1/changes?epoch=E&after=N&wait_ms=W`: the token hashes on which the verdict may be another than
/// it was at revision N.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesResponse {
    /// Names the history that `revision` counts in.
    pub epoch: String,
    /// The last change that this answer tells of: what to ask after next.
    pub revision: u64,
    /// Whether N is not in the history that the service still has: forget every verdict, and go on from `revision`.
    pub reset: bool,
    /// Whether there are later changes already, so that the next question is answered at once.
    pub more: bool,
    /// The token hashes, in the order of their changes; empty when nothing changed within the time to wait.
    pub token_hashes: Vec<TokenHash>,
    /// In place of `token_hashes`, where the question has [`PREFIX_OFFSET`]: the first six bytes of each, one after the other, in
    /// base64 (RFC 4648) without padding. That is 8 characters for each, where a whole hash takes 67.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hash_prefixes")]
    pub hash_prefixes: Vec<HashPrefix>,
    /// Where the change after `revision` touched too many for one answer: how many of its prefixes were told so far, those of this
    /// answer with them. The next question is for what follows `revision` once more, from there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
}

impl ChangesResponse {
    /// The tokens on which the verdict may be another, in whichever form they were told.
    pub fn touched(&self) -> impl Iterator<Item = HashPrefix> {
        self.token_hashes.iter().map(TokenHash::prefix).chain(self.hash_prefixes.iter().copied())
    }

    /// Whether nothing has changed within the time to wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.token_hashes.is_empty() && self.hash_prefixes.is_empty() && !self.more
    }
}

/// How `hash_prefixes` is written.
mod hash_prefixes {
    use super::*;

    pub fn serialize<S: Serializer>(prefixes: &[HashPrefix], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = prefixes.iter().flat_map(|prefix| prefix.to_bytes()).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HashPrefix>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        match bytes.as_chunks::<{ HashPrefix::LENGTH }>() {
            (prefixes, _) if prefixes.len() > MAX_PREFIXES => {
                Err(serde::de::Error::custom("too many hash prefixes for one response"))
            }
            (prefixes, []) => Ok(prefixes.iter().copied().map(HashPrefix::from_bytes).collect()),
            _ => Err(serde::de::Error::custom("hash prefixes are of six bytes each")),
        }
    }
}

/// The most entries of one report (`usage` of [`UsageReport`]); a longer one is refused whole.
pub const MAX_USAGE_ENTRIES: usize = 1000;
/// The longest name of an edge (`edge` of [`UsageReport`]).
pub const MAX_EDGE_NAME: usize = 64;

/// The question of `POST /edge/v1/usage`: what one edge has let through and refused since its report before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageReport {
    /// A random name of the VM that reports: 1 to [`MAX_EDGE_NAME`] of `[A-Za-z0-9_-]`.
    pub edge: String,
    /// Counts this edge's reports: one more with each new one, the same for one that is sent again because its answer
    /// was lost. The service counts a report only if its `sequence` is higher than any it has counted of this edge.
    pub sequence: u64,
    /// What was used, at most [`MAX_USAGE_ENTRIES`] tokens.
    #[serde(deserialize_with = "objects")]
    pub usage: Vec<TokenUsage>,
}

/// The use of one token since the report before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenUsage {
    /// The token's identifier, as [`TokenFacts::id`] said it.
    pub token_id: String,
    /// Requests that went on to the upstream.
    pub allowed: u64,
    /// Requests that presented the token and were denied, whatever the reason: it was revoked or expired, or a scope, an
    /// address, a scheme or a user name was wrong.
    pub denied: u64,
    /// Milliseconds from the last one that was allowed to the sending of the report; without meaning where none was.
    pub last_used_ms_ago: u64,
}

/// The answer of `POST /edge/v1/usage`: what was reported is written down, now or before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageResponse {
    /// Names the history that `revision` counts in.
    pub epoch: String,
    /// The last change of that history when the report was counted; a report makes none.
    pub revision: u64,
}

/// The value of an enumeration that is spelt so; `None`: this version knows none.
fn known<'de, T: Deserialize<'de>>(name: &'de str) -> Option<T> {
    T::deserialize(StrDeserializer::<Error>::new(name)).ok()
}

fn known_reason<'de, D: Deserializer<'de>>(reason: D) -> Result<Option<RefusalReason>, D::Error> {
    let name = Option::<String>::deserialize(reason)?;
    Ok(name.map(|name| known(&name).unwrap_or(RefusalReason::Unknown)))
}

fn known_schemes<'de, D: Deserializer<'de>>(schemes: D) -> Result<Vec<Scheme>, D::Error> {
    let names = Vec::<String>::deserialize(schemes)?;
    Ok(names.iter().filter_map(|name| known(name)).collect())
}

/// Reads an answer of the service, which is an object. An array would do otherwise, its items taken as the fields in order.
///
/// # Errors
/// What is no JSON, no object, or lacks a field.
pub fn read_answer<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(json).map(|object| object.0)
}

/// An object, or null.
fn object_or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(value)?.map(|object| object.0))
}

/// A list of objects. An array would do for each otherwise, its items taken as the fields in order.
fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(list)?.into_iter().map(|object| object.0).collect())
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        object.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}
