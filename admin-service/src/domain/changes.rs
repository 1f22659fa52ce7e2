//! Changes, as the feed tells them: which token hashes each revision touched, in pages that end where a revision ends.

use std::sync::Arc;

use latchkey::token::TokenHash;

use super::verdict::{Epoch, Revision};
use crate::domain::time::Timestamp;

/// The most token hashes of a page that tells of several revisions.
pub const PAGE: usize = 1_000;
/// The most token hashes of any page: one revision can touch more than [`PAGE`], as when a user with many tokens is
/// disabled, and then has a page of its own. In JSON such a page stays under the 4 MiB that a filter reads; a revision
/// that touches even more is told as a reset.
pub const MOST: usize = 60_000;

/// A place in a history: all up to and including this revision is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which history.
    pub epoch: Epoch,
    /// How far.
    pub revision: Revision,
}

/// Tells histories apart that have come to the same position in different ways, as a restored backup has: random, and another with
/// each revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub i64);

/// What one revision touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: Revision,
    /// When it was made.
    pub at: Timestamp,
    /// The hashes of the tokens whose verdicts it may have altered. Shared, as many readers are told of the same.
    pub token_hashes: Arc<[TokenHash]>,
}

/// Some of the changes that follow a position, with none left out between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes, in the order of their revisions. A revision that touched nothing may not be among them.
    pub changes: Vec<Change>,
    /// The revision that a reader has reached with this page.
    pub through: Revision,
}

/// What the history has for a reader at some position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where the history stands.
    pub now: Position,
    /// The stamp that it has there, where the database itself was asked.
    pub stamp: Option<Stamp>,
    /// What comes next for the reader; `None` when that is not known any more, or the reader's position never was.
    pub page: Option<ChangePage>,
}

impl ChangePage {
    /// The first of `changes` that make up no more than `size` hashes, but one at least. All of them reach up to `last`.
    #[must_use]
    pub fn first(changes: impl IntoIterator<Item = Change>, size: usize, last: Revision) -> Self {
        let mut page = Self { changes: Vec::new(), through: last };
        let mut hashes = 0;
        for change in changes {
            hashes += change.token_hashes.len();
            if let Some(before) = page.changes.last().filter(|_| hashes > size) {
                page.through = before.revision;
                break;
            }
            page.changes.push(change);
        }
        page
    }

    /// The token hashes in the order of their changes.
    pub fn token_hashes(&self) -> impl Iterator<Item = TokenHash> {
        self.changes.iter().flat_map(|change| change.token_hashes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, hashes: usize) -> Change {
        let token_hashes = (0..hashes).map(|n| TokenHash::of(format!("{revision} {n}").as_bytes())).collect();
        Change { revision: Revision(revision), at: Timestamp::UNIX_EPOCH, token_hashes }
    }

    #[test]
    fn a_page_ends_at_a_revision_and_holds_one_at_least() {
        let changes = [change(4, 2), change(5, 3), change(7, 9), change(8, 1)];
        for (from, size, revisions, through) in [
            (0, 5, &[4, 5][..], 5),
            (0, 4, &[4], 4),
            (1, 5, &[5], 5),
            (2, 5, &[7], 7),
            (3, 5, &[8], 10),
            (4, 5, &[], 10),
        ] {
            let page = ChangePage::first(changes.iter().skip(from).cloned(), size, Revision(10));
            let found: Vec<u64> = page.changes.iter().map(|change| change.revision.0).collect();
            assert_eq!((found.as_slice(), page.through), (revisions, Revision(through)), "from {from}");
        }
    }

    #[test]
    fn the_largest_page_is_under_what_a_filter_reads() {
        let page = latchkey::wire::ChangesResponse {
            epoch: "019ab000-0000-7000-8000-000000000000".to_owned(),
            revision: u64::MAX,
            reset: false,
            more: false,
            token_hashes: vec![TokenHash::of(b"x"); MOST],
            hash_prefixes: Vec::new(),
            next_offset: None,
        };
        assert!(serde_json::to_vec(&page).unwrap().len() < 4 * 1024 * 1024);
    }
}
