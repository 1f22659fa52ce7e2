//! How calls reach the database: reads on a connection, writes in a transaction that is tried again when it only lost
//! a race, and both within the store's patience.

use std::io::ErrorKind;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection};

use super::error::{Failure, StoreError};
use super::reserve::{self, Reserve};
use super::row::Columns;
use super::{Inner, Store};
use crate::clock::Sources;
use crate::domain::time::Timestamp;
use crate::telemetry::WRITES_FAILED;

/// How often a transaction is tried that others keep interrupting.
const ATTEMPTS: u32 = 5;

/// One SQL statement with what is bound to it.
pub(super) type Statement<'q> = Query<'q, Any, AnyArguments>;

/// One transaction under way.
pub(super) struct Tx<'c> {
    /// Where statements go.
    pub connection: &'c mut AnyConnection,
    /// For the identifiers that are made in it.
    pub sources: &'c Sources,
    /// Whether it has altered the history, so that those who follow it are told once it is committed.
    pub took_revision: bool,
}

impl Tx<'_> {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.sources.now()
    }

    /// The time now, to delete by.
    ///
    /// # Errors
    /// [`StoreError::ClockInDoubt`] while it may be wrong.
    pub fn sure_now(&self) -> Result<Timestamp, StoreError> {
        // In this order: what has moved since is of no consequence.
        let now = self.now();
        self.sources.hold().map_or(Ok(now), |hold| Err(StoreError::ClockInDoubt(hold)))
    }
}

/// What one transaction does. It may run several times; only the last run's changes stay.
pub(super) trait Work: Sync {
    /// What it finds or makes.
    type Output: Send;

    /// Whether it takes rights away, so that it goes on while the disk is full.
    fn is_revocation(&self) -> bool {
        false
    }

    /// About how many bytes of the disk it takes, if that is much.
    fn room(&self) -> u64 {
        0
    }

    /// Does it. An error rolls back whatever was done.
    fn run(&self, tx: &mut Tx<'_>) -> impl Future<Output = Result<Self::Output, StoreError>> + Send;
}

impl Store {
    /// Does one transaction that writes.
    pub(super) async fn write<W: Work>(&self, work: &W) -> Result<W::Output, StoreError> {
        let done = self.write_with_reserve(work).await;
        let mut trouble = done.as_ref().err().and_then(StoreError::trouble);
        if let Some(kind) = trouble {
            metrics::counter!(WRITES_FAILED, "kind" => kind).increment(1);
        } else if self.0.reserve.as_ref().is_some_and(|reserve| !reserve.is_whole()) {
            // A revocation was written from the reserve, and nothing else can be.
            trouble = Some("full");
        }
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        done
    }

    /// Writes within what the disk has beside its reserve, which is there for revocations alone.
    async fn write_with_reserve<W: Work>(&self, work: &W) -> Result<W::Output, StoreError> {
        let Some(reserve) = &self.0.reserve else { return self.write_at_last(work).await };
        if !work.is_revocation() {
            if !reserve.refill() || !reserve.has_room(work.room()) {
                return Err(StoreError::Full(sqlx::Error::Io(ErrorKind::StorageFull.into())));
            }
            let done = self.write_at_last(work).await;
            if done.is_ok() && reserve.is_time_to_look(work.room()) {
                self.0.settle(reserve).await;
            }
            return done;
        }
        let _in_progress = reserve.begin_revocation();
        let mut done = self.write_at_last(work).await;
        // At first the log's own room will do, where its pages can be written back.
        let mut room = matches!(done, Err(StoreError::Full(_))) && self.0.write_back().await.is_ok();
        while matches!(done, Err(StoreError::Full(_))) && (room || self.0.make_room(reserve).await) {
            room = false;
            done = self.write_at_last(work).await;
        }
        done
    }

