//! Which request needs what: an ordered list of rules, of which the first that matches decides.
//!
//! Servers read one request in different ways. A plain one has a single reading; any other needs what the rules ask for each
//! of its readings, all of it, so that no spelling of a request needs less than another that some server reads alike.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use serde::Deserialize;

pub use self::host::{HostPattern, InvalidHost};
pub use self::path::{Case, InvalidPattern, PathPattern};
use self::readings::Spelling;
use crate::challenges::Challenges;

mod host;
mod path;
mod readings;
mod steps;
#[cfg(test)]
mod tests;

/// How many methods one request may be read as.
pub(crate) const MAX_METHODS: usize = 8;

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

    /// Whether who fulfils this fulfils `other` too.
    fn covers(&self, other: &Self) -> bool {
        self.auth >= other.auth && other.scopes.iter().all(|scope| self.scopes.contains(scope))
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
#[derive(Clone, Debug, Default)]
pub struct Target<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// The path and query; a `CONNECT` request has none.
    pub path: Option<&'a [u8]>,
    /// The host and port (`:authority`).
    pub authority: Option<&'a [u8]>,
    /// What headers say instead of method and path.
    pub overrides: Option<Box<Overrides<'a>>>,
}

/// The values of headers that some servers believe rather than a request's own method and path.
#[derive(Clone, Debug, Default)]
pub struct Overrides<'a> {
    /// Other methods (`X-HTTP-Method-Override` and the like).
    pub methods: Vec<&'a [u8]>,
    /// Other paths (`X-Original-URL` and the like).
    pub paths: Vec<&'a [u8]>,
}

/// What is known of a request beside its path.
struct Facts<'a> {
    /// The methods that it may be read as, at least one and at most [`MAX_METHODS`].
    methods: &'a [&'a [u8]],
    authority: Option<&'a [u8]>,
    host: OnceCell<Option<&'a [u8]>>,
    /// Whether method and path are such that rules that ask for less than the default may match.
    is_clear: bool,
}

impl<'a> Facts<'a> {
    /// Its host, read when a rule asks for it; `None`: servers may disagree about it.
    fn host(&self) -> Option<&'a [u8]> {
        *self.host.get_or_init(|| self.authority.and_then(host::host_of))
    }

    /// Whether rules that ask for less than the default may match it.
    fn allows_weaker(&self) -> bool {
        self.is_clear && self.host().is_some()
    }
}

/// Whether a rule matches a reading of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// It does not.
    No,
    /// For some servers: the request needs what it asks, and what the rules after it ask.
    Maybe,
    /// It does.
    Yes,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

/// What was asked for until now, all of which a request needs.
#[derive(Default)]
struct Asked<'a>(Option<Cow<'a, Requirement>>);

impl<'a> Asked<'a> {
    fn add(&mut self, requirement: &'a Requirement) {
        match &self.0 {
            None => self.0 = Some(Cow::Borrowed(requirement)),
            Some(asked) if asked.covers(requirement) => {}
            Some(asked) if requirement.covers(asked) => self.0 = Some(Cow::Borrowed(requirement)),
            Some(asked) => self.0 = Some(Cow::Owned(asked.and(requirement))),
        }
    }
}

/// The rules of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    otherwise: Requirement,
    /// What all rules together ask for.
    everything: Requirement,
}

