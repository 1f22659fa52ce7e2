//! Answers of the feed, written once for all who get the same.

use axum::body::Bytes;
use latchkey::token::TokenHash;
use latchkey::wire::ChangesResponse;

use crate::domain::changes::{ChangePage, Position};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Revision;

/// An answer as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// JSON. Clones share it.
    pub body: Bytes,
    /// What it says.
    pub outcome: Outcome,
    /// When the first of the changes was made that it tells of.
    pub oldest: Option<Timestamp>,
    /// Whether there are later changes.
    pub(super) more: bool,
    /// The revision that it reaches up to.
    pub(super) through: Revision,
}

/// What an answer says, for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something has changed.
    Changes,
    /// Nothing has changed within the time to wait.
    Timeout,
    /// The reader is to begin anew.
    Reset,
    /// Nothing has changed until the service was told to end.
    Ending,
}

impl Outcome {
    /// Its name as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Ending => "ending",
        }
    }
}

impl Answer {
    /// A page of changes, where the history stands at `now`.
    pub(super) fn changes(now: &Position, page: &ChangePage) -> Self {
        let through = Position { epoch: now.epoch.clone(), revision: page.through };
        let more = page.through < now.revision;
        let oldest = page.changes.first().map(|change| change.at);
        Self { oldest, ..Self::new(&through, Outcome::Changes, more, page.token_hashes().collect()) }
    }

    /// Nothing, to who is `at`.
    pub(super) fn nothing(at: &Position, outcome: Outcome) -> Self {
        Self::new(at, outcome, false, Vec::new())
    }

    /// To go on from `now` with nothing.
    pub(super) fn reset(now: &Position) -> Self {
        Self::new(now, Outcome::Reset, false, Vec::new())
    }

    fn new(through: &Position, outcome: Outcome, more: bool, token_hashes: Vec<TokenHash>) -> Self {
        let answer = ChangesResponse {
            epoch: through.epoch.0.clone(),
            revision: through.revision.0,
            reset: outcome == Outcome::Reset,
            more,
            token_hashes,
        };
        // It can always be written; a filter would take an empty body for an outage.
        let body = serde_json::to_vec(&answer).unwrap_or_default().into();
        Self { body, outcome, oldest: None, more, through: through.revision }
    }
}
