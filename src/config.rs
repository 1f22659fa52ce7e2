//! The filter's configuration: parsed and checked once, into what the request path uses.

use std::fmt;
use std::time::Duration;

use crate::cache::Limits;
use crate::challenges::Challenges;
use crate::credential::{Accepted, Schemes};
use crate::headers::{HeaderName, IdentityHeaders};
use crate::refusal::Realm;
use crate::rules::{Auth, Case, PathPattern, Requirement, Rule, Rules};
use crate::token::TokenPrefix;
use crate::wire::Scheme;

pub use raw::Mode;

mod raw;
mod reader;
#[cfg(test)]
mod tests;
mod values;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The admin service, and how it is reached.
    pub service: Service,
    /// The protection space that challenges name.
    pub realm: Realm,
    /// Which credentials are looked at.
    pub accepted: Accepted,
    /// The headers that tell the upstream who a request acts for.
    pub identity_headers: IdentityHeaders,
    /// Whether `Authorization` goes on to the upstream.
    pub forward_authorization: bool,
    /// How many verdicts are kept, and for how long.
    pub cache: Limits,
    /// How long cached verdicts serve after the change feed was last heard.
    pub stale_max: Duration,
    /// How often the use of tokens is reported.
    pub usage_flush: Duration,
    /// How long before its end responses to a token's requests tell of it; zero: never.
    pub expiry_warning: Duration,
    /// What requests need.
    pub rules: Rules,
    /// Whether decisions are enforced.
    pub mode: Mode,
}

/// The admin service, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The Envoy cluster for look-ups.
    pub cluster: String,
    /// The Envoy cluster for the change feed.
    pub feed_cluster: String,
    /// The Envoy cluster for usage reports.
    pub usage_cluster: String,
    /// The `:authority` of callouts.
    pub authority: String,
    /// How long one callout may take.
    pub timeout: Duration,
    /// What the filter says to be believed; `None`: Envoy's cluster says it.
    pub secret: Option<EdgeSecret>,
}

/// The edge secret. It cannot be printed; [`EdgeSecret::authorization`] is for the callout alone.
#[derive(Clone, PartialEq, Eq)]
pub struct EdgeSecret(String);

impl EdgeSecret {
    /// The `authorization` value of a callout.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for EdgeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeSecret(…)")
    }
}

/// What is wrong with a configuration, in one line. It never carries a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", one_line(field), one_line(problem))]
pub struct ConfigError {
    /// The path of the field, such as `rules[0].match.path_regex`.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// A text with nothing in it that would begin another line of a log.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

impl ConfigError {
    fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

impl Config {
    /// Reads and checks a configuration in JSON; nothing at all is an empty object. `env` reads the environment variable that
    /// `service.secret_env` names.
    ///
    /// # Errors
    /// The first field that is wrong, and what is allowed there.
    pub fn parse(json: &[u8], env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let json = if json.is_empty() {
            serde_json::Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(without_mark(json)).map_err(|error| {
                ConfigError::new("configuration", format_args!("this is no JSON: {error}"))
            })?
        };
        Self::from_json(&json, env)
    }

    /// The same for JSON that was read already.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn from_json(
        json: &serde_json::Value,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let raw: raw::Raw = reader::read(json).map_err(explain)?;
        let accepted = accepted(&raw.schemes, raw.challenges.as_deref(), raw.token_prefix)?;
        Ok(Self {
            service: service(raw.service, env)?,
            realm: raw.realm,
            identity_headers: raw.identity_headers.as_ref().map_or_else(|| Ok(unset()), identity_headers)?,
            forward_authorization: raw.forward_authorization,
            cache: Limits {
                max_tokens: raw.cache.max_tokens.count(),
                ttl: raw.cache.ttl_ms.milliseconds(),
                max_negative: raw.cache.max_negative.count(),
                negative_ttl: raw.cache.negative_ttl_ms.milliseconds(),
            },
            stale_max: raw.stale.max_ms.milliseconds(),
            usage_flush: raw.usage.flush_ms.milliseconds(),
            expiry_warning: raw.expiry.warn_ms.milliseconds(),
            rules: rules(raw.rules, accepted.schemes)?,
            accepted,
            mode: raw.mode,
        })
    }
}

/// A reader's error. What stands where a secret is, or where one may be put by mistake, is not told.
fn explain(error: reader::Error) -> ConfigError {
    match error.path.as_str() {
        "" => ConfigError::new("configuration", error.problem),
        "service" => ConfigError::new(error.path, "an object is needed here, with `cluster` in it"),
        "service.secret" => ConfigError::new(error.path, "the edge secret is a text"),
        _ => ConfigError { field: error.path, problem: error.problem },
    }
}

fn service(raw: Option<raw::Service>, env: impl Fn(&str) -> Option<String>) -> Result<Service, ConfigError> {
    let missing =
        || ConfigError::new("service.cluster", "name the Envoy cluster of the service's edge listener");
    let raw = raw.ok_or_else(missing)?;
    let cluster = raw.cluster.ok_or_else(missing)?.0;
    let or_same = |name: Option<values::ClusterName>| name.map_or_else(|| cluster.clone(), |name| name.0);
    Ok(Service {
        feed_cluster: or_same(raw.feed_cluster),
        usage_cluster: or_same(raw.usage_cluster),
        authority: raw.authority.0,
        timeout: raw.timeout_ms.milliseconds(),
        secret: secret(raw.secret, &raw.secret_env, env)?,
        cluster,
    })
}

fn secret(
    secret: String,
    variable: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<EdgeSecret>, ConfigError> {
    let (field, secret) = match (secret.is_empty(), variable.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {
            return Err(ConfigError::new("service.secret_env", "give either `secret` or `secret_env`"));
        }
        (false, true) => ("service.secret", secret),
        (true, false) => {
            // `std::env` panics or finds nothing by such names.
            let sound = !variable.contains(['=', '\0']);
            let value = sound.then(|| env(variable)).flatten().filter(|value| !value.is_empty());
            let unset = "the VM has no environment variable of this name, or it is empty: \
                set it in vm_config.environment_variables";
            ("service.secret_env", value.ok_or_else(|| ConfigError::new("service.secret_env", unset))?)
        }
    };
    if secret.len() > 1024 || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::new(
            field,
            "the edge secret is at most 1024 visible ASCII characters, without spaces",
        ));
    }
    Ok(Some(EdgeSecret(secret)))
}