impl Rules {
    /// Rules in the order in which they are tried. A request that none matches needs a token.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let otherwise = Requirement::default();
        let everything = rules.iter().fold(otherwise.clone(), |all, rule| all.and(&rule.requirement));
        Self { rules, otherwise, everything }
    }

    /// What a request needs: what the rules ask for each of its readings. One that has more readings than are looked at needs
    /// what all rules together ask for; one that servers may disagree about, a token at least.
    #[must_use]
    pub fn requirement(&self, target: &Target<'_>) -> Cow<'_, Requirement> {
        if self.rules.is_empty() {
            return Cow::Borrowed(&self.otherwise);
        }
        let (path, spelling) = match target.path {
            Some(path) => readings::look(path),
            None => (&[][..], Spelling::Ambiguous),
        };
        let is_standard = is_standard(target.method) && target.overrides.is_none();
        let is_clear = is_standard && spelling != Spelling::Ambiguous;
        let get_too: [&[u8]; 2] = [b"HEAD", b"GET"];
        let methods = if target.method == b"HEAD" { &get_too } else { std::slice::from_ref(&target.method) };
        let facts = Facts { methods, authority: target.authority, host: OnceCell::new(), is_clear };
        let mut asked = Asked::default();
        if is_standard && spelling == Spelling::Plain {
            self.ask(&facts, Some(path), &mut asked);
        } else if is_standard {
            self.ask_for_paths(target, &facts, path, &mut asked);
        } else {
            self.ask_for_methods(target, &facts, path, &mut asked);
        }
        asked.0.unwrap_or(Cow::Borrowed(&self.everything))
    }

    /// What the rules ask for each method that a request may be read as; nothing, if there are too many.
    #[cold]
    fn ask_for_methods<'s>(
        &'s self,
        target: &Target<'_>,
        facts: &Facts<'_>,
        path: &[u8],
        asked: &mut Asked<'s>,
    ) {
        let others = target.overrides.as_ref().map_or(&[][..], |others| &others.methods);
        let own = facts.methods;
        let as_sent = || own.iter().chain(others).copied();
        let upper_case: Vec<_> = as_sent().map(<[u8]>::to_ascii_uppercase).collect();
        let mut methods: Vec<_> = as_sent().chain(upper_case.iter().map(Vec::as_slice)).collect();
        if methods.contains(&b"HEAD".as_slice()) {
            methods.push(b"GET");
        }
        methods.sort_unstable();
        methods.dedup();
        if methods.len() <= MAX_METHODS {
            let (authority, is_clear) = (facts.authority, facts.is_clear);
            let facts = Facts { methods: &methods, authority, host: OnceCell::new(), is_clear };
            self.ask_for_paths(target, &facts, path, asked);
        }
    }

    /// What the rules ask for each reading of a request's path; nothing, if there are too many.
    #[cold]
    fn ask_for_paths<'s>(
        &'s self,
        target: &Target<'_>,
        facts: &Facts<'_>,
        path: &[u8],
        asked: &mut Asked<'s>,
    ) {
        let others = target.overrides.as_ref().map_or(&[][..], |others| &others.paths);
        let others = others.iter().map(|path| readings::look(path).0);
        let Some(readings) = readings::of(target.path.map(|_| path).into_iter().chain(others)) else {
            return;
        };
        if target.path.is_none() {
            self.ask(facts, None, asked);
        }
        for reading in &readings {
            self.ask(facts, Some(reading), asked);
        }
    }

    /// What the rules ask for one reading of the path: the first that matches decides, for each method.
    fn ask<'s>(&'s self, facts: &Facts<'_>, path: Option<&[u8]>, asked: &mut Asked<'s>) {
        let mut undecided = (1_u16 << facts.methods.len()) - 1;
        for rule in &self.rules {
            let methods = rule.methods_among(facts.methods) & undecided;
            if methods == 0 {
                continue;
            }
            match rule.matches(facts, path) {
                Match::No => {}
                Match::Yes | Match::Maybe if rule.requirement.is_lesser() && !facts.allows_weaker() => {}
                // For other servers it does not match.
                Match::Maybe if rule.requirement.is_lesser() => {}
                Match::Maybe => asked.add(&rule.requirement),
                Match::Yes => {
                    asked.add(&rule.requirement);
                    undecided &= !methods;
                    if undecided == 0 {
                        return;
                    }
                }
            }
        }
        asked.add(&self.otherwise);
    }
}

/// Whether all servers take a method for the same one (RFC 9110 §9.1): some ignore its case.
fn is_standard(method: &[u8]) -> bool {
    !method.is_empty() && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

/// One rule: all its conditions must hold for a request that it decides.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The condition on the path.
    pub path: PathPattern,
    /// The methods that it is about, in upper case; none listed: every method.
    pub methods: Vec<String>,
    /// The condition on the host; `None`: any, or none.
    pub host: Option<HostPattern>,
    /// What a request that matches needs.
    pub requirement: Requirement,
}

impl Rule {
    /// Which of these methods it is about, one bit each.
    fn methods_among(&self, methods: &[&[u8]]) -> u16 {
        if self.methods.is_empty() {
            return u16::MAX;
        }
        let is_meant = |method: &[u8]| {
            // Most methods differ in their first letter.
            let is_same = |it: &[u8]| it.first() == method.first() && it == method;
            self.methods.iter().any(|it| is_same(it.as_bytes()))
        };
        if let [method] = methods {
            return u16::from(is_meant(method));
        }
        methods.iter().rev().fold(0, |bits, method| bits << 1 | u16::from(is_meant(method)))
    }

    fn matches(&self, facts: &Facts<'_>, path: Option<&[u8]>) -> Match {
        let Some(pattern) = &self.host else { return self.path.matches(path) };
        match facts.host() {
            None => self.path.matches(path).min(Match::Maybe),
            Some(host) if pattern.matches(host) => self.path.matches(path),
            Some(_) => Match::No,
        }
    }
}
