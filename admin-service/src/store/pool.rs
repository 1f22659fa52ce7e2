//! The connections that are kept between calls. None is given out unless its server has said within the last second that it takes
//! writes; where one turns out to be of no use, all others that were idle at that time are ended too.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::connector::{ConnectError, Connected, Connector, Peer, farewell};
use super::error::{Failure, StoreError};
use super::patience::{Unfinished, within};
use crate::telemetry::Stopwatch;

/// How old a server's word may be that it takes writes.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to say so. Another connection is made then.
const CHECK_WITHIN: Duration = Duration::from_secs(1);
/// How long a connection is kept that nobody uses, and how long at all.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// How soon a server is tried again that is not there yet; more each time, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Connections to one database. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Arc<Connector>,
    /// What each new connection is told: all of it must succeed, and then what need not.
    settings: Settings,
    most: u32,
    patience: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// What a caller without a connection waits for.
enum Pending {
    /// One of those in use.
    Place,
    /// The server, which has not responded yet.
    Server,
    /// The next attempt, after this error.
    Retry(ConnectError),
}

/// What each new connection is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Without this it is not used.
    pub needed: String,
    /// What a server may not know.
    pub wanted: Option<&'static str>,
}

#[derive(Default)]
struct Idle {
    kept: Vec<Kept>,
    /// How often all idle connections were ended. One of an earlier time does not come back.
    generation: u64,
}

struct Kept {
    connection: AnyConnection,
    peer: Option<Peer>,
    made: Stopwatch,
    used: Stopwatch,
    checked: Stopwatch,
    generation: u64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("most", &self.0.most).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(connector: Arc<Connector>, settings: Settings, most: u32, patience: Duration) -> Self {
        let places = usize::try_from(most.max(1)).unwrap_or(1);
        Self(Arc::new(Shared {
            connector,
            settings,
            most: most.max(1),
            patience,
            places: Arc::new(Semaphore::new(places)),
            idle: Mutex::default(),
        }))
    }

    /// A connection that is in use until it is dropped; whoever has finished with it says so by [`Pooled::done`].
    pub(super) async fn acquire(&self) -> Result<Pooled, StoreError> {
        let mut pending = Pending::Place;
        let found = within(self.0.patience, self.find_or_make(&mut pending)).await;
        match (found, pending) {
            (Ok(found), _) => found,
            (Err(Unfinished::Panicked), _) => Err(Failure::Panicked.into()),
            (Err(Unfinished::Late), Pending::Place) => Err(Failure::NoConnection(self.0.patience).into()),
            (Err(Unfinished::Late), Pending::Server) => Err(Failure::TimedOut(self.0.patience).into()),
            (Err(Unfinished::Late), Pending::Retry(error)) => Err(error.into()),
        }
    }

