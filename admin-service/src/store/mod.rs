//! The store: every SQL statement of the service, for SQLite and PostgreSQL alike.
//!
//! Each method is one transaction, or one statement. A method that changes something takes the [`Origin`] of the change
//! and writes the audit entry in the same transaction; one that can alter a verdict takes the next revision there too.
//! Rows are locked by an `UPDATE` that returns them, in one order, so that no two calls wait for each other:
//! restrictions or lease, then users by their identifiers, then tokens, then history, which is the one row that all writers
//! share, and the clock's after it. Whoever makes a token with another locks that one after its user. A usage report locks its edge, then the hour that it counts in, then tokens, and nothing else.
//!
//! [`Origin`]: crate::domain::audit::Origin

mod audit;
mod authority;
mod backup;
mod bootstrap;
mod changes;
mod clock;
mod connector;
mod database_file;
mod doubt;
mod epoch;
mod error;
mod examine;
pub(crate) mod files;
mod found;
mod history;
mod import;
mod leases;
mod lineage;
mod log_size;
mod look_ups;
mod migrate;
mod open;
mod open_error;
mod patience;
mod pool;
mod postgres_url;
mod presence;
mod reserve;
mod restrictions;
mod retention;
mod revocation;
mod rotation;
mod row;
mod scheduler;
mod search;
mod server_error;
mod shorten;
mod stats;
mod token_rows;
mod token_update;
mod tokens;
mod touched;
mod transaction;
mod url;
mod usage;
mod user_restrictions;
mod users;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use latchkey::token::TokenHash;
use sqlx::{AnyConnection, Connection};
use tokio::sync::{broadcast, watch};

use crate::clock::Sources;
use clock::ClockWatch;
use database_file::DatabaseFile;
use look_ups::LookUps;
use pool::Pool;
use presence::Presence;
use reserve::Reserve;

pub use backup::{BackupError, Contents, Lost, Restored};
pub use connector::{NoWrites, ReadOnlyRole, TransactionPooler};
pub use database_file::Displaced;
pub use error::{Failure, StoreError};
pub use examine::Examination;
pub use history::{Committed, Standing};
pub use leases::{Holder, Lease};
pub use migrate::Schema;
pub use open_error::OpenError;
pub use retention::{EDGES_RETAINED, HOURS_RETAINED, RETAINED};
pub use revocation::Revoked;
pub use scheduler::{Batch, SchedulerState, Trigger};
pub use server_error::ServerError;
pub use shorten::{Shortened, WouldShorten};
pub use touched::{EXAMPLES, OverLifetime, OverTokens, Touched, TouchedToken, TouchedUser};
pub use url::{DatabaseUrl, InvalidDatabaseUrl};

/// How many commits are kept for one who follows the history and is slower than they are.
const COMMITS_KEPT: usize = 256;

/// How to use the database.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// The most connections at once: in all on PostgreSQL, for reading on SQLite, where one more writes.
    pub connections: u32,
    /// How long a call waits for a connection, and again for the database to answer.
    pub patience: Duration,
    /// Whether a database that is not there yet is refused, and not made.
    pub must_exist: bool,
}

impl Default for StoreOptions {
    /// 10 connections, 5 seconds; a database that is not there is made.
    fn default() -> Self {
        Self { connections: 10, patience: Duration::from_secs(5), must_exist: false }
    }
}

/// The service's memory. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Connections for reading; on PostgreSQL for everything.
    readers: Pool,
    /// Where transactions that write begin: on SQLite one connection, so that writers queue in order here and do not
    /// poll for the file's lock.
    writer: Pool,
    /// What begins a transaction that writes.
    begin: &'static str,
    patience: Duration,
    /// Disk space for revocations; `None` on PostgreSQL, whose disk is its own.
    reserve: Option<Reserve>,
    /// The files of the database; `None` on PostgreSQL.
    file: Option<DatabaseFile>,
    /// A connection that stays open, so that SQLite never removes its log under the others; [`Store::shrink_log`] works on it.
    anchor: tokio::sync::Mutex<Option<AnyConnection>>,
    /// Says that the database is in use; `None` on PostgreSQL, and where there are no locks.
    presence: Option<Presence>,
    sources: Sources,
    look_ups: LookUps,
    clock: ClockWatch,
    restrictions_changed: watch::Sender<()>,
    history_changed: watch::Sender<()>,
    committed: broadcast::Sender<Committed>,
    /// How many edges have reported for the first time.
    new_edges: AtomicU32,
    /// Why the latest change could not be written, if it could not.
    trouble: Mutex<Option<&'static str>>,
}

impl Store {
    /// The clock and generator that the store uses.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// Whether verdicts are given: looks a token up that nobody has, together with the look-ups of others.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.verify(TokenHash::from_bytes([0; 32])).await.map(|_| ())
    }

    /// What is wrong with the database's files, as far as the latest look has shown.
    #[must_use]
    pub fn displaced(&self) -> Option<Displaced> {
        self.0.file.as_ref().and_then(DatabaseFile::displaced)
    }

    /// What kept the latest change from being written: `full` or `unavailable`; `None`: it was written, or refused for what
    /// it was.
    #[must_use]
    pub fn write_trouble(&self) -> Option<&'static str> {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names this process as a service of its SQLite file, and gives the names of the others that run on it.
    #[must_use]
    pub fn announce(&self) -> Vec<String> {
        // On a full disk nobody is named, and the lock holds all the same.
        self.0.presence.as_ref().and_then(|presence| presence.announce().ok()).unwrap_or_default()
    }

    /// Hears of every change of the restrictions that is made through this store or a clone of it.
    #[must_use]
    pub fn restrictions_changes(&self) -> watch::Receiver<()> {
        self.0.restrictions_changed.subscribe()
    }

    /// Hears of every change of the history that is committed through this store or a clone of it, though not of those
    /// that other processes make.
    #[must_use]
    pub fn history_changes(&self) -> watch::Receiver<()> {
        self.0.history_changed.subscribe()
    }

    /// Hears of each of these changes itself, as soon as it is committed, though not always in their order; not of those that touch
    /// very many tokens.
    #[must_use]
    pub fn commits(&self) -> broadcast::Receiver<Committed> {
        self.0.committed.subscribe()
    }

    /// Ends all connections, when the calls under way are done. SQLite writes its log back into the file.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
        // Until here, nothing is acknowledged in a file that has gone; from here on SQLite itself removes the log.
        if let Some(file) = &self.0.file {
            file.close();
        }
        if let Some(anchor) = self.0.anchor.lock().await.take() {
            // Where that fails, the next one who opens the database finds the log.
            let _ = anchor.close().await;
        }
    }
}