/// The default names, for removal alone.
fn unset() -> IdentityHeaders {
    IdentityHeaders { set: false, ..IdentityHeaders::default() }
}

fn identity_headers(raw: &raw::IdentityHeaders) -> Result<IdentityHeaders, ConfigError> {
    let field = |name: &str| format!("identity_headers.{name}");
    let parse = |name: &str, text: &str| {
        text.parse::<HeaderName>().map_err(|error| ConfigError::new(field(name), error))
    };
    let user = parse("user", &raw.user)?;
    let token_id = parse("token_id", &raw.token_id)?;
    let scopes = parse("scopes", &raw.scopes)?;
    let twice = if token_id == user {
        Some("token_id")
    } else {
        (scopes == user || scopes == token_id).then_some("scopes")
    };
    match twice {
        Some(name) => Err(ConfigError::new(field(name), "the three identity headers need three names")),
        None => Ok(IdentityHeaders { user, token_id, scopes, set: true }),
    }
}

fn accepted(
    schemes: &[Scheme],
    challenges: Option<&[Scheme]>,
    prefix: Option<TokenPrefix>,
) -> Result<Accepted, ConfigError> {
    let none = || ConfigError::new("schemes", "name at least one of `bearer` and `basic`");
    let by_default = Challenges::in_order_of(schemes).ok_or_else(none)?;
    let schemes = schemes.iter().copied().collect();
    let challenges = self::challenges(challenges, schemes)?.unwrap_or(by_default);
    Ok(Accepted { schemes, prefix, challenges })
}

fn challenges(list: Option<&[Scheme]>, enabled: Schemes) -> Result<Option<Challenges>, ConfigError> {
    let challenges = list.map(|list| Challenges::new(list, enabled)).transpose();
    challenges.map_err(|problem| ConfigError::new("challenges", problem))
}

fn rules(raw: Vec<raw::Rule>, enabled: Schemes) -> Result<Rules, ConfigError> {
    let numbered = raw.into_iter().enumerate();
    let rules = numbered.map(|(index, rule)| {
        self::rule(rule, enabled)
            .map_err(|error| ConfigError::new(format!("rules[{index}].{}", error.field), error.problem))
    });
    Ok(Rules::new(rules.collect::<Result<_, _>>()?))
}

fn rule(raw: raw::Rule, enabled: Schemes) -> Result<Rule, ConfigError> {
    if raw.auth != Auth::Required && !raw.scopes.is_empty() {
        return Err(ConfigError::new("scopes", "scopes need `auth: required`"));
    }
    let challenges = challenges(raw.challenges.as_deref(), enabled)?;
    if raw.auth == Auth::None && challenges.is_some() {
        return Err(ConfigError::new("challenges", "with `auth: none` no client is challenged"));
    }
    let methods = raw.condition.methods.as_ref();
    if methods.is_some_and(Vec::is_empty) {
        return Err(ConfigError::new(
            "match.methods",
            "name at least one method, or leave the field out for all",
        ));
    }
    let methods = methods.into_iter().flatten().map(|method| method.0.clone()).collect();
    let host = raw.condition.host.clone();
    let (field, path) = path(raw.condition)?;
    if raw.auth != Auth::Required {
        path.check_reachable_without_token().map_err(|error| ConfigError::new(field, error))?;
    }
    let scopes = raw.scopes.into_iter().map(|scope| scope.0).collect();
    Ok(Rule { path, methods, host, requirement: Requirement { auth: raw.auth, scopes, challenges } })
}

/// The condition on the path, and the field that it stands in.
fn path(condition: raw::Match) -> Result<(&'static str, PathPattern), ConfigError> {
    let case = if condition.ignore_case { Case::Ignored } else { Case::Counts };
    let given = [
        condition.path.map(|path| ("match.path", PathPattern::exact(path, case))),
        condition.path_prefix.map(|prefix| ("match.path_prefix", PathPattern::prefix(prefix, case))),
        condition
            .path_separated_prefix
            .map(|prefix| ("match.path_separated_prefix", PathPattern::separated_prefix(prefix, case))),
        condition.path_regex.map(|regex| ("match.path_regex", PathPattern::regex(&regex, case))),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (None, _) if condition.ignore_case => Err(ConfigError::new(
            "match.ignore_case",
            "this is about the path: add one of `path`, `path_prefix`, `path_separated_prefix` and `path_regex`",
        )),
        (None, _) => Ok(("match", PathPattern::Any)),
        (Some((field, pattern)), None) => {
            pattern.map(|pattern| (field, pattern)).map_err(|error| ConfigError::new(field, error))
        }
        _ => Err(ConfigError::new(
            "match",
            "give one of `path`, `path_prefix`, `path_separated_prefix` and `path_regex`",
        )),
    }
}

/// A text without the byte order mark that some editors put before it.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}
