//! Which request needs what: an ordered list of rules, of which the first that matches decides.

use std::borrow::Cow;
use std::sync::Arc;

use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use self::spelling::Spelling;
use crate::challenges::Challenges;

mod spelling;
#[cfg(test)]
mod tests;

/// How large a compiled path pattern may be, in bytes: bounds the time that a long path can take.
const REGEX_SIZE_LIMIT: usize = 1 << 16;

/// Whether a request has to present a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// The credential is not looked at.
    None,
    /// Without a credential the request passes with no identity; with a bad one it is refused.
    Optional,
    /// A valid credential is needed.
    Required,
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Whether it needs a credential.
    pub auth: Auth,
    /// The scopes that its token must carry, all of them.
    pub scopes: Arc<[String]>,
    /// What a client without a credential is challenged for; `None`: what is accepted.
    pub challenges: Option<Challenges>,
}

impl Requirement {
    /// Whether it asks for less than the default, which is a valid token.
    fn is_lesser(&self) -> bool {
        self.auth != Auth::Required
    }

    /// What asks for all that the two ask for.
    fn and(&self, other: &Self) -> Self {
        let lacking = other.scopes.iter().filter(|scope| !self.scopes.contains(scope));
        let scopes = self.scopes.iter().chain(lacking).cloned().collect();
        Self { auth: self.auth.max(other.auth), scopes, challenges: self.challenges.or(other.challenges) }
    }
}

impl Default for Requirement {
    /// A valid token, with no scope in particular.
    fn default() -> Self {
        Self { auth: Auth::Required, scopes: Arc::from([]), challenges: None }
    }
}

/// What rules look at in a request, as the client sent it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// The path and query; a `CONNECT` request has none.
    pub path: Option<&'a [u8]>,
    /// The host and port (`:authority`).
    pub authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// The path without its query.
    fn path_alone(&self) -> Option<&'a [u8]> {
        self.path.and_then(|path| path.split(|byte| *byte == b'?').next())
    }
}

/// The rules of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    otherwise: Requirement,
}

impl Rules {
    /// Rules in the order in which they are tried. A request that none matches needs a token.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, otherwise: Requirement::default() }
    }

    /// What a request needs. Where its path has other spellings, it needs what the rules ask for the path as it was sent,
    /// and what they ask for it as it may be read; and where servers may disagree about it, a token at least.
    #[must_use]
    pub fn requirement(&self, target: &Target<'_>) -> Cow<'_, Requirement> {
        if self.rules.is_empty() {
            return Cow::Borrowed(&self.otherwise);
        }
        let path = target.path_alone();
        let spelling = path.map_or(Spelling::Ambiguous, Spelling::of);
        let exempt = spelling != Spelling::Ambiguous;
        let as_sent = self.first_match(target, path, exempt);
        match path {
            Some(path) if spelling != Spelling::Plain => {
                let as_read = self.first_match(target, Some(&spelling::resolved(path)), exempt);
                if as_read == as_sent { Cow::Borrowed(as_sent) } else { Cow::Owned(as_sent.and(as_read)) }
            }
            _ => Cow::Borrowed(as_sent),
        }
    }

    /// What the first rule that matches asks for; one that asks for less than a token only matches where it may.
    fn first_match(&self, target: &Target<'_>, path: Option<&[u8]>, exempt: bool) -> &Requirement {
        self.rules
            .iter()
            .filter(|rule| exempt || !rule.requirement.is_lesser())
            .find(|rule| rule.matches(target, path))
            .map_or(&self.otherwise, |rule| &rule.requirement)
    }
}

/// One rule: all its conditions must hold for a request that it decides.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The condition on the path.
    pub path: PathPattern,
    /// The methods that it is about, as they stand in requests; none listed: every method.
    pub methods: Vec<String>,
    /// The condition on the host; `None`: any, or none.
    pub host: Option<HostPattern>,
    /// What a request that matches needs.
    pub requirement: Requirement,
}

impl Rule {
    fn matches(&self, target: &Target<'_>, path: Option<&[u8]>) -> bool {
        self.path.matches(path)
            && (self.methods.is_empty()
                || self.methods.iter().any(|method| method.as_bytes() == target.method))
            && self.host.as_ref().is_none_or(|host| target.authority.is_some_and(|it| host.matches(it)))
    }
}

/// A condition on a request's path without its query, compared byte by byte.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Every path, and none.
    Any,
    /// This path alone.
    Exact(String),
    /// Every path that begins so.
    Prefix(String),
    /// Every path that the expression matches from start to end.
    Regex(Regex),
}

