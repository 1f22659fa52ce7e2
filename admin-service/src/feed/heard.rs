//! What this process has heard of the history: where it stands, and the latest changes, as many as memory is given to.

use std::collections::VecDeque;

use crate::domain::changes::{Change, ChangePage, MOST, Part, Position, Stamp, Standing, Told};
use crate::domain::verdict::Revision;
use crate::telemetry::REVISION;

/// How many token hashes are remembered, of 32 bytes each; the largest page is among them whole.
const REMEMBERED: usize = 65_536;
const _: () = assert!(REMEMBERED >= MOST);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Heard {
    /// `None` before the first look at the database.
    now: Option<Position>,
    /// The stamp of the history there, where it is known.
    stamp: Option<Stamp>,
    /// The revision after which all changes are remembered.
    since: Revision,
    changes: VecDeque<Change>,
    /// How many token hashes there are in `changes`, and may be.
    hashes: (usize, usize),
    /// Whether the database has not been heard for so long that nobody can say that nothing has changed.
    lost: bool,
    ending: bool,
}

/// What there is to say to somebody at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: the history stands there.
    Same,
    /// Nothing, and whether that is so will not be known: the service is ending.
    Ending,
    /// Nothing, but whether that is so is not known: the database is not heard.
    Lost,
    /// There are changes, and they are remembered.
    News,
    /// There are changes, and only the database knows them all.
    Behind,
    /// The position is not in the history as far as it was heard.
    Elsewhere,
}

impl Default for Heard {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Heard {
    /// Nothing heard yet, and room for so many token hashes.
    fn remembering(most: usize) -> Self {
        let changes = VecDeque::new();
        Self {
            now: None,
            stamp: None,
            since: Revision(0),
            changes,
            hashes: (0, most),
            lost: false,
            ending: false,
        }
    }

    /// Where the history stands, as far as it was heard.
    pub(super) fn now(&self) -> Option<&Position> {
        self.now.as_ref()
    }

    /// The stamp of the history there, where it is known.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Begins anew: of what was before, nothing is remembered.
    pub(super) fn begin(&mut self, now: Standing) {
        self.since = now.position.revision;
        self.changes.clear();
        self.hashes.0 = 0;
        metrics::gauge!(REVISION).set(gauge(self.since.0));
        (self.now, self.stamp) = (Some(now.position), Some(now.stamp));
    }

    /// Remembers what follows from where the history stood, up to a revision at which it has this stamp, and forgets the oldest
    /// where there is too much. What was heard already, from memory while the database was asked, is not heard again.
    pub(super) fn go_on(&mut self, page: ChangePage, stamp: Option<Stamp>) {
        let reached = self.now.as_ref().map(|now| now.revision);
        if reached == Some(page.through) {
            self.stamp = self.stamp.or(stamp);
        }
        let Some(now) = self.now.as_mut().filter(|now| now.revision < page.through) else { return };
        let known = std::mem::replace(&mut now.revision, page.through);
        self.stamp = stamp;
        metrics::gauge!(REVISION).set(gauge(page.through.0));
        for change in page.changes.into_iter().filter(|change| change.revision > known) {
            self.hashes.0 += change.token_hashes.len();
            self.changes.push_back(change);
        }
        while self.hashes.0 > self.hashes.1 {
            let Some(oldest) = self.changes.pop_front() else { return };
            self.hashes.0 -= oldest.token_hashes.len();
            self.since = oldest.revision;
        }
    }

    /// Whether what was read is of another history than the one that was heard. What was told from memory since it was read does not
    /// count: it can be beyond it.
    pub(super) fn is_contradicted_by(&self, part: &Part) -> bool {
        let read = &part.now.position;
        let within = |now: &&Position| now.epoch == read.epoch && now.revision <= read.revision;
        let heard = self.now.as_ref().filter(within).zip(self.stamp);
        heard.is_some_and(|(now, stamp)| part.contradicts(now.revision, stamp))
    }

    /// Notes whether the database is heard; says whether that is new.
    pub(super) fn set_lost(&mut self, lost: bool) -> bool {
        std::mem::replace(&mut self.lost, lost) != lost
    }

    /// Lets everybody go.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// What there is to say to somebody at a position.
    pub(super) fn look(&self, at: &Position) -> Look {
        match &self.now {
            Some(now) if now.epoch == at.epoch && at.revision <= now.revision => {
                if at.revision < self.since {
                    Look::Behind
                } else if at.revision < now.revision {
                    Look::News
                } else if self.ending {
                    Look::Ending
                } else if self.lost {
                    Look::Lost
                } else {
                    Look::Same
                }
            }
            _ => Look::Elsewhere,
        }
    }

