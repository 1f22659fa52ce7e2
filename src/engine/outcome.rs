//! What becomes of a request, as its shell carries it out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::filter::Filter;
use super::local_reply::LocalReply;
use super::metrics::Metric;
use crate::gate::{Identity, TokenOwner, Verdict};
use crate::headers::{EXPIRES_IN, IdentityHeaders};

/// Filter state that says who a request acts for, or would if it were not denied.
const USER: &str = "latchkey_user";
const TOKEN_ID: &str = "latchkey_token_id";
const SCOPES: &str = "latchkey_scopes";
/// Filter state that says what was decided.
const DECISION: &str = "latchkey_decision";

/// What becomes of a request at once.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the credential is removed. Where it is not, it is another system's, or the operator wants it forwarded.
    pub removes_authorization: bool,
    /// What becomes of it; `None`: it is held until [`Worker::next_resume`](super::Worker::next_resume) names its stream.
    pub decided: Option<Decided>,
}

/// What becomes of a request that was decided on.
#[derive(Debug)]
pub enum Decided {
    /// It goes on to the upstream.
    Allow(Mutations),
    /// It gets a local reply.
    Deny(Denial),
}

impl Decided {
    /// What becomes of it where the host did not remove what has to be removed: it is denied in any case.
    #[must_use]
    pub fn uncleaned(self, filter: &Filter) -> Denial {
        match self {
            Self::Allow(mutations) => filter.close_allowed(&mutations),
            Self::Deny(denial) => denial,
        }
    }
}

/// What a request takes along that goes on.
#[derive(Debug)]
pub struct Mutations {
    /// What it was counted as.
    pub(super) counted_as: Metric,
    /// Whether it is a gRPC request.
    pub(super) grpc: bool,
    /// What access logs say was decided.
    pub(super) decision: Cow<'static, str>,
    /// Who it acts for; `None`: nobody.
    pub(super) identity: Option<Arc<Identity>>,
    /// The verdict by which it would be denied, if mode were not shadow.
    pub(super) denied_by: Option<Verdict>,
    /// What its response tells.
    pub(super) expiry: Option<ExpiryNotice>,
    /// What is logged of it.
    pub(super) log_line: Option<String>,
}

impl Mutations {
    /// The headers to add: names and values, none of which is empty. A token without scopes has no header for them.
    pub fn headers<'a>(&'a self, names: &'a IdentityHeaders) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.identity.iter().flat_map(|identity| names.of(identity)).filter(|(_, value)| !value.is_empty())
    }

    /// The filter state to set: keys and values. Where it cannot be set, the request must not go on: routes make headers of it.
    pub fn filter_state(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let identity = self.identity.as_deref();
        let owner = identity.map(Identity::owner).or_else(|| self.denied_by.as_ref()?.owner());
        let scopes = identity.map(Identity::scope_list).filter(|scopes| !scopes.is_empty());
        let decision = [(DECISION, &*self.decision)];
        decision.into_iter().chain(named(owner)).chain(scopes.map(|scopes| (SCOPES, scopes)))
    }

    /// What is logged of the request, at level info: that it would be denied if mode were not shadow.
    #[must_use]
    pub fn log_line(&self) -> Option<&str> {
        self.log_line.as_deref()
    }

    /// What the response to the request is to tell its client.
    #[must_use]
    pub fn expiry_notice(&self) -> Option<ExpiryNotice> {
        self.expiry
    }
}

/// What a request gets that is denied.
#[derive(Debug)]
pub struct Denial {
    /// The local reply.
    pub reply: Arc<LocalReply>,
    /// The verdict by which it is denied, if there is one.
    pub(super) denied_by: Option<Verdict>,
}

impl Denial {
    /// The filter state to set, for access logs alone: the request is denied also where it cannot be set.
    pub fn filter_state(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let owner = self.denied_by.as_ref().and_then(Verdict::owner);
        [(DECISION, self.reply.decision.as_str())].into_iter().chain(named(owner))
    }
}

fn named(owner: Option<TokenOwner<'_>>) -> impl Iterator<Item = (&'static str, &str)> {
    owner.into_iter().flat_map(|TokenOwner { token_id, user }| [(USER, user), (TOKEN_ID, token_id)])
}

/// Tells a client in its response when its token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryNotice {
    pub(super) expires_at: Duration,
}

impl ExpiryNotice {
    /// The response header, in the place of any that the upstream has set: the seconds that are left.
    #[must_use]
    pub fn header(self, now: Duration) -> (&'static str, String) {
        (EXPIRES_IN, self.expires_at.saturating_sub(now).as_secs().to_string())
    }
}