/// A text that cannot be a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It would match no path.
    #[error("a path begins with / and has no query")]
    NotAPath,
    /// It would match only paths that never match a rule that asks for less than a token.
    #[error(
        "a path that is exempt from a token has no //, /./, /../, \\ or ;, and no %2f, %5c, %2e, %3b, %25 or control character, because no request with these is exempt"
    )]
    NotPlain,
    /// It is no regular expression.
    #[error("this is no regular expression that can be used: {0}")]
    NotARegex(String),
}

impl PathPattern {
    /// This path alone.
    ///
    /// # Errors
    /// When no request has such a path.
    pub fn exact(path: String) -> Result<Self, InvalidPattern> {
        check_path(&path)?;
        Ok(Self::Exact(path))
    }

    /// Every path that begins with `path`.
    ///
    /// # Errors
    /// When no request has such a path.
    pub fn prefix(path: String) -> Result<Self, InvalidPattern> {
        check_path(&path)?;
        Ok(Self::Prefix(path))
    }

    /// Every path that the regular expression matches from its start to its end.
    ///
    /// # Errors
    /// When it is no regular expression, or one that is too large.
    pub fn regex(expression: &str) -> Result<Self, InvalidPattern> {
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .dot_matches_new_line(true)
                .size_limit(REGEX_SIZE_LIMIT)
                .build()
                .map_err(|error| InvalidPattern::NotARegex(error.to_string()))
        };
        // By itself first, so that `a)|(b` is not made whole by the group around it.
        compile(expression)?;
        compile(&format!(r"\A(?:{expression})\z")).map(Self::Regex)
    }

    /// Checks that requests whose path is plain can match, which a rule that asks for less than a token is about.
    ///
    /// # Errors
    /// When no such request can.
    pub fn check_reachable_without_token(&self) -> Result<(), InvalidPattern> {
        match self {
            Self::Exact(path) => check_unambiguous(path),
            // A prefix may end in `/.` as in `/.well-known`, so what follows decides.
            Self::Prefix(path) => check_unambiguous(&format!("{path}x")),
            Self::Any | Self::Regex(_) => Ok(()),
        }
    }

    fn matches(&self, path: Option<&[u8]>) -> bool {
        match (self, path) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(exact), Some(path)) => path == exact.as_bytes(),
            (Self::Prefix(prefix), Some(path)) => path.starts_with(prefix.as_bytes()),
            // Bytes that are not UTF-8 are some character: `/admin/.*` matches whatever follows.
            (Self::Regex(regex), Some(path)) => regex.is_match(&String::from_utf8_lossy(path)),
        }
    }
}

fn check_path(path: &str) -> Result<(), InvalidPattern> {
    if path.starts_with('/') && !path.contains('?') { Ok(()) } else { Err(InvalidPattern::NotAPath) }
}

fn check_unambiguous(path: &str) -> Result<(), InvalidPattern> {
    match Spelling::of(path.as_bytes()) {
        Spelling::Ambiguous => Err(InvalidPattern::NotPlain),
        Spelling::Plain | Spelling::Escaped => Ok(()),
    }
}

/// A condition on a request's host, without its port: compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host alone.
    Exact(String),
    /// Every name below this one, which is kept with its leading dot.
    Below(String),
}

/// A text that cannot be a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host is a name or an address without a port, such as api.example.com, or *.example.com for all names below"
)]
pub struct InvalidHost;

impl std::str::FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let text = text.to_ascii_lowercase();
        let below = text.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let name = below.map_or(text.as_str(), |rest| rest.trim_start_matches('.'));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) || host_of(name.as_bytes()) != name.as_bytes() {
            return Err(InvalidHost);
        }
        Ok(match below {
            Some(_) => Self::Below(format!(".{name}")),
            None => Self::Exact(text),
        })
    }
}

impl HostPattern {
    fn matches(&self, authority: &[u8]) -> bool {
        let host = host_of(authority);
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Below(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|label| *label > 0)
                .and_then(|label| host.get(label..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }
}

/// An authority (RFC 3986 §3.2) without its port, and without the dot that ends a fully qualified name.
fn host_of(authority: &[u8]) -> &[u8] {
    let host = match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !authority.get(colon..).is_some_and(|port| port.contains(&b']')) => {
            authority.get(..colon).unwrap_or(authority)
        }
        _ => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}
