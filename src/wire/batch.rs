//! `POST /edge/v1/verify` for several tokens at once: one request and one response for misses that come together.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{DeniedToken, Object, RefusalReason, TokenFacts, VerifyResponse, known_reason, object_or_null};
use crate::token::TokenHash;

/// The most token hashes of one [`VerifyBatchRequest`]: as many as the service looks up by one statement.
pub const MAX_TOKEN_HASHES: usize = 64;

/// The request for the verdicts on several tokens. A service of an earlier version responds with 400.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyBatchRequest {
    /// SHA-256 of each token.
    pub token_hashes: TokenHashes,
}

/// 1 to [`MAX_TOKEN_HASHES`] token hashes, in the order in which the response names them. One may be there several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TokenHashes(Vec<TokenHash>);

/// No token hash, or more than one request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must hold 1 to {MAX_TOKEN_HASHES} token hashes")]
pub struct InvalidTokenHashes;

impl TokenHashes {
    /// The hashes.
    #[must_use]
    pub fn as_slice(&self) -> &[TokenHash] {
        &self.0
    }
}

impl From<TokenHash> for TokenHashes {
    fn from(hash: TokenHash) -> Self {
        Self(vec![hash])
    }
}

impl TryFrom<Vec<TokenHash>> for TokenHashes {
    type Error = InvalidTokenHashes;

    fn try_from(hashes: Vec<TokenHash>) -> Result<Self, InvalidTokenHashes> {
        let fits = (1..=MAX_TOKEN_HASHES).contains(&hashes.len());
        if fits { Ok(Self(hashes)) } else { Err(InvalidTokenHashes) }
    }
}

impl<'de> Deserialize<'de> for TokenHashes {
    fn deserialize<D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        let expected = "an array of token hashes";
        let hashes = list.deserialize_seq(Few { expected, item: PhantomData })?;
        Self::try_from(hashes).map_err(Error::custom)
    }
}

/// The response to a [`VerifyBatchRequest`]: what the service says of each of its token hashes, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyBatchResponse {
    /// Names the history that `revision` counts in.
    pub epoch: String,
    /// The last change that every one of the verdicts takes into account.
    pub revision: u64,
    /// One for each hash of the request, in its order.
    #[serde(deserialize_with = "verdicts")]
    pub verdicts: Vec<TokenVerdict>,
}

/// What a [`VerifyBatchResponse`] says of one token hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenVerdict {
    /// The hash that this is about.
    pub token_hash: TokenHash,
    /// As [`VerifyResponse::token`].
    #[serde(deserialize_with = "object_or_null")]
    pub token: Option<TokenFacts>,
    /// As [`VerifyResponse::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_reason")]
    pub reason: Option<RefusalReason>,
    /// As [`VerifyResponse::denied_token`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object_or_null")]
    pub denied_token: Option<DeniedToken>,
}

impl VerifyBatchResponse {
    /// Each verdict as the response to a request for it alone, in the same order. Whether it is about the hash that was
    /// requested in its place is for the caller to check, as with the response to a single request.
    pub fn into_responses(self) -> impl Iterator<Item = VerifyResponse> {
        let Self { epoch, revision, verdicts } = self;
        verdicts.into_iter().map(move |TokenVerdict { token_hash, token, reason, denied_token }| {
            VerifyResponse { epoch: epoch.clone(), revision, token_hash, token, reason, denied_token }
        })
    }
}

fn verdicts<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<TokenVerdict>, D::Error> {
    let verdicts = list.deserialize_seq(Few { expected: "an array of verdicts", item: PhantomData })?;
    Ok(verdicts.into_iter().map(|Object(verdict)| verdict).collect())
}

/// Reads an array of at most [`MAX_TOKEN_HASHES`] items, and stops at one more.
struct Few<T> {
    expected: &'static str,
    item: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MAX_TOKEN_HASHES {
                return Err(Error::custom(InvalidTokenHashes));
            }
            items.push(item);
        }
        Ok(items)
    }
}
