//! Verdicts: what the service says of a token hash, as of one revision of its history.

use std::fmt;

use latchkey::wire::{DeniedToken, RefusalReason};
use serde::Serialize;

use super::token::{Token, TokenStatus};
use crate::domain::time::Timestamp;

/// Names the history that revisions count in. It changes when history is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Epoch(pub String);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts the changes that can alter a verdict: one up with each, with no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the service says of a token hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The history that the revision counts in.
    pub epoch: Epoch,
    /// The last change that this verdict takes into account.
    pub revision: Revision,
    /// Yes or no.
    pub outcome: Outcome,
}

/// What the service says of several token hashes, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    /// The history that the revision counts in.
    pub epoch: Epoch,
    /// The last change that each of these verdicts takes into account.
    pub revision: Revision,
    /// Yes or no to each hash, in the order of the request.
    pub outcomes: Vec<Outcome>,
}

/// Whether a token may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may.
    Valid(Box<Token>),
    /// It may not; which token it is, if there is one.
    Refused(RefusalReason, Option<DeniedToken>),
}

impl Outcome {
    /// Judges a token at a time. The first of revoked, expired and user disabled that holds is the reason against it.
    #[must_use]
    pub fn of(token: Token, user_active: bool, now: Timestamp) -> Self {
        let reason = match token.status(now) {
            TokenStatus::Revoked => RefusalReason::Revoked,
            TokenStatus::Expired => RefusalReason::Expired,
            TokenStatus::Active if !user_active => RefusalReason::UserDisabled,
            TokenStatus::Active => return Self::Valid(Box::new(token)),
        };
        let denied = DeniedToken { id: token.id.to_string(), user: token.user.to_string() };
        Self::Refused(reason, Some(denied))
    }
}
