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
mod epoch;
mod error;
mod examine;
pub(crate) mod files;
mod history;
mod import;
mod leases;
mod lineage;
mod look_ups;
mod migrate;
mod open;
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

use sqlx::AnyPool;
use tokio::sync::watch;

use crate::clock::Sources;
use clock::ClockWatch;
use look_ups::LookUps;
use presence::Presence;
use reserve::Reserve;

pub use backup::{BackupError, Contents, Lost, Restored};
pub use error::{Failure, StoreError};
pub use examine::Examination;
pub use leases::{Holder, Lease};
pub use migrate::Schema;
pub use open::OpenError;
pub use retention::{EDGES_RETAINED, HOURS_RETAINED, RETAINED};
pub use revocation::Revoked;
pub use scheduler::{Batch, SchedulerState, Trigger};
pub use server_error::ServerError;
pub use shorten::{Shortened, WouldShorten};
pub use touched::{EXAMPLES, OverLifetime, OverTokens, Touched, TouchedToken, TouchedUser};
pub use url::{DatabaseUrl, InvalidDatabaseUrl};

/// How to use the database.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// The most connections at once: in all on PostgreSQL, for reading on SQLite, where one more writes.
    pub connections: u32,
    /// How long a call waits for a connection, and again for the database to answer.
    pub patience: Duration,
}

impl Default for StoreOptions {
    /// 10 connections, 5 seconds.
    fn default() -> Self {
        Self { connections: 10, patience: Duration::from_secs(5) }
    }
}

/// The service's memory. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Connections for reading; on PostgreSQL for everything.
    readers: AnyPool,
    /// Where transactions that write begin: on SQLite one connection, so that writers queue in order here and do not
    /// poll for the file's lock.
    writer: AnyPool,
    /// What begins a transaction that writes.
    begin: &'static str,
    patience: Duration,
    /// Disk space for revocations; `None` on PostgreSQL, whose disk is its own.
    reserve: Option<Reserve>,
    /// Says that the database is in use; `None` on PostgreSQL, and where there are no locks.
    presence: Option<Presence>,
    sources: Sources,
    look_ups: LookUps,
    clock: ClockWatch,
    restrictions_changed: watch::Sender<()>,
    history_changed: watch::Sender<()>,
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

    /// Whether the database answers, and can be read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not within the store's patience.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.position().await.map(|_| ())
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

    /// Ends all connections, when the calls under way are done. SQLite writes its log back into the file.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
    }
}
