//! The configuration as it is written: its fields, types, defaults and ranges. The JSON Schema is made from these types.

use serde::Deserialize;

use super::values::{Authority, ClusterName, Method, Scope, Whole, text, text_or_null};
use crate::headers::HeaderName;
use crate::refusal::Realm;
use crate::rules::{Auth, HostPattern};
use crate::token::TokenPrefix;
use crate::wire::Scheme;

/// The configuration of the Latchkey filter.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "Latchkey filter"))]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// The admin service, and how it is reached.
    #[cfg_attr(test, schemars(required))]
    pub(super) service: Option<Service>,
    /// The protection space that challenges name.
    #[serde(default, deserialize_with = "text")]
    #[cfg_attr(test, schemars(with = "String", length(min = 1, max = 64), extend("default" = "api")))]
    pub(super) realm: Realm,
    /// The authentication schemes that clients may use.
    #[serde(default = "all_schemes")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(super) schemes: Vec<Scheme>,
    /// The schemes that a client without a credential is challenged for, in this order; by default as `schemes`. Some clients
    /// take the first challenge and no other.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(super) challenges: Option<Vec<Scheme>>,
    /// What tokens begin with; null: tokens of any shape are looked up.
    #[serde(default = "default_prefix", deserialize_with = "text_or_null")]
    #[cfg_attr(test, schemars(with = "Option<String>", regex(pattern = r"^[a-z0-9]{2,16}$"), extend("default" = "lk")))]
    pub(super) token_prefix: Option<TokenPrefix>,
    /// The headers that tell the upstream who a request acts for; null: none is set, and all three are still removed.
    #[serde(default = "default_identity_headers")]
    pub(super) identity_headers: Option<IdentityHeaders>,
    /// Whether `Authorization` goes on to the upstream.
    #[serde(default)]
    pub(super) forward_authorization: bool,
    /// How many verdicts are kept, and for how long.
    #[serde(default)]
    pub(super) cache: Cache,
    /// What happens when the change feed is not heard.
    #[serde(default)]
    pub(super) stale: Stale,
    /// How the use of tokens is reported.
    #[serde(default)]
    pub(super) usage: Usage,
    /// How clients learn that their token ends soon.
    #[serde(default)]
    pub(super) expiry: Expiry,
    /// What requests need: the first rule that matches decides; where none does, a token is required and no scope.
    #[serde(default)]
    pub(super) rules: Vec<Rule>,
    /// Whether decisions are enforced.
    #[serde(default)]
    pub(super) mode: Mode,
}

/// The admin service, and how it is reached.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// The Envoy cluster of the service's edge listener, for look-ups.
    #[cfg_attr(test, schemars(required))]
    pub(super) cluster: Option<ClusterName>,
    /// The cluster for the change feed; by default the one for look-ups.
    pub(super) feed_cluster: Option<ClusterName>,
    /// The cluster for usage reports; by default the one for look-ups.
    pub(super) usage_cluster: Option<ClusterName>,
    /// The `:authority` of callouts.
    #[serde(default = "default_authority")]
    #[cfg_attr(test, schemars(extend("default" = "latchkey")))]
    pub(super) authority: Authority,
    /// How long one callout may take, in milliseconds.
    #[serde(default = "default_timeout")]
    pub(super) timeout_ms: Whole<1, 60_000>,
    /// The edge secret. With none here and none in `secret_env`, Envoy's cluster adds the header.
    #[serde(default)]
    pub(super) secret: String,
    /// The VM environment variable that holds the edge secret.
    #[serde(default)]
    pub(super) secret_env: String,
}

/// The headers that tell the upstream who a request acts for.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct IdentityHeaders {
    /// Carries the user's name.
    pub(super) user: String,
    /// Carries the token's identifier.
    pub(super) token_id: String,
    /// Carries the token's scopes, separated by spaces.
    pub(super) scopes: String,
}

