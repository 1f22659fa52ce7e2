//! Answers of the feed, written once for all who get the same.

use axum::body::Bytes;
use latchkey::wire::{ChangesResponse, MAX_PREFIXES};

use crate::domain::changes::{ChangePage, PAGE, Position};
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

/// In which form an edge is told of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By their whole hashes, each change as a whole.
    Hashes,
    /// By the prefixes of their hashes, in small answers: of the next change, so many are known already.
    Prefixes {
        /// How many.
        offset: u64,
    },
}

impl Form {
    /// The most tokens of an answer that tells of several changes.
    pub(super) const fn page(self) -> usize {
        match self {
            Self::Hashes => PAGE,
            Self::Prefixes { .. } => MAX_PREFIXES,
        }
    }
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
    pub(super) fn changes(now: &Position, page: &ChangePage, form: Form) -> Self {
        let oldest = page.changes.first().map(|change| change.at);
        let answer = match form {
            Form::Hashes => {
                let through = Position { epoch: now.epoch.clone(), revision: page.through };
                let token_hashes = page.token_hashes().collect();
                ChangesResponse { token_hashes, more: page.through < now.revision, ..nothing(&through) }
            }
            Form::Prefixes { offset } => prefixes(now, page, offset),
        };
        Self { oldest, ..Self::new(&answer, Outcome::Changes) }
    }

    /// Nothing, to who is `at`.
    pub(super) fn nothing(at: &Position, outcome: Outcome) -> Self {
        Self::new(&nothing(at), outcome)
    }

    /// To go on from `now` with nothing.
    pub(super) fn reset(now: &Position) -> Self {
        Self::new(&ChangesResponse { reset: true, ..nothing(now) }, Outcome::Reset)
    }

    fn new(answer: &ChangesResponse, outcome: Outcome) -> Self {
        // It can always be written; a filter would take an empty body for an outage.
        let body = serde_json::to_vec(answer).unwrap_or_default().into();
        Self { body, outcome, oldest: None, more: answer.more, through: Revision(answer.revision) }
    }
}

fn nothing(at: &Position) -> ChangesResponse {
    ChangesResponse {
        epoch: at.epoch.0.clone(),
        revision: at.revision.0,
        reset: false,
        more: false,
        token_hashes: Vec::new(),
        hash_prefixes: Vec::new(),
        next_offset: None,
    }
}

/// A page by prefixes. Of its first change `offset` tokens are known; one that touches too many for an answer, and so has the page to
/// itself, is told in parts.
fn prefixes(now: &Position, page: &ChangePage, offset: u64) -> ChangesResponse {
    let first = page.changes.first();
    let known = usize::try_from(offset).unwrap_or(usize::MAX);
    // Who claims to know all of it, or more, has it from somewhere else.
    let known = if first.is_some_and(|change| known < change.token_hashes.len()) { known } else { 0 };
    let mut hashes = page.token_hashes().skip(known);
    let hash_prefixes = hashes.by_ref().take(MAX_PREFIXES).map(|hash| hash.prefix()).collect();
    let (through, next_offset) = match (hashes.next(), first) {
        (Some(_), Some(change)) => {
            let told = known.saturating_add(MAX_PREFIXES);
            (change.revision.0.saturating_sub(1), u64::try_from(told).ok())
        }
        _ => (page.through.0, None),
    };
    let through = Position { epoch: now.epoch.clone(), revision: Revision(through) };
    ChangesResponse { hash_prefixes, next_offset, more: through.revision < now.revision, ..nothing(&through) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use latchkey::token::TokenHash;

    use super::*;
    use crate::domain::changes::Change;
    use crate::domain::verdict::Epoch;

    fn change(revision: u64, hashes: usize) -> Change {
        let hash = |n: usize| TokenHash::of(format!("{revision} {n}").as_bytes());
        let token_hashes: Arc<[TokenHash]> = (0..hashes).map(hash).collect();
        Change { revision: Revision(revision), at: Timestamp::UNIX_EPOCH, token_hashes, link: None }
    }

    /// What an edge at revision 4 is told of these changes until it knows all, answer by answer.
    fn told(changes: &[Change], last: u64) -> Vec<ChangesResponse> {
        let now = Position { epoch: Epoch("e".to_owned()), revision: Revision(last) };
        let (mut revision, mut offset, mut answers) = (4, 0, Vec::<ChangesResponse>::new());
        while answers.last().is_none_or(|answer| answer.more) {
            let form = Form::Prefixes { offset };
            let following = changes.iter().filter(|change| change.revision.0 > revision).cloned();
            let page = ChangePage::first(following, form.page(), now.revision);
            let answer: ChangesResponse =
                serde_json::from_slice(&Answer::changes(&now, &page, form).body).unwrap();
            (revision, offset) = (answer.revision, answer.next_offset.unwrap_or(0));
            answers.push(answer);
        }
        answers
    }

    #[test]
    fn a_change_of_many_tokens_comes_in_parts_and_each_token_once() {
        let changes = [change(5, 10), change(7, 2 * MAX_PREFIXES + 1), change(8, 3)];
        let answers = told(&changes, 9);
        let seen: Vec<_> =
            answers.iter().map(|it| (it.revision, it.hash_prefixes.len(), it.next_offset)).collect();
        let first = MAX_PREFIXES as u64;
        let expected = [
            (5, 10, None),
            (6, MAX_PREFIXES, Some(first)),
            (6, MAX_PREFIXES, Some(2 * first)),
            (7, 1, None),
            (9, 3, None),
        ];
        assert_eq!(seen, expected);
        let all = changes.iter().flat_map(|change| change.token_hashes.iter().map(TokenHash::prefix));
        assert!(answers.iter().flat_map(|answer| answer.hash_prefixes.iter().copied()).eq(all));
        assert!(answers.iter().all(|answer| answer.token_hashes.is_empty() && !answer.reset));
    }

    #[test]
    fn a_change_that_just_fits_is_told_at_once() {
        let answers = told(&[change(5, MAX_PREFIXES)], 5);
        assert_eq!((answers.len(), answers[0].next_offset, answers[0].revision), (1, None, 5));
    }

    #[test]
    fn an_edge_that_claims_to_know_more_than_there_is_is_told_all() {
        let now = Position { epoch: Epoch("e".to_owned()), revision: Revision(5) };
        let page = ChangePage { changes: vec![change(5, 3)], through: Revision(5) };
        for (offset, told) in [(0, 3), (2, 1), (3, 3), (u64::MAX, 3)] {
            assert_eq!(prefixes(&now, &page, offset).hash_prefixes.len(), told, "{offset}");
        }
    }
}
