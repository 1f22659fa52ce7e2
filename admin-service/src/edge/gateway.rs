//! What a gateway without the filter says, in headers of its own: that it may ask, what a request needs, and where it came
//! from.
//!
//! A header that the gateway does not set may be the client's, so each can only ask for more: no setting turns a check off.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use latchkey::challenges::Challenges;
use latchkey::credential::{Accepted, Schemes};
use latchkey::headers::is_grpc;
use latchkey::refusal::Realm;
use latchkey::rules::{Auth, Requirement};
use latchkey::wire::Scheme;

use super::verify::no_edge;
use crate::app::App;
use crate::domain::scope::{Scope, Scopes};
use crate::error::ApiError;
use crate::server::{ClientAddress, TrustedProxies};

/// Carries the edge secret, for `Authorization` is the client's.
const SECRET: HeaderName = HeaderName::from_static("x-latchkey-edge-secret");
/// No client understands it, so that none sends its credential anew where a gateway hands this on; a gateway can tell by it
/// that its secret is what is wrong.
const CHALLENGE: &str = "Latchkey-Edge-Secret realm=\"edge\"";
/// The scopes that the request needs, all of them.
const SCOPES: HeaderName = HeaderName::from_static("x-latchkey-require-scopes");
/// The schemes that the client may use.
const SCHEMES: HeaderName = HeaderName::from_static("x-latchkey-schemes");
/// The realm that challenges name.
const REALM: HeaderName = HeaderName::from_static("x-latchkey-realm");
/// The request's content type, for gRPC. Not under its own name: a question of this content type would be answered by Envoy as
/// gRPC is, with 200 and the status beside it, where the service cannot be reached; and `ext_authz` takes 200 for a pass.
const CONTENT_TYPE: HeaderName = HeaderName::from_static("x-latchkey-content-type");

/// The proof that the caller presented an edge secret in a header of its own, or that none is configured.
pub struct Gateway(());

impl FromRequestParts<App> for Gateway {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(secrets) = &app.settings.edge_secrets else { return Ok(Self(())) };
        let mut values = parts.headers.get_all(SECRET).iter();
        match values.next() {
            Some(secret) if values.next().is_none() && secrets.accept(secret.as_bytes()) => Ok(Self(())),
            _ => {
                secrets.unauthorized().note(parts, app.sources.now());
                Err(no_edge("`x-latchkey-edge-secret: <edge secret>`", CHALLENGE))
            }
        }
    }
}

/// What a gateway asks about one request.
pub struct Question {
    /// What the request needs.
    pub requirement: Requirement,
    /// Which credentials are looked at.
    pub accepted: Accepted,
    /// The realm that challenges name.
    pub realm: Realm,
    /// Where it came from, if that is known.
    pub address: Option<IpAddr>,
    /// Whether it is a gRPC request.
    pub grpc: bool,
}

/// A header that cannot be understood: its name, and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{header}: {problem}")]
pub struct InvalidSetting {
    header: HeaderName,
    problem: String,
}

impl Question {
    /// Reads a gateway's headers.
    ///
    /// # Errors
    /// [`InvalidSetting`] for the first one that cannot be understood.
    pub fn read(headers: &HeaderMap, proxies: &TrustedProxies) -> Result<Self, InvalidSetting> {
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let schemes = schemes(headers)?;
        let listed: Vec<_> = schemes.iter().collect();
        let challenges = Challenges::in_order_of(&listed).unwrap_or_default();
        Ok(Self {
            requirement: Requirement { auth: Auth::Required, scopes: scopes(headers)?, challenges: None },
            // Tokens of any shape, so that imported ones work.
            accepted: Accepted { schemes, prefix: None, challenges },
            realm: realm(headers)?,
            address: proxies.client_of_gateway(headers),
            grpc: content_type.is_some_and(is_grpc),
        })
    }
}

impl Question {
    /// Whose failures count together: the client's, or all clients' of a gateway that does not say where they are.
    pub fn source(&self, gateway: ClientAddress) -> IpAddr {
        self.address.unwrap_or(gateway.0)
    }
}