/// How many verdicts are kept, and for how long.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    /// How many good tokens are remembered; 0: none.
    pub(super) max_tokens: Whole<0, 1_000_000>,
    /// How long a good token is remembered, in milliseconds.
    pub(super) ttl_ms: Whole<1, 86_400_000>,
    /// How many bad tokens are remembered; 0: none.
    pub(super) max_negative: Whole<0, 1_000_000>,
    /// How long a bad token is remembered, in milliseconds.
    pub(super) negative_ttl_ms: Whole<1, 3_600_000>,
}

/// What happens when the change feed is not heard.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Stale {
    /// How long remembered verdicts serve after the change feed was last heard, in milliseconds.
    pub(super) max_ms: Whole<0, 86_400_000>,
}

/// How the use of tokens is reported.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Usage {
    /// How often the use of tokens is reported, in milliseconds.
    pub(super) flush_ms: Whole<100, 3_600_000>,
}

/// How clients learn that their token ends soon.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expiry {
    /// How long before a token expires its responses begin to carry `x-latchkey-expires-in`, in milliseconds; 0: none does.
    pub(super) warn_ms: Whole<0, 31_536_000_000>,
}

/// One rule: which requests it is about, and what they need.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Which requests it is about: those that fulfil every condition. By default all.
    #[serde(default, rename = "match")]
    #[cfg_attr(test, schemars(extend("default" = {})))]
    pub(super) condition: Match,
    /// Whether a credential is needed.
    #[serde(default = "required")]
    #[cfg_attr(test, schemars(extend("default" = "required")))]
    pub(super) auth: Auth,
    /// The scopes that a token must carry, all of them. Only where a credential is required.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("default" = [])))]
    pub(super) scopes: Vec<Scope>,
    /// The schemes that a client without a credential is challenged for, in this order; by default as outside of the rules.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(super) challenges: Option<Vec<Scheme>>,
}

/// Which requests a rule is about. At most one of the four conditions on the path.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    /// The path, without its query.
    pub(super) path: Option<String>,
    /// What the path begins with.
    pub(super) path_prefix: Option<String>,
    /// A path, without a final slash: it and all paths below it.
    pub(super) path_separated_prefix: Option<String>,
    /// A regular expression that matches the whole path, of at most 8 KiB.
    pub(super) path_regex: Option<String>,
    /// Whether the path is compared without the case of ASCII letters.
    #[serde(default)]
    pub(super) ignore_case: bool,
    /// The methods, in upper case.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(super) methods: Option<Vec<Method>>,
    /// The host without its port; `*.example.com`: every name below `example.com`.
    #[serde(default, deserialize_with = "text_or_null")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) host: Option<HostPattern>,
}

/// Whether decisions are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are made, counted and logged, and every request passes.
    Shadow,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        let names = crate::headers::IdentityHeaders::default();
        let text = |name: HeaderName| name.as_str().to_owned();
        Self { user: text(names.user), token_id: text(names.token_id), scopes: text(names.scopes) }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_tokens: Whole(10_000),
            ttl_ms: Whole(300_000),
            max_negative: Whole(10_000),
            negative_ttl_ms: Whole(10_000),
        }
    }
}

impl Default for Stale {
    fn default() -> Self {
        Self { max_ms: Whole(30_000) }
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self { flush_ms: Whole(10_000) }
    }
}

impl Default for Expiry {
    /// Five days.
    fn default() -> Self {
        Self { warn_ms: Whole(5 * 24 * 3_600_000) }
    }
}

fn all_schemes() -> Vec<Scheme> {
    vec![Scheme::Bearer, Scheme::Basic]
}

#[expect(clippy::unnecessary_wraps, reason = "null is another value of the field")]
fn default_prefix() -> Option<TokenPrefix> {
    Some(TokenPrefix::default())
}

#[expect(clippy::unnecessary_wraps, reason = "null is another value of the field")]
fn default_identity_headers() -> Option<IdentityHeaders> {
    Some(IdentityHeaders::default())
}

fn default_authority() -> Authority {
    Authority("latchkey".to_owned())
}

const fn default_timeout() -> Whole<1, 60_000> {
    Whole(1000)
}

const fn required() -> Auth {
    Auth::Required
}
