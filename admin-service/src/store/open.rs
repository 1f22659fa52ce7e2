//! Opening the database: making the file, checking that it is ours, migrating it, and setting up the connections.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::MigrateError;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tokio::sync::watch;

use super::clock::{ClockWatch, follow_from_opening};
use super::files::create_private;
use super::look_ups::LookUps;
use super::migrate::{Kind, check, migrate};
use super::presence::{Absent, Presence};
use super::reserve::Reserve;
use super::server_error::ServerError;
use super::url::{DatabaseUrl, Location};
use super::{Inner, Store, StoreOptions};
use crate::clock::{NoEntropy, Sources};

/// How often a server that is not up yet is tried.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How often it is said that it is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a connection may have been idle and still be used unasked. Asking costs as much as many a statement.
const FRESH: Duration = Duration::from_secs(1);

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
    /// `latchkey restore` works on the file.
    #[error("the database {} is being restored; start again when `latchkey restore` has ended", .0.display())]
    BeingRestored(PathBuf),
    /// The operating system's generator failed.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl OpenError {
    /// Whether SQLite had no room for its files: `SQLITE_FULL`, and what it makes of a full disk for the index of its log.
    fn is_full(&self) -> bool {
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

impl Store {
    /// Opens a database, making the SQLite file where there is none, and migrates it.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for the operator. The database is as it was.
    pub async fn open(url: &DatabaseUrl, options: StoreOptions, sources: Sources) -> Result<Self, OpenError> {
        let Location::Sqlite(path) = &url.0 else {
            let (kind, connect) = connect_options(url)?;
            let prepared = prepare(&connect, kind, options.patience, &sources).await;
            prepared.map_err(|error| ServerError::explain(error, url))?;
            return Ok(Self(Arc::new(pools(&connect, kind, options, sources))));
        };
        make_file(path)?;
        let presence = join(path).await?;
        let (kind, connect) = connect_options(url)?;
        let reserve = Reserve::of(path);
        // SQLite makes files of its own beside this one, for which a full disk has no room but the reserve's.
        while let Err(error) = prepare(&connect, kind, options.patience, &sources).await {
            if !error.is_full() || !reserve.release() {
                return Err(error);
            }
        }
        let inner = Inner { presence, reserve: Some(reserve), ..pools(&connect, kind, options, sources) };
        let store = Self(Arc::new(inner));
        // With a connection open, those files are there, and the reserve can be taken from what is left.
        if store.ping().await.is_ok() && !store.0.reserve.as_ref().is_none_or(Reserve::refill) {
            tracing::warn!(
                "the disk of the database is full: until it has room, nothing but revocations is written"
            );
        }
        Ok(store)
    }

    /// The same, and waits for a PostgreSQL server that is not up yet, saying so now and then.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for the operator: of what does not pass by waiting at once.
    pub async fn open_within(
        url: &DatabaseUrl,
        options: StoreOptions,
        sources: Sources,
        wait: Duration,
    ) -> Result<Self, OpenError> {
        let mut deadline = std::pin::pin!(tokio::time::sleep(wait));
        let mut tell = tokio::time::interval(TELL_EVERY);
        loop {
            let error = match Self::open(url, options, sources.clone()).await {
                Err(OpenError::Server(error)) if error.passes => error,
                done => return done,
            };
            tokio::select! {
                biased;
                () = &mut deadline => return Err(OpenError::Server(error)),
                _ = tell.tick() => tracing::warn!(at_most_seconds = wait.as_secs(), "waiting for the database: {error}"),
                () = tokio::time::sleep(RETRY_EVERY) => {}
            }
        }
    }
}

/// Joins those who use a SQLite file. Where locks are impossible, as on some network file systems, it is used all the same.
async fn join(path: &Path) -> Result<Option<Presence>, OpenError> {
    match Presence::join(path).await {
        Ok(presence) => Ok(Some(presence)),
        Err(Absent::Held(_)) => Err(OpenError::BeingRestored(path.to_owned())),
        Err(Absent::Impossible(file, error)) => {
            tracing::warn!(
                %error, file = %file.display(),
                "the database cannot be locked; do not restore one while a service runs on it"
            );
            Ok(None)
        }
    }
}

/// How to connect to a database that is there.
pub(super) fn connect_options(url: &DatabaseUrl) -> Result<(Kind, AnyConnectOptions), OpenError> {
    sqlx::any::install_default_drivers();
    let (kind, url) = match &url.0 {
        Location::Sqlite(path) => (Kind::Sqlite, sqlite_url(path)?),
        Location::Postgres(url) => (Kind::Postgres, url.clone()),
    };
    Ok((kind, url.parse()?))
}

/// Checks and migrates the database on a connection of its own.
async fn prepare(
    connect: &AnyConnectOptions,
    kind: Kind,
    patience: Duration,
    sources: &Sources,
) -> Result<(), OpenError> {
    let late = |_| OpenError::TimedOut(patience);
    let connecting = AnyConnection::connect_with(connect);
    let mut connection = tokio::time::timeout(patience, connecting).await.map_err(late)??;
    let prepared = prepare_on(&mut connection, kind, patience, sources).await;
    // Of a database that is refused, too: SQLite takes away the files that it has made beside it.
    let closed = connection.close().await;
    prepared?;
    Ok(closed?)
}

async fn prepare_on(
    connection: &mut AnyConnection,
    kind: Kind,
    patience: Duration,
    sources: &Sources,
) -> Result<(), OpenError> {
    let late = |_| OpenError::TimedOut(patience);
    if kind == Kind::Postgres {
        // That tables and columns are there already is no news.
        connection.execute("SET client_min_messages = warning").await?;
    }
    let _ = tokio::time::timeout(patience, check(connection, kind)).await.map_err(late)??;
    if kind == Kind::Sqlite {
        connection.execute(AssertSqlSafe(sqlite_settings(patience, false))).await?;
        tokio::time::timeout(patience, write_ahead(connection)).await.map_err(late)??;
    }
    let following = follow_from_opening(connection, kind, sources);
    tokio::time::timeout(patience, following).await.map_err(late)??;
    // This may take its time: a migration may change every row, or wait for another process that does.
    migrate(connection, kind, sources).await
}

/// Turns on the write-ahead log, which stays on. SQLite does not wait for others here, so this does.
async fn write_ahead(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "5") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result.map(|_| ()),
        }
    }
}

