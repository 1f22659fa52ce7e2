//! Changes, as the feed tells them: which token hashes each revision touched, in pages that end where a revision ends.

use std::cmp::Ordering;
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

/// Where a history stands, for those who go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name and its latest revision.
    pub position: Position,
    /// What tells it from another history that has come to the same position.
    pub stamp: Stamp,
}

/// What ties a change to the history that it was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The stamp that the history had before it.
    pub previous: Stamp,
    /// The stamp that the history had with it.
    pub stamp: Stamp,
}

/// What one revision touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: Revision,
    /// When it was made.
    pub at: Timestamp,
    /// The hashes of the tokens whose verdicts it may have altered. Shared, as many readers are told of the same.
    pub token_hashes: Arc<[TokenHash]>,
    /// What it follows; `None` where an earlier release has written it, which does not say.
    pub link: Option<Link>,
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
    /// What comes next for the reader; `None` when that is not known any more, or the reader's position never was.
    pub page: Option<ChangePage>,
}

/// What one read has found after some position, all of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the history stands.
    pub now: Standing,
    /// Whether the position is in the history, and all that follows it is retained.
    pub known: bool,
    /// The changes, in the order of their revisions.
    pub changes: Vec<Change>,
    /// Whether there are more token hashes, so that the last change may not be whole.
    pub cut: bool,
}

impl Change {
    /// Whether it can be the next one of a history that has this stamp, as far as that is known.
    #[must_use]
    pub fn can_follow(&self, stamp: Option<Stamp>) -> bool {
        stamp.zip(self.link).is_none_or(|(stamp, link)| link.previous == stamp)
    }
}

impl Part {
    /// Whether this history is another one than that which had the stamp at the revision: it does not reach so far, or had another
    /// stamp there. It knows its stamps at its latest revision, at those of the changes that were read, and right before them.
    #[must_use]
    pub fn contradicts(&self, revision: Revision, stamp: Stamp) -> bool {
        match revision.cmp(&self.now.position.revision) {
            Ordering::Greater => true,
            Ordering::Equal => self.now.stamp != stamp,
            Ordering::Less => self.stamp_at(revision).is_some_and(|found| found != stamp),
        }
    }

    fn stamp_at(&self, revision: Revision) -> Option<Stamp> {
        self.changes.iter().find_map(|change| match change.link {
            Some(link) if change.revision == revision => Some(link.stamp),
            Some(link) if change.revision.0 == revision.0.saturating_add(1) => Some(link.previous),
            _ => None,
        })
    }

    /// Puts what was read before of a change in front of what follows it.
    pub fn resume(&mut self, begun: Change) {
        match self.changes.first_mut() {
            Some(rest) if rest.revision == begun.revision => {
                rest.token_hashes = [&*begun.token_hashes, &*rest.token_hashes].concat().into();
            }
            _ => self.changes.insert(0, begun),
        }
    }

    /// Takes the last change out if it may not be whole.
    pub fn take_unfinished(&mut self) -> Option<Change> {
        if self.cut { self.changes.pop() } else { None }
    }
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
        Change { revision: Revision(revision), at: Timestamp::UNIX_EPOCH, token_hashes, link: None }
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

    /// A part of a history in which revision n has the stamp n and the latest is 9.
    fn part(changes: Vec<Change>, cut: bool) -> Part {
        let position = Position { epoch: Epoch("e".to_owned()), revision: Revision(9) };
        Part { now: Standing { position, stamp: Stamp(9) }, known: true, changes, cut }
    }

    fn linked(revision: u64, hashes: usize) -> Change {
        let stamp = Stamp(i64::try_from(revision).unwrap());
        let link = Some(Link { previous: Stamp(stamp.0 - 1), stamp });
        Change { link, ..change(revision, hashes) }
    }

    #[test]
    fn a_history_is_another_where_it_ends_before_or_has_another_stamp_as_far_as_it_says() {
        let read = part(vec![linked(5, 1), linked(6, 1), change(8, 1)], false);
        for (revision, stamp, contradicted) in [
            (10, 10, true),
            (9, 9, false),
            (9, 8, true),
            (6, 6, false),
            (6, 7, true),
            (5, 7, true),
            (4, 4, false),
            (4, 7, true),
            // What an earlier release has written says nothing, nor does what was not read.
            (8, 7, false),
            (7, 1, false),
            (3, 1, false),
        ] {
            assert_eq!(
                read.contradicts(Revision(revision), Stamp(stamp)),
                contradicted,
                "{revision} {stamp}"
            );
        }
    }

    #[test]
    fn a_change_that_is_read_in_parts_comes_together() {
        let whole = linked(5, 7);
        let some = |range: std::ops::Range<usize>| Change {
            token_hashes: whole.token_hashes[range].into(),
            ..whole.clone()
        };
        let mut first = part(vec![linked(4, 1), some(0..3)], true);
        let begun = first.take_unfinished().unwrap();
        assert_eq!(first.changes, [linked(4, 1)]);
        let mut last = part(vec![some(3..7), linked(6, 1)], false);
        last.resume(begun);
        assert_eq!(last.take_unfinished(), None);
        assert_eq!(last.changes, [whole.clone(), linked(6, 1)]);
        // It was whole already.
        let mut next = part(vec![linked(6, 1)], false);
        next.resume(whole.clone());
        assert_eq!(next.changes, [whole, linked(6, 1)]);
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
