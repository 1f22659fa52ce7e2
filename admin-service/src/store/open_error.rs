//! Why a database cannot be opened, as sentences for the operator.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::migrate::MigrateError;

use super::connector::{ConnectError, TransactionPooler};
use super::server_error::ServerError;
use super::url::DatabaseUrl;
use crate::clock::NoEntropy;

/// Why a database cannot be opened. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be made or read.
    #[error(
        "the database file {path} cannot be opened ({source}); check that its folder exists and is writable"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is no file, and none is to be made.
    #[error(
        "there is no database at {}, and --database-must-exist is set; check that its volume is mounted and its path right, or \
         make the first one with `latchkey bootstrap`",
        .0.display()
    )]
    Missing(PathBuf),
    /// The database holds nothing, and none is to be made.
    #[error(
        "the database {0} is empty, and --database-must-exist is set; check that it is the right one, or make the first one with \
         `latchkey bootstrap`"
    )]
    Empty(DatabaseUrl),
    /// The file's content is no SQLite database, or a broken one.
    #[error(
        "the database cannot be read: it is damaged, or not a SQLite database; restore it from a backup, or name another file"
    )]
    Damaged(#[source] sqlx::Error),
    /// A later Latchkey has changed it.
    #[error(
        "the database was used by a newer Latchkey (schema {found}, this one knows {known}); run that version or a later one"
    )]
    Newer {
        /// The latest migration in the database.
        found: i64,
        /// The latest migration that this program knows.
        known: i64,
    },
    /// It holds tables, and they are not Latchkey's.
    #[error("the database holds tables that are not Latchkey's; give Latchkey a database of its own")]
    Foreign,
    /// Its schema is not what this program's migrations made.
    #[error("the database's schema is not this program's ({0}); restore it from a backup")]
    Migration(#[source] MigrateError),
    /// SQLite refuses what is asked of it.
    #[error("the database cannot be opened: {0}")]
    Database(#[source] sqlx::Error),
    /// PostgreSQL cannot be reached, or refuses what is asked of it.
    #[error("{0}")]
    Server(#[source] Box<ServerError>),
    /// It did not answer in time.
    #[error("the database did not answer within {0:?}; check that it runs, and that its URL is right")]
    TimedOut(Duration),
    /// What it was connected to is no server but a pooler that does not keep what the service needs.
    #[error(transparent)]
    TransactionPooler(#[from] TransactionPooler),
    /// The driver panicked; the panic is in the log.
    #[error(
        "the database's driver panicked; check that what answers is PostgreSQL, and please report it with the log"
    )]
    Panicked,
    /// `latchkey restore` works on the file.
    #[error("the database {} is being restored; start again when `latchkey restore` has ended", .0.display())]
    BeingRestored(PathBuf),
    /// The operating system's generator failed.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl OpenError {
    /// Whether SQLite had no room for its files: `SQLITE_FULL`, and what it makes of a full disk for the index of its log.
    pub(super) fn is_full(&self) -> bool {
        let (Self::Database(error) | Self::Damaged(error)) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        matches!(code.as_deref(), Some("13" | "4874"))
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        match code.as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some("11" | "26") => Self::Damaged(error),
            _ => Self::Database(error),
        }
    }
}

impl From<ConnectError> for OpenError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Driver(error) => error.into(),
            ConnectError::NoWrites(server) => Self::Server(Box::new(server.into())),
            ConnectError::TransactionPooler(pooler) => pooler.into(),
        }
    }
}
