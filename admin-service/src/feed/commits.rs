//! What this process has committed is told from memory, at once: the database may be slow, locked or cut off just then, and a
//! revocation that was acknowledged is to be heard all the same.
//!
//! It is told when it is the next revision after what was heard, in the same epoch. A revision is taken under a lock that is held
//! until its commit, so revisions have no gaps and nothing that those who wait would miss can lie between. Two commits of this
//! process may be announced in another order than they were made: the later one waits here for the earlier.
//!
//! Where another replica's revision lies between, nothing is told, and the database is asked at once, as for all that others do. An
//! edge that is told of revision 7 takes it that it knows 6, so it would go on with verdicts that 6 has changed; and were it told the
//! tokens of 7 under an earlier number, a verify answer as of 6 would pass for newer than the change. The same holds for an epoch that
//! was not heard yet, and for changes of so many tokens that they are not announced. A revision 7 that follows another 6 than the one
//! that was heard, as after a failover that lost it, is not told either: the database shows the loss. A commit whose end nobody knows is not
//! announced either: if it was made after all, the next one does not follow what was heard, and the database tells of both.

use std::collections::BTreeMap;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Feed;
use crate::domain::changes::{ChangePage, Position, Stamp};
use crate::store::Committed;

/// How many commits wait at most for one before them; the database tells of the others.
const WAITING: usize = 1_024;

/// Tells of commits, for ever.
pub(super) async fn tell(feed: Feed, mut commits: Receiver<Committed>) {
    let mut early = Early::default();
    let mut heard = feed.0.heard.subscribe();
    loop {
        tokio::select! {
            commit = commits.recv() => match commit {
                Ok(commit) => early.add(commit),
                // More than this task could keep up with, which the database tells of.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return std::future::pending().await,
            },
            // Perhaps what was missing was heard from the database.
            Ok(()) = heard.changed(), if !early.0.is_empty() => {}
        }
        feed.tell(&mut early);
    }
}

impl Feed {
    fn tell(&self, early: &mut Early) {
        self.0.heard.send_if_modified(|heard| {
            let stamp_before = heard.stamp();
            let Some(Following { page, stamp }) =
                heard.now().and_then(|now| early.following(now, stamp_before))
            else {
                return false;
            };
            heard.go_on(page, stamp);
            true
        });
    }
}

/// What follows where the history stood, and its stamp after that.
struct Following {
    page: ChangePage,
    stamp: Option<Stamp>,
}

/// Commits that were not told yet, by their revisions.
#[derive(Debug, Default)]
struct Early(BTreeMap<u64, Committed>);

impl Early {
    fn add(&mut self, commit: Committed) {
        self.0.insert(commit.change.revision.0, commit);
        if self.0.len() > WAITING {
            self.0.pop_first();
        }
    }

    /// Takes out what follows `now`, where the history has this stamp, with nothing between, and forgets what is known there.
    fn following(&mut self, now: &Position, mut stamp: Option<Stamp>) -> Option<Following> {
        self.0 = self.0.split_off(&now.revision.0.saturating_add(1));
        let mut page = ChangePage { changes: Vec::new(), through: now.revision };
        while let Some(next) = self.0.first_entry()
            && *next.key() == page.through.0.saturating_add(1)
            && next.get().epoch == now.epoch
            && next.get().change.can_follow(stamp)
        {
            let commit = next.remove();
            page.through = commit.change.revision;
            stamp = commit.change.link.map(|link| link.stamp);
            page.changes.push(commit.change);
        }
        (!page.changes.is_empty()).then_some(Following { page, stamp })
    }
}

#[cfg(test)]
mod tests {
    use latchkey::token::TokenHash;

    use super::*;
    use crate::domain::changes::{Change, Link};
    use crate::domain::time::Timestamp;
    use crate::domain::verdict::{Epoch, Revision};

    fn stamp(revision: u64) -> Stamp {
        Stamp(i64::try_from(revision).unwrap())
    }

    fn commit(epoch: &str, revision: u64) -> Committed {
        let token_hashes = [TokenHash::of(&revision.to_be_bytes())].into();
        let link = Some(Link { previous: stamp(revision - 1), stamp: stamp(revision) });
        let change = Change { revision: Revision(revision), at: Timestamp::UNIX_EPOCH, token_hashes, link };
        Committed { epoch: Epoch(epoch.to_owned()), change }
    }

    /// What follows a position, and how many commits wait then.
    fn following(early: &mut Early, epoch: &str, revision: u64) -> (Vec<u64>, usize) {
        let now = Position { epoch: Epoch(epoch.to_owned()), revision: Revision(revision) };
        let following = early.following(&now, Some(stamp(revision)));
        if let Some(Following { page, stamp: reached }) = &following {
            assert_eq!(Some(page.through), page.changes.last().map(|change| change.revision));
            assert_eq!(*reached, Some(stamp(page.through.0)));
        }
        let changes = following.map(|following| following.page.changes).unwrap_or_default();
        (changes.iter().map(|change| change.revision.0).collect(), early.0.len())
    }

    #[test]
    fn what_follows_is_told_in_order_and_what_does_not_waits_for_what_is_between() {
        let mut early = Early::default();
        early.add(commit("e", 7));
        assert_eq!(following(&mut early, "e", 5), (vec![], 1));
        early.add(commit("e", 9));
        early.add(commit("e", 6));
        assert_eq!(following(&mut early, "e", 5), (vec![6, 7], 1));
        assert_eq!(
            following(&mut early, "e", 8),
            (vec![9], 0),
            "another replica made 8, and the database told of it"
        );
    }

    #[test]
    fn what_was_heard_from_the_database_is_forgotten() {
        let mut early = Early::default();
        for revision in [6, 7, 8] {
            early.add(commit("e", revision));
        }
        assert_eq!(following(&mut early, "e", 8), (vec![], 0));
    }

    #[test]
    fn of_another_history_nothing_is_told() {
        let mut early = Early::default();
        early.add(commit("f", 6));
        early.add(commit("f", 7));
        assert_eq!(following(&mut early, "e", 5), (vec![], 2));
        assert_eq!(following(&mut early, "f", 6), (vec![7], 0), "its epoch was heard since");
    }

    #[test]
    fn what_follows_another_revision_of_the_same_number_is_not_told() {
        let now = Position { epoch: Epoch("e".to_owned()), revision: Revision(5) };
        let mut early = Early::default();
        early.add(commit("e", 6));
        assert!(early.following(&now, Some(Stamp(-5))).is_none());
        let found = early.following(&now, None).map(|following| following.page.through);
        assert_eq!(found, Some(Revision(6)), "where no stamp is known, the number is what there is");
        // The second is of a primary that has lost the first.
        early.add(commit("e", 7));
        let mut other = commit("e", 8);
        other.change.link = Some(Link { previous: Stamp(-7), stamp: stamp(8) });
        early.add(other);
        assert_eq!(following(&mut early, "e", 6), (vec![7], 1));
    }

    #[test]
    fn only_so_many_wait() {
        let mut early = Early::default();
        for revision in 10..10_000 {
            early.add(commit("e", revision));
        }
        assert_eq!(early.0.len(), WAITING);
    }
}