    /// Tries until the transaction is done, or fails for another reason than that others were at work.
    async fn write_at_last<W: Work>(&self, work: &W) -> Result<W::Output, StoreError> {
        let mut attempt = 1;
        loop {
            match self.0.attempt(work).await {
                Err(error) if error.is_contention() && attempt < ATTEMPTS => {
                    // Whoever was in the way needs a moment; longer each time, and never the same for two.
                    let mut random = [0];
                    self.0.sources.fill(&mut random)?;
                    let pause = Duration::from_micros(u64::from(attempt) * (500 + 20 * u64::from(random[0])));
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Reads all rows of one statement.
    pub(super) async fn rows(&self, statement: Statement<'_>) -> Result<Vec<AnyRow>, StoreError> {
        let mut connection = self.0.readers.acquire().await?;
        let done = tokio::time::timeout(self.0.patience, statement.fetch_all(&mut *connection)).await;
        Ok(self.0.in_time(&mut connection, done)??)
    }

    /// Reads at most one row of one statement.
    pub(super) async fn row(&self, statement: Statement<'_>) -> Result<Option<AnyRow>, StoreError> {
        let mut connection = self.0.readers.acquire().await?;
        let done = tokio::time::timeout(self.0.patience, statement.fetch_optional(&mut *connection)).await;
        Ok(self.0.in_time(&mut connection, done)??)
    }

    /// Reads the one row that a statement always has.
    pub(super) async fn one(&self, statement: Statement<'_>) -> Result<AnyRow, StoreError> {
        self.row(statement).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }
}

/// A connection with a transaction under way. Where the caller goes away in the middle, as a client that hangs up does,
/// nobody knows what the database has begun, so the connection ends with it.
struct Held {
    connection: PoolConnection<Any>,
    finished: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.close_on_drop();
        }
    }
}

/// How one transaction went.
struct Transacted<T> {
    outcome: Result<T, StoreError>,
    /// Whether the connection knows that it has ended. SQLite ends one by itself when it cannot write, as to a full disk; the
    /// driver does not hear of that, and would begin no other on this connection.
    ended: bool,
}

impl Inner {
    /// Writes the log back while there is room for that, if much of the database is in it alone. What was acknowledged is safe
    /// in either, so that this may fail.
    async fn settle(&self, reserve: &Reserve) {
        if self.growth(reserve).await.is_ok_and(Reserve::is_too_much) {
            let _ = self.write_back().await;
        }
    }

    /// By how much the file must grow to hold what is in the log alone.
    async fn growth(&self, reserve: &Reserve) -> Result<u64, StoreError> {
        let mut connection = self.writer.acquire().await?;
        let size =
            "SELECT CAST(page_count * page_size AS BIGINT) AS size FROM pragma_page_count, pragma_page_size";
        let done = tokio::time::timeout(self.patience, sqlx::query(size).fetch_one(&mut *connection)).await;
        Ok(reserve.growth(self.in_time(&mut connection, done)??.number("size")?))
    }

    /// Gives up as much of the reserve as SQLite needs to write its log back into the file, and does that; `false` when
    /// nothing of it is left.
    async fn make_room(&self, reserve: &Reserve) -> bool {
        let growth = self.growth(reserve).await.unwrap_or_default();
        let released = reserve.release_for(growth);
        if released && growth <= reserve::SIZE {
            let _ = self.write_back().await;
        }
        released
    }

    /// Writes SQLite's log back, so that the next transaction begins it anew. One who still reads an old state of the
    /// database keeps it from that, which is no error.
    async fn write_back(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(RESTART)").fetch_all(&mut *connection);
        let done = tokio::time::timeout(self.patience, checkpoint).await;
        self.in_time(&mut connection, done)??;
        Ok(())
    }

    /// Tries a transaction once.
    async fn attempt<W: Work>(&self, work: &W) -> Result<W::Output, StoreError> {
        let mut held = Held { connection: self.writer.acquire().await?, finished: false };
        let done = tokio::time::timeout(self.patience, self.transact(&mut held.connection, work)).await;
        held.finished = true;
        let Transacted { outcome, ended } = self.in_time(&mut held.connection, done)?;
        if !ended {
            held.connection.close_on_drop();
        }
        outcome
    }

    async fn transact<W: Work>(&self, connection: &mut AnyConnection, work: &W) -> Transacted<W::Output> {
        match self.begin_and_end(connection, work).await {
            Ok(done) => done,
            Err(error) => Transacted { ended: error.is_contention(), outcome: Err(error) },
        }
    }

    /// An error is one of the beginning or the end.
    async fn begin_and_end<W: Work>(
        &self,
        connection: &mut AnyConnection,
        work: &W,
    ) -> Result<Transacted<W::Output>, StoreError> {
        let mut transaction = connection.begin_with(self.begin).await?;
        let mut tx = Tx { connection: &mut transaction, sources: &self.sources, took_revision: false };
        let done = work.run(&mut tx).await;
        let took_revision = tx.took_revision;
        match done {
            Ok(output) => {
                transaction.commit().await?;
                if took_revision {
                    self.history_changed.send_replace(());
                }
                Ok(Transacted { outcome: Ok(output), ended: true })
            }
            Err(refused) => {
                // The refusal is what matters, however that goes.
                let ended = transaction.rollback().await.is_ok();
                Ok(Transacted { outcome: Err(refused), ended })
            }
        }
    }

    /// Gives up a connection whose database has stopped answering, so that it does not keep its place in the pool.
    pub(super) fn in_time<T>(
        &self,
        connection: &mut PoolConnection<Any>,
        done: Result<T, tokio::time::error::Elapsed>,
    ) -> Result<T, StoreError> {
        done.map_err(|_| {
            connection.close_on_drop();
            Failure::TimedOut(self.patience).into()
        })
    }
}
