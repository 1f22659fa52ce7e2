//! The task that follows the history: it looks at the database when this process has committed a change, when somebody
//! asks for it, and every 100 ms, for other processes write too. Nothing but the counter row tells of their changes, so
//! any database will do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Feed, Looked};
use crate::domain::changes::{Change, ChangePage, MOST, Part, Position, Standing};
use crate::domain::verdict::{Epoch, Revision};
use crate::error::chain;
use crate::lifecycle::Shutdown;
use crate::store::StoreError;

/// How often to look.
const POLL: Duration = Duration::from_millis(100);
/// How often at least, while the database fails.
const SLOWEST: Duration = Duration::from_secs(1);
/// How long a look may take, and how many may fail one after the other, until those who wait are told that changes are
/// not heard any more: silence would tell them that there are none.
const LATE: Duration = Duration::from_secs(2);
const FAILURES: u32 = 3;
/// How many token hashes are read at a time: few enough for a thin line, on which all of a large change would take longer than any
/// statement may.
const PART: usize = 4_000;

/// See the module's text.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    commits: watch::Receiver<()>,
    asked: watch::Receiver<u64>,
    /// The history that has lost revisions, until it has another name.
    damaged: Option<Epoch>,
    /// What was read of the next change, until all of it was.
    begun: Option<Change>,
    /// How many looks have failed one after the other.
    failures: u32,
}

impl Follower {
    pub(super) fn new(feed: Feed) -> Self {
        let (commits, asked) = (feed.0.store.history_changes(), feed.0.asked.subscribe());
        Self { feed, commits, asked, damaged: None, begun: None, failures: 0 }
    }

