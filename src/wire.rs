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

/// The question of `POST /edge/v1/verify`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_spelt_as_the_contract_spells_them() {
        let hash = TokenHash::of(b"x");
        let refused = VerifyResponse {
            epoch: "e".to_owned(),
            revision: 7,
            token_hash: hash,
            token: None,
            reason: Some(RefusalReason::UserDisabled),
            denied_token: None,
        };
        assert_eq!(
            serde_json::to_value(&refused).unwrap(),
            serde_json::json!({
                "epoch": "e", "revision": 7, "token_hash": hash.to_string(), "token": null, "reason": "user_disabled",
            })
        );
        let known = DeniedToken { id: "i".to_owned(), user: "alice".to_owned() };
        let known = VerifyResponse { denied_token: Some(known), ..refused.clone() };
        let json = serde_json::to_value(&known).unwrap();
        assert_eq!(json["denied_token"], serde_json::json!({"id": "i", "user": "alice"}));
        assert_eq!(serde_json::from_value::<VerifyResponse>(json).unwrap(), known);
        let usable = VerifyResponse {
            token: Some(TokenFacts {
                id: "i".to_owned(),
                name: "ci".to_owned(),
                user: "alice".to_owned(),
                schemes: vec![Scheme::Bearer, Scheme::Basic],
                scopes: vec!["read".to_owned()],
                allowed_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
                expires_in_ms: None,
            }),
            reason: None,
            ..refused
        };
        let json = serde_json::to_value(&usable).unwrap();
        assert_eq!(
            json["token"],
            serde_json::json!({
                "id": "i", "name": "ci", "user": "alice", "schemes": ["bearer", "basic"], "scopes": ["read"],
                "allowed_cidrs": ["10.0.0.0/8"], "expires_in_ms": null,
            })
        );
        assert!(json.get("reason").is_none());
        assert_eq!(serde_json::from_value::<VerifyResponse>(json).unwrap(), usable);
    }

    #[test]
    fn changes_are_spelt_as_the_contract_spells_them_and_prefixes_are_there_where_they_were_asked_for() {
        let hashes = [b"x", b"y"].map(|token| TokenHash::of(token));
        let [x, y] = hashes.map(|hash| hash.to_string());
        let plain = ChangesResponse {
            epoch: "e".to_owned(),
            revision: 7,
            reset: false,
            more: false,
            token_hashes: hashes.to_vec(),
            hash_prefixes: Vec::new(),
            next_offset: None,
        };
        let json = serde_json::json!({"epoch": "e", "revision": 7, "reset": false, "more": false, "token_hashes": [x, y]});
        assert_eq!(serde_json::to_value(&plain).unwrap(), json);
        let prefixes = ChangesResponse {
            token_hashes: Vec::new(),
            hash_prefixes: hashes.map(|hash| hash.prefix()).to_vec(),
            next_offset: Some(2),
            ..plain.clone()
        };
        let json = serde_json::json!({
            "epoch": "e", "revision": 7, "reset": false, "more": false, "token_hashes": [],
            "hash_prefixes": "LXEWQrcmofzkNjhU", "next_offset": 2,
        });
        assert_eq!(serde_json::to_value(&prefixes).unwrap(), json);
        assert_eq!(read_answer::<ChangesResponse>(json.to_string().as_bytes()).unwrap(), prefixes);
        assert!(plain.touched().eq(prefixes.touched()));
        for wrong in ["LXEWQrcmofzkNjh", "LXEW", "*"] {
            let mut json = json.clone();
            json["hash_prefixes"] = wrong.into();
            assert!(read_answer::<ChangesResponse>(json.to_string().as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_largest_answer_of_prefixes_fits_into_the_smallest_window_of_http2() {
        let answer = ChangesResponse {
            epoch: "019ab000-0000-7000-8000-000000000000".to_owned(),
            revision: u64::MAX,
            reset: false,
            more: false,
            token_hashes: Vec::new(),
            hash_prefixes: vec![TokenHash::of(b"x").prefix(); MAX_PREFIXES],
            next_offset: Some(u64::MAX),
        };
        assert!(serde_json::to_vec(&answer).unwrap().len() < 64 * 1024);
    }

    #[test]
    fn a_usage_report_is_spelt_as_the_contract_spells_it() {
        let report = UsageReport {
            edge: "e1".to_owned(),
            sequence: 3,
            usage: vec![TokenUsage { token_id: "i".to_owned(), allowed: 2, denied: 1, last_used_ms_ago: 40 }],
        };
        let json = serde_json::json!({
            "edge": "e1", "sequence": 3,
            "usage": [{"token_id": "i", "allowed": 2, "denied": 1, "last_used_ms_ago": 40}],
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), json);
        assert_eq!(serde_json::from_value::<UsageReport>(json).unwrap(), report);
        let array = serde_json::json!({"edge": "e1", "sequence": 3, "usage": [["i", 2, 1, 40]]});
        assert!(serde_json::from_value::<UsageReport>(array).is_err());
    }

    #[test]
    fn an_answer_that_is_an_array_is_none_at_any_depth() {
        let hash = TokenHash::of(b"x").to_string();
        let read = |json: serde_json::Value| read_answer::<VerifyResponse>(json.to_string().as_bytes());
        let token = serde_json::json!({
            "id": "i", "name": "ci", "user": "alice", "schemes": ["bearer"], "scopes": [],
            "allowed_cidrs": [], "expires_in_ms": null,
        });
        let positions = serde_json::json!(["i", "ci", "alice", ["bearer"], [], [], null]);
        let object = |token: &serde_json::Value| serde_json::json!({"epoch": "e", "revision": 1, "token_hash": hash, "token": token});
        assert!(read(object(&token)).is_ok());
        assert!(read(object(&positions)).is_err());
        assert!(read(serde_json::json!(["e", 1, hash, token, null])).is_err());
        let mut denied = object(&serde_json::Value::Null);
        denied["denied_token"] = serde_json::json!(["i", "alice"]);
        assert!(read(denied).is_err());
        let changes = serde_json::json!(["e", 1, false, false, []]).to_string();
        assert!(read_answer::<ChangesResponse>(changes.as_bytes()).is_err());
        assert!(read_answer::<UsageResponse>(b"[\"e\", 1]").is_err());
    }

    #[test]
    fn what_a_later_version_adds_is_no_outage_and_an_answer_that_lacks_the_token_is_no_refusal() {
        let hash = TokenHash::of(b"x");
        let answer = |change: serde_json::Value| {
            let mut json =
                serde_json::json!({"epoch": "e", "revision": 7, "token_hash": hash.to_string(), "later": 1});
            json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            serde_json::from_value::<VerifyResponse>(json)
        };
        let refused = answer(serde_json::json!({"token": null, "reason": "moved"})).unwrap();
        assert_eq!(refused.reason, Some(RefusalReason::Unknown));
        let token = serde_json::json!({
            "id": "i", "name": "ci", "user": "alice", "schemes": ["dpop", "bearer"], "scopes": [],
            "allowed_cidrs": [], "expires_in_ms": null, "later": 1,
        });
        let usable = answer(serde_json::json!({"token": token})).unwrap();
        assert_eq!(usable.token.unwrap().schemes, [Scheme::Bearer]);
        assert!(answer(serde_json::json!({})).is_err());
        assert!(answer(serde_json::json!({"reason": "revoked"})).is_err());
    }
}