    /// A page of what follows a position, of about so many token hashes; `None` where that is not remembered.
    pub(super) fn told(&self, at: &Position, size: usize) -> Option<Told> {
        let now = self.now.clone().filter(|_| self.look(at) == Look::News)?;
        let first = self.changes.partition_point(|change| change.revision <= at.revision);
        let page = ChangePage::first(self.changes.range(first..).cloned(), size, now.revision);
        Some(Told { now, page: Some(page) })
    }
}

/// A number as a gauge has it: exact up to 2^53.
#[expect(clippy::as_conversions, reason = "there is no other way to a float")]
fn gauge(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use crate::domain::time::Timestamp;
    use latchkey::token::TokenHash;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::verdict::Epoch;

    fn at(epoch: &str, revision: u64) -> Position {
        Position { epoch: Epoch(epoch.to_owned()), revision: Revision(revision) }
    }

    fn standing(epoch: &str, revision: u64) -> Standing {
        Standing { position: at(epoch, revision), stamp: Stamp(0) }
    }

    fn change(revision: u64, hashes: usize) -> Change {
        let token_hashes = (0..hashes).map(|n| TokenHash::of(format!("{revision} {n}").as_bytes())).collect();
        Change { revision: Revision(revision), at: Timestamp::UNIX_EPOCH, token_hashes, link: None }
    }

    fn page(changes: Vec<Change>, through: u64) -> ChangePage {
        ChangePage { changes, through: Revision(through) }
    }

    #[test]
    fn what_there_is_to_say_depends_on_what_was_heard() {
        let mut heard = Heard::remembering(3);
        assert_eq!(heard.look(&at("e", 0)), Look::Elsewhere);
        heard.begin(standing("e", 4));
        heard.go_on(page(vec![change(5, 2), change(6, 2), change(7, 1)], 8), None);
        for (position, look) in [
            (at("e", 4), Look::Behind),
            (at("e", 5), Look::News),
            (at("e", 7), Look::News),
            (at("e", 8), Look::Same),
            (at("e", 9), Look::Elsewhere),
            (at("f", 6), Look::Elsewhere),
        ] {
            assert_eq!(heard.look(&position), look, "{position:?}");
        }
        assert!(heard.set_lost(true) && !heard.set_lost(true));
        assert_eq!((heard.look(&at("e", 7)), heard.look(&at("e", 8))), (Look::News, Look::Lost));
        heard.end();
        assert_eq!((heard.look(&at("e", 7)), heard.look(&at("e", 8))), (Look::News, Look::Ending));
    }

    #[test]
    fn what_was_before_a_new_beginning_is_forgotten() {
        let mut heard = Heard::default();
        heard.begin(standing("e", 0));
        heard.go_on(page(vec![change(1, 1), change(2, 1)], 2), None);
        heard.begin(standing("f", 2));
        assert_eq!(heard.look(&at("e", 1)), Look::Elsewhere);
        assert_eq!(heard.look(&at("f", 1)), Look::Behind);
        assert_eq!(heard.told(&at("f", 1), 10), None);
    }

    #[test]
    fn what_is_heard_twice_from_memory_and_from_the_database_is_told_once_and_nothing_goes_back() {
        let mut heard = Heard::default();
        heard.begin(standing("e", 4));
        heard.go_on(page(vec![change(5, 1), change(6, 1)], 6), None);
        heard.go_on(page(vec![change(5, 1)], 5), None);
        assert_eq!(heard.now(), Some(&at("e", 6)));
        heard.go_on(page(vec![change(5, 1), change(6, 1), change(8, 1)], 8), None);
        let told = heard.told(&at("e", 4), 10).unwrap().page.unwrap();
        let revisions: Vec<u64> = told.changes.iter().map(|change| change.revision.0).collect();
        assert_eq!((revisions.as_slice(), told.through), ([5, 6, 8].as_slice(), Revision(8)));
        assert_eq!(heard.hashes.0, 3);
    }

    proptest! {
        #[test]
        fn a_reader_that_joins_anywhere_and_pages_in_any_size_misses_nothing(
            begin in 0_u64..5,
            sizes in prop::collection::vec(0_usize..6, 0..40),
            heard_at_once in 1_usize..7,
            most in 0_usize..60,
            size in 1_usize..12,
        ) {
            let all: Vec<Change> = (begin + 1..).zip(&sizes).map(|(revision, n)| change(revision, *n)).collect();
            let last = begin + sizes.len() as u64;
            let mut heard = Heard::remembering(most);
            heard.begin(standing("e", begin));
            for some in all.chunks(heard_at_once) {
                // The database has no row for a revision that touched nothing.
                let touched = some.iter().filter(|change| !change.token_hashes.is_empty()).cloned().collect();
                heard.go_on(page(touched, some.last().unwrap().revision.0), None);
            }
            for join in begin..=last {
                let expected: Vec<TokenHash> = all.iter().filter(|change| change.revision.0 > join)
                    .flat_map(|change| change.token_hashes.iter().copied()).collect();
                let (mut reader, mut found) = (at("e", join), Vec::new());
                let forgotten = heard.look(&reader) == Look::Behind;
                while let Some(told) = heard.told(&reader, size) {
                    let page = told.page.unwrap();
                    prop_assert!(page.changes.len() <= 1 || page.token_hashes().count() <= size);
                    prop_assert!(page.through > reader.revision);
                    found.extend(page.token_hashes());
                    reader.revision = page.through;
                }
                if forgotten {
                    prop_assert_eq!((found.len(), reader.revision.0), (0, join));
                    prop_assert!(expected.len() > most);
                } else {
                    prop_assert_eq!((found, reader.revision.0), (expected, last));
                }
            }
        }
    }
}