    /// Follows the history until the service ends; then all who wait are let go.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let commits = super::commits::tell(self.feed.clone(), self.feed.0.store.commits());
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.follow() => {}
            () = commits => {}
        }
        self.feed.0.heard.send_modify(super::Heard::end);
        self.feed.0.looked.send_replace(Looked { asked: u64::MAX, succeeded: false });
    }

    async fn follow(&mut self) {
        loop {
            self.commits.mark_unchanged();
            let asked = *self.asked.borrow_and_update();
            let succeeded = self.look().await;
            self.feed.0.looked.send_replace(Looked { asked, succeeded });
            self.rest().await;
        }
    }

    /// Rests until it is time for the next look. Nobody hurries a database that fails.
    async fn rest(&mut self) {
        // A first failure is mostly that of a connection which the server has ended, and the next one is new.
        if self.failures > 1 {
            return sleep(POLL.saturating_mul(1 << self.failures.min(8)).min(SLOWEST)).await;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            Ok(()) = self.commits.changed() => {}
            Ok(()) = self.asked.changed() => {}
        }
    }

    /// Hears what is new, and notes how that went.
    async fn look(&mut self) -> bool {
        let feed = self.feed.clone();
        let heard = {
            let hearing = self.hear();
            tokio::pin!(hearing);
            match timeout(LATE, &mut hearing).await {
                Ok(heard) => heard,
                Err(_) => {
                    feed.set_lost(true);
                    hearing.await
                }
            }
        };
        match heard {
            Ok(()) => self.succeeded(),
            Err(StoreError::NotBootstrapped) => {
                self.awaits_bootstrap();
                return false;
            }
            Err(error) => self.failed(&error),
        }
        self.failures == 0
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!("the change feed follows the database again");
        }
        if self.feed.0.awaits_bootstrap.swap(false, Ordering::Relaxed) {
            tracing::info!(
                "the database has an administrator now: the change feed and look-ups are answered"
            );
        }
        self.failures = 0;
        self.feed.set_lost(false);
    }

    /// The database answers, but nobody is told what it says. Nothing else is wrong with it, so it is looked at as often as ever.
    fn awaits_bootstrap(&mut self) {
        if !self.feed.0.awaits_bootstrap.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the database has never had an administrator: look-ups, the change feed and the management API answer 503 \
                 (not_bootstrapped) until `latchkey bootstrap` makes one; if there should be one, the service is on another \
                 database than before: check that its volume is mounted and its path right"
            );
        }
        self.failures = 0;
        self.feed.set_lost(true);
    }

    fn failed(&mut self, error: &StoreError) {
        if self.failures == 0 {
            tracing::warn!(
                cause = chain(error),
                "the change feed cannot follow the database; it goes on trying"
            );
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.feed.set_lost(true);
        }
    }

    /// Reads what is new, part by part, and tells it. What has arrived is kept, whatever becomes of the rest.
    async fn hear(&mut self) -> Result<(), StoreError> {
        let store = self.feed.0.store.clone();
        loop {
            if let Some(damaged) = &self.damaged {
                store.replace_epoch(damaged).await?;
                self.damaged = None;
            }
            let at = self.feed.0.heard.borrow().now().cloned();
            let Some(at) = at else {
                self.feed.begin(store.standing().await?);
                return Ok(());
            };
            // It may have been told from memory meanwhile.
            self.begun.take_if(|begun| begun.revision <= at.revision);
            // Before it is read, so that what is read reaches so far.
            let given = store.verdicts_as_of();
            let part = store.part_of_changes(&at, self.begun.as_ref(), PART).await?;
            if self.take(&at, given, part) {
                return Ok(());
            }
        }
    }

    /// Tells what was read after a position, when verdicts had been given as of some place. Says whether that is all for now.
    fn take(&mut self, at: &Position, given: Option<Standing>, mut part: Part) -> bool {
        let begun = self.begun.take();
        if part.now.position.epoch != at.epoch {
            tracing::info!(epoch = %part.now.position.epoch, "the history has a new epoch: edges forget their verdicts");
            self.feed.begin(part.now);
            return true;
        }
        let given = given.filter(|given| given.position.epoch == at.epoch);
        let given_of_another = given.is_some_and(|it| part.contradicts(it.position.revision, it.stamp));
        if given_of_another || self.feed.has_lost(at, begun.as_ref(), &part) {
            tracing::warn!(
                heard = %at.revision,
                found = %part.now.position.revision,
                "the history has lost revisions, as when a backup is restored, or a standby is promoted that lacked them: it gets a new \
                 epoch, and edges forget their verdicts"
            );
            self.damaged = Some(part.now.position.epoch);
            return false;
        }
        if let Some(begun) = begun {
            part.resume(begun);
        }
        if !part.known || part.changes.iter().any(|change| change.token_hashes.len() > MOST) {
            tracing::warn!("more has changed than the feed can tell: edges forget their verdicts");
            self.feed.begin(part.now);
            return true;
        }
        self.begun = part.take_unfinished();
        if !(part.changes.is_empty() && self.begun.is_some()) {
            self.feed.go_on(part, self.begun.as_ref());
        }
        self.begun.is_none()
    }
}

impl Feed {
    fn begin(&self, now: Standing) {
        self.0.heard.send_modify(|heard| heard.begin(now));
    }

    /// Whether what was read after a position is of another history than what is known: than what was heard, or what was read of the
    /// next change. A revision that was acknowledged and lost can have been given to another change since, and others follow that.
    fn has_lost(&self, at: &Position, begun: Option<&Change>, part: &Part) -> bool {
        let reached = part.now.position.revision;
        let of_another =
            |begun: &Change| begun.link.is_some_and(|link| part.contradicts(begun.revision, link.stamp));
        at.revision > reached
            || begun.is_some_and(|begun| begun.revision > reached || of_another(begun))
            || self.0.heard.borrow().is_contradicted_by(part)
    }

    /// Tells the changes that are read whole, where some of the next one may have been read as well.
    fn go_on(&self, part: Part, next: Option<&Change>) {
        let (through, stamp) = match next {
            Some(next) => (Revision(next.revision.0.saturating_sub(1)), next.link.map(|link| link.previous)),
            None => (part.now.position.revision, Some(part.now.stamp)),
        };
        self.0.heard.send_if_modified(|heard| {
            let before = heard.now().map(|now| now.revision);
            // More may have been told from memory since that was looked at; then the next look says what has become of it.
            if !heard.is_contradicted_by(&part) {
                heard.go_on(ChangePage { changes: part.changes, through }, stamp);
            }
            heard.now().map(|now| now.revision) != before
        });
    }

    fn set_lost(&self, lost: bool) {
        self.0.heard.send_if_modified(|heard| heard.set_lost(lost));
    }
}
