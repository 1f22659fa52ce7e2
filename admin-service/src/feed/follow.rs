//! The task that follows the history: it looks at the database when this process has committed a change, when somebody
//! asks for it, and every 100 ms, for other processes write too. Nothing but the counter row tells of their changes, so
//! any database will do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Feed, Looked};
use crate::domain::changes::{MOST, Position, Stamp, Told};
use crate::domain::verdict::Epoch;
use crate::error::chain;
use crate::lifecycle::Shutdown;
use crate::store::{Standing, StoreError};

/// How often to look.
const POLL: Duration = Duration::from_millis(100);
/// How often at least, while the database fails.
const SLOWEST: Duration = Duration::from_secs(1);
/// How long a look may take, and how many may fail one after the other, until those who wait are told that changes are
/// not heard any more: silence would tell them that there are none.
const LATE: Duration = Duration::from_secs(2);
const FAILURES: u32 = 3;

/// See the module's text.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    commits: watch::Receiver<()>,
    asked: watch::Receiver<u64>,
    /// The history that has lost revisions, until it has another name.
    damaged: Option<Epoch>,
    /// How many looks have failed one after the other.
    failures: u32,
}

impl Follower {
    pub(super) fn new(feed: Feed) -> Self {
        let (commits, asked) = (feed.0.store.history_changes(), feed.0.asked.subscribe());
        Self { feed, commits, asked, damaged: None, failures: 0 }
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

    /// Reads what is new, in as large parts as there are, and tells it.
    async fn hear(&mut self) -> Result<(), StoreError> {
        let store = self.feed.0.store.clone();
        loop {
            if let Some(damaged) = &self.damaged {
                store.replace_epoch(damaged).await?;
                self.damaged = None;
            }
            let at = self.feed.0.heard.borrow().now().cloned();
            let Some(at) = at else {
                let Standing { position, stamp } = store.standing().await?;
                self.feed.begin(&position, Some(stamp));
                return Ok(());
            };
            let Told { now, stamp, page } = store.changes(&at, MOST).await?;
            match page {
                Some(page) if page.through == at.revision => {
                    if self.feed.is_still_at(&at, stamp) {
                        return Ok(());
                    }
                    tracing::warn!(
                        revision = %at.revision,
                        "the history was replaced by another of the same revision, as when a backup is restored: it gets a new \
                         epoch, and edges forget their verdicts"
                    );
                    self.damaged = Some(now.epoch);
                }
                Some(page) => {
                    self.feed.0.heard.send_modify(|heard| {
                        heard.go_on(page);
                        heard.note_stamp(&now, stamp);
                    });
                }
                None => self.begin_anew(&at, now, stamp),
            }
        }
    }

    /// What was heard does not lead to where the history stands `now`.
    fn begin_anew(&mut self, at: &Position, now: Position, stamp: Option<Stamp>) {
        if now.epoch != at.epoch {
            tracing::info!(epoch = %now.epoch, "the history has a new epoch: edges forget their verdicts");
        } else if now.revision < at.revision {
            tracing::warn!(
                heard = %at.revision,
                found = %now.revision,
                "the history has lost revisions, as when a backup is restored: it gets a new epoch, and edges forget their verdicts"
            );
            self.damaged = Some(now.epoch);
            return;
        } else {
            tracing::warn!("more has changed than the feed can tell: edges forget their verdicts");
        }
        self.feed.begin(&now, stamp);
    }
}

impl Feed {
    fn begin(&self, now: &Position, stamp: Option<Stamp>) {
        self.0.heard.send_modify(|heard| {
            heard.begin(now.clone());
            heard.note_stamp(now, stamp);
        });
    }

    /// Whether the history that was found at a position can be the one that was heard; its stamp is noted if so.
    fn is_still_at(&self, at: &Position, stamp: Option<Stamp>) -> bool {
        let mut same = true;
        self.0.heard.send_if_modified(|heard| {
            same = heard.can_have(at, stamp);
            if same {
                heard.note_stamp(at, stamp);
            }
            false
        });
        same
    }

    fn set_lost(&self, lost: bool) {
        self.0.heard.send_if_modified(|heard| heard.set_lost(lost));
    }
}
