//! Requests of clients, honest and other, and what they must become at the upstream.

use std::sync::LazyLock;

use super::service::TOKENS;
use crate::token::{HashPrefix, Secret, TokenHash, TokenPrefix};

/// The edge secret, which must be in no place but the callouts' `authorization`.
pub const EDGE_SECRET: &str = "edge-secret-0123456789";

/// The configuration of both workers but for mode and rules.
pub fn configuration(shadow: bool) -> String {
    let mode = if shadow { "shadow" } else { "enforce" };
    format!(
        r#"{{
            "service": {{"cluster": "latchkey", "secret": "{EDGE_SECRET}", "timeout_ms": 1000}},
            "cache": {{"max_tokens": 10, "ttl_ms": 8000, "max_negative": 10, "negative_ttl_ms": 2000}},
            "stale": {{"max_ms": 3000}},
            "usage": {{"flush_ms": 5000}},
            "expiry": {{"warn_ms": 1000}},
            "rules": [
                {{"match": {{"path_prefix": "/public/"}}, "auth": "none"}},
                {{"match": {{"path_prefix": "/optional/"}}, "auth": "optional"}},
                {{"match": {{"path_prefix": "/admin/"}}, "scopes": ["admin"]}}
            ],
            "mode": "{mode}"
        }}"#
    )
}

/// A request: what it presents, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub path: Path,
}

/// What a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of the service's tokens.
    Token(usize),
    /// The same with forged identity headers.
    Forging(usize),
    /// The token of an owner that another user names.
    WrongUser(usize),
    Nothing,
    /// What is not shaped as a token.
    Garbage,
    /// Two credentials, of which one is a token.
    Twice(usize),
    /// Another system's credential.
    Foreign,
}

/// What a request is for: the rule that its path matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    None,
    Optional,
    Admin,
    Required,
}

fn secret(token: usize) -> &'static Secret {
    static SECRETS: LazyLock<[Secret; TOKENS]> = LazyLock::new(|| {
        std::array::from_fn(|token| {
            let byte = u8::try_from(token).unwrap();
            let fill = |bytes: &mut [u8]| {
                bytes.fill(byte);
                Ok::<(), ()>(())
            };
            Secret::generate(&TokenPrefix::default(), fill).unwrap()
        })
    });
    &SECRETS[token]
}

pub fn hash(token: usize) -> TokenHash {
    static HASHES: LazyLock<[TokenHash; TOKENS]> =
        LazyLock::new(|| std::array::from_fn(|token| secret(token).hash()));
    HASHES[token]
}

/// The token of a hash that begins so.
pub fn token_of(prefix: HashPrefix) -> usize {
    (0..TOKENS).find(|token| hash(*token).prefix() == prefix).unwrap()
}

/// Whether a text has a token or the edge secret in it.
pub fn is_secret(text: &str) -> bool {
    text.contains(EDGE_SECRET) || (0..TOKENS).any(|token| text.contains(secret(token).expose()))
}

impl Path {
    fn text(self) -> &'static str {
        match self {
            Self::None => "/public/a",
            Self::Optional => "/optional/a",
            Self::Admin => "/admin/a",
            Self::Required => "/a?key=value",
        }
    }
}

impl Request {
    /// The token that it presents in good order.
    pub fn token(self) -> Option<usize> {
        match self.kind {
            Kind::Token(token) | Kind::Forging(token) | Kind::WrongUser(token) => Some(token),
            _ => None,
        }
    }

    /// Its headers, as Envoy has them.
    pub fn headers(self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = [
            (":method", "GET"),
            (":path", self.path.text()),
            (":authority", "api.example.com"),
            ("x-request-id", "r-1"),
            ("accept", "*/*"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        let bearer = |token: usize| format!("Bearer {}", secret(token).expose());
        match self.kind {
            Kind::Token(token) => add("authorization", bearer(token)),
            Kind::Forging(token) => {
                add("x-latchkey-user", "root".to_owned());
                add("x_latchkey_scopes", "admin".to_owned());
                add("authorization", bearer(token));
                add("X-Latchkey-Token-Id".to_ascii_lowercase().as_str(), "0".to_owned());
            }
            Kind::WrongUser(token) => {
                use base64::Engine as _;
                let pair = format!("mallory:{}", secret(token).expose());
                add("authorization", format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)));
            }
            Kind::Nothing => {}
            Kind::Garbage => add("authorization", "Bearer lk_not_a_token".to_owned()),
            Kind::Twice(token) => {
                add("authorization", "Bearer other".to_owned());
                add("authorization", bearer(token));
            }
            Kind::Foreign => add("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.c2ln".to_owned()),
        }
        headers
    }
}
