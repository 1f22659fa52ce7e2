//! The change feed inside this process. One task follows the history in the database, and hears at once of what this process
//! itself commits; all who wait for changes wait for what it has heard, and are answered from memory. Only who is further behind than that is answered from the database.

mod answer;
mod commits;
mod follow;
mod heard;
mod recent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::domain::changes::{MOST, Position};
use crate::store::{Store, StoreError};
use crate::telemetry::FEEDS_WAITING;
use heard::{Heard, Look};
use recent::Recent;

pub use answer::{Answer, Form, Outcome};
pub use follow::Follower;

/// How many may wait at a time.
pub const PLACES: usize = 16_384;
/// How many at a time are answered from the database; more wait, and mostly find their answer made when it is their turn.
const READERS: usize = 2;
/// How long somebody waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Whether anything has changed cannot be told now.
    #[error("the service cannot follow its database now")]
    Lost,
    /// The database never had an administrator, so it says nothing.
    #[error("the database has never had an administrator")]
    NotBootstrapped,
    /// Too many wait already.
    #[error("{PLACES} feeds wait already")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells of changes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    heard: watch::Sender<Heard>,
    /// How often somebody has asked for a look at the database.
    asked: watch::Sender<u64>,
    looked: watch::Sender<Looked>,
    /// Whether the database says nothing because it never had an administrator.
    awaits_bootstrap: AtomicBool,
    recent: Recent,
    places: Semaphore,
    readers: Semaphore,
}

/// How the follower's latest look at the database went.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    /// How many had asked for one before it began.
    asked: u64,
    succeeded: bool,
}

impl Feed {
    /// The feed of a store, and the task that it lives by.
    #[must_use]
    pub fn new(store: Store) -> (Self, Follower) {
        let feed = Self(Arc::new(Inner {
            store,
            heard: watch::Sender::default(),
            asked: watch::Sender::default(),
            looked: watch::Sender::default(),
            awaits_bootstrap: AtomicBool::default(),
            recent: Recent::default(),
            places: Semaphore::new(PLACES),
            readers: Semaphore::new(READERS),
        }));
        let follower = Follower::new(feed.clone());
        (feed, follower)
    }

    /// How many wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        PLACES - self.0.places.available_permits()
    }

    /// What has changed since `at`, by whole hashes; see [`Feed::answer_in`].
    ///
    /// # Errors
    /// [`Unanswered`]: then nobody knows whether something has changed.
    pub async fn answer(&self, at: Option<&Position>, wait: Duration) -> Result<Answer, Unanswered> {
        self.answer_in(Form::Hashes, at, wait).await
    }

    /// What has changed since `at`; where nothing has, what changes within `wait`. It comes at once when there is a
    /// change already, when the service is ending, and, as a reset, when `at` is nothing the service knows.
    ///
    /// # Errors
    /// [`Unanswered`]: then nobody knows whether something has changed.
    pub async fn answer_in(
        &self,
        form: Form,
        at: Option<&Position>,
        wait: Duration,
    ) -> Result<Answer, Unanswered> {
        let Some(at) = at else {
            return Ok(Answer::reset(&Box::pin(self.look()).await?));
        };
        let mut heard = self.0.heard.subscribe();
        if matches!(heard.borrow_and_update().look(at), Look::Elsewhere) {
            // Perhaps another replica has told of it already, and this one is about to hear.
            Box::pin(self.look()).await?;
        }
        let _place = self.0.places.try_acquire().map_err(|_| Unanswered::Full)?;
        let _waiting = Waiting::begin();
        match timeout(wait, news(at, &mut heard)).await {
            Err(_) => Ok(Answer::nothing(at, Outcome::Timeout)),
            Ok(Look::Same | Look::Ending) => Ok(Answer::nothing(at, Outcome::Ending)),
            Ok(Look::Lost) => Err(self.lost()),
            // Boxed, so that those who wait need no memory for what few of them come to.
            Ok(Look::Elsewhere) => Ok(Answer::reset(&Box::pin(self.look()).await?)),
            Ok(Look::Behind) => Box::pin(self.read(at, form)).await,
            Ok(Look::News) => match self.remembered(at, form) {
                Some(answer) => Ok(answer),
                None => Box::pin(self.read(at, form)).await,
            },
        }
    }

    /// The answer from memory; `None` when just now too much has come since.
    fn remembered(&self, at: &Position, form: Form) -> Option<Answer> {
        let now = self.0.heard.borrow().now().cloned()?;
        self.0.recent.shared(at, form, &now, || self.0.heard.borrow().told(at, form.page()))
    }

    /// The answer from the database, unless too many wait for theirs already.
    async fn read(&self, at: &Position, form: Form) -> Result<Answer, Unanswered> {
        timeout(PATIENCE, self.read_in_turn(at, form)).await.unwrap_or(Err(Unanswered::Lost))
    }

    async fn read_in_turn(&self, at: &Position, form: Form) -> Result<Answer, Unanswered> {
        // Never closed, so this only waits.
        let _turn = self.0.readers.acquire().await;
        let now = self.0.heard.borrow().now().cloned();
        if let Some(answer) = now.and_then(|now| self.0.recent.find(at, form, &now)) {
            return Ok(answer);
        }
        let told = self.0.store.changes(at, form.page()).await?;
        let now = told.now.clone();
        let more = told.page.as_ref().is_some_and(|page| page.through < now.revision);
        let anew = more && self.is_cheaper_to_begin_anew(at, form).await?;
        let told = Some(told).filter(|_| !anew);
        // Thousands of edges can be where nothing follows that could be told, as before a change of very many tokens.
        Ok(self
            .0
            .recent
            .shared(at, form, &now, || told)
            .unwrap_or_else(|| self.0.recent.reset(at, form, &now)))
    }

    /// Whether an edge had better forget all that it knows than be told what has changed: that is several times as much as its cache
    /// holds by default, and while it reads page after page, what was revoked last passes. One who asks for whole hashes is told
    /// all the same, as long as it is kept.
    async fn is_cheaper_to_begin_anew(&self, at: &Position, form: Form) -> Result<bool, StoreError> {
        Ok(form != Form::Hashes && self.0.store.has_more_changes_than(at, MOST).await?)
    }

    /// Why the history is not heard.
    fn lost(&self) -> Unanswered {
        if self.0.awaits_bootstrap.load(Ordering::Relaxed) {
            Unanswered::NotBootstrapped
        } else {
            Unanswered::Lost
        }
    }

    /// Where the history stands, by a look at the database that begins after this call; all who ask meanwhile share one.
    async fn look(&self) -> Result<Position, Unanswered> {
        let mut looked = self.0.looked.subscribe();
        let mut mine = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        let done = timeout(PATIENCE, looked.wait_for(|looked| looked.asked >= mine)).await;
        if !done.is_ok_and(|looked| looked.is_ok_and(|looked| looked.succeeded)) {
            return Err(self.lost());
        }
        self.0.heard.borrow().now().cloned().ok_or(Unanswered::Lost)
    }
}

/// Waits until there is something to say to who is `at`.
async fn news(at: &Position, heard: &mut watch::Receiver<Heard>) -> Look {
    loop {
        let look = heard.borrow_and_update().look(at);
        if !matches!(look, Look::Same) || heard.changed().await.is_err() {
            return look;
        }
    }
}

/// Counts a feed as waiting until it is answered or its edge goes away.
struct Waiting(metrics::Gauge);

impl Waiting {
    fn begin() -> Self {
        let gauge = metrics::gauge!(FEEDS_WAITING);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