fn scopes(headers: &HeaderMap) -> Result<Arc<[String]>, InvalidSetting> {
    let lists = headers.get_all(SCOPES).iter().map(|value| text(value, &SCOPES));
    let mut scopes = Vec::new();
    for list in lists.collect::<Result<Vec<_>, _>>()? {
        let each = items(list).map(str::parse::<Scope>).collect::<Result<Vec<_>, _>>();
        scopes.extend(each.map_err(|problem| invalid(&SCOPES, &format_args!("each scope {problem}")))?);
    }
    let scopes = Scopes::new(scopes).map_err(|problem| invalid(&SCOPES, &problem))?;
    Ok(scopes.iter().map(Scope::to_string).collect())
}

/// The schemes that every line of the header names; without one, all.
fn schemes(headers: &HeaderMap) -> Result<Schemes, InvalidSetting> {
    let mut schemes = Schemes::ALL;
    for value in headers.get_all(SCHEMES) {
        let named = items(text(value, &SCHEMES)?).map(scheme).collect::<Option<Schemes>>();
        let named = named.ok_or_else(|| invalid(&SCHEMES, &"name `bearer`, `basic` or both"))?;
        schemes = schemes.iter().filter(|scheme| named.contains(*scheme)).collect();
    }
    match schemes.iter().next() {
        Some(_) => Ok(schemes),
        None => Err(invalid(&SCHEMES, &"name at least one of `bearer` and `basic`")),
    }
}

fn scheme(name: &str) -> Option<Scheme> {
    [("bearer", Scheme::Bearer), ("basic", Scheme::Basic)]
        .into_iter()
        .find_map(|(known, scheme)| name.eq_ignore_ascii_case(known).then_some(scheme))
}

fn realm(headers: &HeaderMap) -> Result<Realm, InvalidSetting> {
    match headers.get(REALM) {
        Some(value) => text(value, &REALM)?.parse().map_err(|problem| invalid(&REALM, &problem)),
        None => Ok(Realm::default()),
    }
}

/// The items of a list that is separated by blanks, commas, or both.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', '\t', ',']).filter(|item| !item.is_empty())
}

fn text<'a>(value: &'a HeaderValue, header: &HeaderName) -> Result<&'a str, InvalidSetting> {
    value.to_str().map_err(|_| invalid(header, &"must be visible ASCII"))
}

fn invalid(header: &HeaderName, problem: &dyn fmt::Display) -> InvalidSetting {
    InvalidSetting { header: header.clone(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn each_line_can_only_ask_for_more() {
        let asked = headers(&[
            ("x-latchkey-require-scopes", "read, write"),
            ("x-latchkey-require-scopes", "admin read"),
            ("x-latchkey-schemes", "Bearer, basic"),
            ("x-latchkey-schemes", "bearer"),
            ("x-latchkey-realm", "my api"),
        ]);
        let question = Question::read(&asked, &TrustedProxies::default()).unwrap();
        assert_eq!(*question.requirement.scopes, ["read", "write", "admin"]);
        assert_eq!(question.requirement.auth, Auth::Required);
        assert_eq!(question.accepted.schemes.iter().collect::<Vec<_>>(), [Scheme::Bearer]);
        assert_eq!(question.realm.as_str(), "my api");
        let plain = Question::read(&HeaderMap::new(), &TrustedProxies::default()).unwrap();
        assert!(plain.requirement.scopes.is_empty() && plain.accepted.schemes == Schemes::ALL);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_the_name_of_the_header() {
        for (name, value) in [
            ("x-latchkey-require-scopes", "a\"b"),
            ("x-latchkey-require-scopes", "é"),
            ("x-latchkey-schemes", "digest"),
            ("x-latchkey-schemes", ""),
            ("x-latchkey-realm", "a\"b"),
            ("x-latchkey-realm", ""),
        ] {
            let refused = Question::read(&headers(&[(name, value)]), &TrustedProxies::default())
                .err()
                .map(|refused| refused.header);
            assert_eq!(refused, Some(HeaderName::from_static(name)), "{value}");
        }
        let apart = headers(&[("x-latchkey-schemes", "bearer"), ("x-latchkey-schemes", "basic")]);
        assert!(Question::read(&apart, &TrustedProxies::default()).is_err());
    }
}