    async fn find_or_make(&self, pending: &mut Pending) -> Result<Pooled, StoreError> {
        let place = Arc::clone(&self.0.places).acquire_owned().await;
        let place = place.map_err(|_| sqlx::Error::PoolClosed)?;
        *pending = Pending::Server;
        while let Some(kept) = self.0.take() {
            if let Some(kept) = self.0.still_good(kept).await {
                return Ok(self.lend(kept, place));
            }
        }
        let mut pause = RETRY.0;
        loop {
            match self.0.make().await {
                Err(error) if error.passes_soon() => *pending = Pending::Retry(error),
                Err(error) => return Err(error.into()),
                Ok(kept) => return Ok(self.lend(kept, place)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    fn lend(&self, kept: Kept, place: OwnedSemaphorePermit) -> Pooled {
        Pooled { kept: Some(kept), place: Some(place), state: State::Busy, pool: Arc::clone(&self.0) }
    }

    /// Ends all connections, when the calls in progress are done.
    pub(super) async fn close(&self) {
        let all = self.0.places.acquire_many(self.0.most).await;
        self.0.places.close();
        drop(all);
        let kept = std::mem::take(&mut self.0.idle().kept);
        for Kept { connection, .. } in kept {
            farewell(connection).await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idle connection that was used last. Those that were not for long are ended.
    fn take(&self) -> Option<Kept> {
        let mut idle = self.idle();
        idle.kept.retain(|kept| kept.used.elapsed() < MAX_IDLE && kept.made.elapsed() < MAX_AGE);
        idle.kept.pop()
    }

    /// Whether a connection still works, and to a server that takes writes, as far as that is not known.
    async fn still_good(&self, mut kept: Kept) -> Option<Kept> {
        let Some(peer) = kept.peer.clone() else { return Some(kept) };
        if kept.checked.elapsed() < CHECK_EVERY {
            return Some(kept);
        }
        let reason = match timeout(CHECK_WITHIN, peer.check(&mut kept.connection)).await {
            Ok(Ok(())) => {
                kept.checked = Stopwatch::start();
                return Some(kept);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {CHECK_WITHIN:?}"),
        };
        tracing::info!(reason, "the connections to the database are made anew");
        self.end_idle(kept.generation);
        None
    }

    /// Ends all idle connections, and those in use when they come back, unless that was done since.
    fn end_idle(&self, generation: u64) {
        let mut idle = self.idle();
        if idle.generation == generation {
            idle.generation += 1;
            idle.kept.clear();
        }
    }

    async fn make(&self) -> Result<Kept, ConnectError> {
        let generation = self.idle().generation;
        let Connected { mut connection, peer } = self.connector.connect().await?;
        self.settings.apply(&mut connection).await?;
        let now = Stopwatch::start();
        Ok(Kept { connection, peer, made: now, used: now, checked: now, generation })
    }

    fn give_back(&self, mut kept: Kept) {
        kept.used = Stopwatch::start();
        let mut idle = self.idle();
        if kept.generation == idle.generation {
            idle.kept.push(kept);
        }
    }
}

impl Settings {
    pub(super) async fn apply(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        connection.execute(AssertSqlSafe(self.needed.clone())).await?;
        match self.wanted {
            None => Ok(()),
            Some(wanted) => match connection.execute(AssertSqlSafe(wanted)).await {
                Err(sqlx::Error::Database(_)) | Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}

/// What becomes of a connection when its user has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was given up in the middle: what its server still sends must be read first.
    Busy,
    Done,
    Broken,
}

/// A connection in use.
pub(super) struct Pooled {
    kept: Option<Kept>,
    place: Option<OwnedSemaphorePermit>,
    state: State,
    pool: Arc<Shared>,
}

impl Pooled {
    /// Whoever used it has finished, so that the next one may.
    pub(super) fn done(&mut self) {
        if self.state == State::Busy {
            self.state = State::Done;
        }
    }

    /// It is of no use any more.
    pub(super) fn close_on_drop(&mut self) {
        self.state = State::Broken;
    }

    /// Its server has ended it, or takes no writes any more, and so the others are of no use either.
    pub(super) fn server_is_lost(&mut self) {
        self.state = State::Broken;
        if let Some(kept) = &self.kept {
            self.pool.end_idle(kept.generation);
        }
    }
}

#[expect(clippy::expect_used, reason = "it is taken out when this is dropped, and not before")]
impl Deref for Pooled {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.kept.as_ref().expect("a connection in use").connection
    }
}

#[expect(clippy::expect_used, reason = "it is taken out when this is dropped, and not before")]
impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.kept.as_mut().expect("a connection in use").connection
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        if self.state == State::Done {
            return self.pool.give_back(kept);
        }
        let (pool, place, state) = (Arc::clone(&self.pool), self.place.take(), self.state);
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut kept = kept;
            // A file's statement goes on to its end, and locks what it locks until then.
            let limit = if kept.peer.is_some() { CHECK_WITHIN } else { pool.patience };
            if state == State::Busy && timeout(limit, kept.connection.ping()).await.is_ok_and(|it| it.is_ok())
            {
                pool.give_back(kept);
            } else {
                farewell(kept.connection).await;
            }
            drop(place);
        });
    }
}