/// What each SQLite connection is told. `FULL` makes every commit wait for the disk.
pub(super) fn sqlite_settings(patience: Duration, reads_only: bool) -> String {
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA query_only = {};",
        patience.as_millis(),
        if reads_only { "ON" } else { "OFF" },
    )
}

/// What each PostgreSQL connection is told: the server gives up when the store would, and a replica that vanished in a
/// transaction does not keep its locks.
pub(super) fn postgres_settings(patience: Duration) -> String {
    let millis = patience.as_millis();
    format!("SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis};")
}

/// Sets up the connections, without making one yet.
pub(super) fn pools(
    connect: &AnyConnectOptions,
    kind: Kind,
    options: StoreOptions,
    sources: Sources,
) -> Inner {
    let pool = |connections: u32, settings: String| {
        let settings: Arc<str> = settings.into();
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.patience)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move { Ok(about.idle_for < FRESH || connection.ping().await.is_ok()) })
            })
            .after_connect(move |connection, _| {
                let settings = AssertSqlSafe(Arc::clone(&settings));
                Box::pin(async move { connection.execute(settings).await.map(|_| ()) })
            })
            .connect_lazy_with(connect.clone())
    };
    let (readers, writer, begin) = match kind {
        Kind::Sqlite => (
            pool(options.connections, sqlite_settings(options.patience, true)),
            pool(1, sqlite_settings(options.patience, false)),
            "BEGIN IMMEDIATE",
        ),
        Kind::Postgres => {
            let pool = pool(options.connections, postgres_settings(options.patience));
            (pool.clone(), pool, "BEGIN ISOLATION LEVEL READ COMMITTED")
        }
    };
    Inner {
        readers,
        writer,
        begin,
        patience: options.patience,
        reserve: None,
        presence: None,
        sources,
        look_ups: LookUps::default(),
        clock: ClockWatch::default(),
        restrictions_changed: watch::Sender::new(()),
        history_changed: watch::Sender::new(()),
        new_edges: AtomicU32::default(),
        trouble: Mutex::default(),
    }
}

/// Makes the file if there is none, readable by its owner alone.
fn make_file(path: &Path) -> Result<(), OpenError> {
    match create_private(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(OpenError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Names a file that is there as the driver wants it named.
fn sqlite_url(path: &Path) -> Result<String, OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    let path = path.canonicalize().map_err(failed)?;
    let text = path.to_str().ok_or_else(|| failed(io::Error::other("its name is not UTF-8")))?;
    Ok(format!("sqlite://{}?mode=rw", percent_encoded(text)))
}

/// Encodes what has a meaning in a URL.
fn percent_encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use sqlx::query_scalar;

    use super::*;

    async fn pragma(pool: &sqlx::AnyPool, name: &'static str) -> String {
        let statement = AssertSqlSafe(format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"));
        query_scalar(statement).fetch_one(pool).await.unwrap()
    }

    #[tokio::test]
    async fn sqlite_waits_for_the_disk_at_every_commit_and_its_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("latchkey.db"));
        let store = Store::open(&url, StoreOptions::default(), Sources::system()).await.unwrap();
        assert_eq!(pragma(&store.0.writer, "synchronous").await, "2");
        assert_eq!(pragma(&store.0.writer, "journal_mode").await, "wal");
        assert_eq!(pragma(&store.0.writer, "foreign_keys").await, "1");
        let write = sqlx::query("UPDATE history SET revision = 7").execute(&store.0.readers).await;
        assert!(write.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn a_path_is_encoded_where_a_url_would_take_it_for_something_else() {
        assert_eq!(percent_encoded("/var/lib/a-b_c.d~1"), "/var/lib/a-b_c.d~1");
        assert_eq!(percent_encoded("/a b?c#d%é"), "/a%20b%3Fc%23d%25%C3%A9");
    }
}
