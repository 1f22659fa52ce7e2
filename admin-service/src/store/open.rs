//! Opening the database: making the file, checking that it is ours, migrating it, and setting up the connections.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tokio::sync::{broadcast, watch};

use super::clock::{ClockWatch, follow_from_opening};
use super::connector::{Connector, Server, farewell};
use super::database_file::DatabaseFile;
use super::files::create_private;
use super::log_size::LOG_LIMIT;
use super::look_ups::LookUps;
use super::migrate::{Kind, Schema, check, migrate};
use super::open_error::OpenError;
use super::patience::caught;
use super::pool::{Pool, Settings};
use super::presence::{Absent, Presence};
use super::reserve::Reserve;
use super::server_error::ServerError;
use super::url::{DatabaseUrl, Location};
use super::{COMMITS_KEPT, Inner, Store, StoreOptions};
use crate::clock::Sources;

/// How often a server that is not up yet is tried.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How often it is said that it is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Store {
    /// Opens a database, making the SQLite file where there is none, and migrates it.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for the operator. The database is as it was.
    pub async fn open(url: &DatabaseUrl, options: StoreOptions, sources: Sources) -> Result<Self, OpenError> {
        let Location::Sqlite(path) = &url.0 else {
            let (kind, connect) = connector(url)?;
            let preparing = prepare(&connect, kind, options, &sources);
            let prepared = caught(preparing).await.unwrap_or(Err(OpenError::Panicked));
            let prepared =
                prepared.and_then(|connection| connection.ok_or_else(|| OpenError::Empty(url.clone())));
            let connection = prepared.map_err(|error| ServerError::explain(error, url))?;
            farewell(connection).await;
            return Ok(Self(Arc::new(pools(connect, kind, options, sources))));
        };
        find_or_make_file(path, options)?;
        let presence = join(path).await?;
        let (kind, connect) = connector(url)?;
        let reserve = Reserve::of(path);
        // SQLite makes files of its own beside this one, for which a full disk has no room but the reserve's.
        let anchor = loop {
            match prepare(&connect, kind, options, &sources).await {
                Ok(anchor) => break anchor.ok_or_else(|| OpenError::Empty(url.clone()))?,
                Err(error) if error.is_full() && reserve.release() => {}
                Err(error) => return Err(error),
            }
        };
        // With a connection open, those files are there, and the reserve can be taken from what is left.
        let file = DatabaseFile::of(path).map_err(|source| OpenError::File { path: path.clone(), source })?;
        let anchor = tokio::sync::Mutex::new(Some(anchor));
        let pools = pools(connect, kind, options, sources);
        let inner = Inner { presence, reserve: Some(reserve), file: Some(file), anchor, ..pools };
        let store = Self(Arc::new(inner));
        if !store.0.reserve.as_ref().is_none_or(Reserve::refill) {
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
pub(super) fn connector(url: &DatabaseUrl) -> Result<(Kind, Connector), OpenError> {
    sqlx::any::install_default_drivers();
    match &url.0 {
        Location::Sqlite(path) => Ok((Kind::Sqlite, Connector::sqlite(sqlite_url(path)?.parse()?))),
        Location::Postgres(url) => {
            let server = |host| -> Result<Server, OpenError> {
                let options: AnyConnectOptions = url.for_driver(host).parse()?;
                Ok(Server { name: host.to_string(), options })
            };
            let servers = url.hosts.iter().map(server).collect::<Result<_, _>>()?;
            Ok((Kind::Postgres, Connector::postgres(servers)))
        }
    }
}

/// Checks and migrates the database on a connection of its own, which it gives back; `None`: the database is empty, and that is
/// refused.
async fn prepare(
    connect: &Connector,
    kind: Kind,
    options: StoreOptions,
    sources: &Sources,
) -> Result<Option<AnyConnection>, OpenError> {
    let patience = options.patience;
    let late = |_| OpenError::TimedOut(patience);
    let mut connected = tokio::time::timeout(patience, connect.connect()).await.map_err(late)??;
    let looked = tokio::time::timeout(patience, connect.refuse_transaction_pooler(&mut connected)).await;
    let mut connection = connected.connection;
    if let Ok(Err(pooled)) = looked {
        farewell(connection).await;
        return Err(pooled.into());
    }
    match prepare_on(&mut connection, kind, options, sources).await {
        Ok(true) => Ok(Some(connection)),
        refused => {
            // SQLite takes away the files that it has made beside it.
            let closed = connection.close().await;
            refused?;
            closed?;
            Ok(None)
        }
    }
}

/// Does the same on a connection; `false`: the database is empty, and that is refused.
async fn prepare_on(
    connection: &mut AnyConnection,
    kind: Kind,
    options: StoreOptions,
    sources: &Sources,
) -> Result<bool, OpenError> {
    let patience = options.patience;
    let late = |_| OpenError::TimedOut(patience);
    if kind == Kind::Postgres {
        // That tables and columns are there already is no news.
        connection.execute("SET client_min_messages = warning").await?;
    }
    let schema = tokio::time::timeout(patience, check(connection, kind)).await.map_err(late)??;
    if options.must_exist && schema == Schema::Empty {
        return Ok(false);
    }
    if kind == Kind::Sqlite {
        connection.execute(AssertSqlSafe(sqlite_settings(patience, false))).await?;
        tokio::time::timeout(patience, write_ahead(connection)).await.map_err(late)??;
    }
    let following = follow_from_opening(connection, kind, sources);
    tokio::time::timeout(patience, following).await.map_err(late)??;
    // This may take its time: a migration may change every row, or wait for another process that does.
    migrate(connection, kind, sources).await?;
    Ok(true)
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

/// What each SQLite connection is told. `FULL` makes every commit wait for the disk. A log that has grown beyond the limit is cut
/// when it is begun anew.
pub(super) fn sqlite_settings(patience: Duration, reads_only: bool) -> String {
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = {LOG_LIMIT}; \
         PRAGMA query_only = {};",
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

/// What a PostgreSQL server may not know, being older or another's: not to compile a plan. The service's statements are short, and
/// on a database that was never analysed that takes many times as long as they do.
const WITHOUT_JIT: &str = "SET jit = off";

/// Sets up the connections, without making one yet.
pub(super) fn pools(connect: Connector, kind: Kind, options: StoreOptions, sources: Sources) -> Inner {
    let connect = Arc::new(connect);
    let wanted = (kind == Kind::Postgres).then_some(WITHOUT_JIT);
    let pool = |connections: u32, needed: String| {
        Pool::new(Arc::clone(&connect), Settings { needed, wanted }, connections, options.patience)
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
        file: None,
        anchor: tokio::sync::Mutex::default(),
        presence: None,
        sources,
        look_ups: LookUps::default(),
        clock: ClockWatch::default(),
        restrictions_changed: watch::Sender::new(()),
        history_changed: watch::Sender::new(()),
        committed: broadcast::Sender::new(COMMITS_KEPT),
        new_edges: AtomicU32::default(),
        trouble: Mutex::default(),
    }
}

/// Makes the file if there is none and one may be made, readable by its owner alone.
fn find_or_make_file(path: &Path, options: StoreOptions) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    if options.must_exist {
        return if path.try_exists().map_err(failed)? {
            Ok(())
        } else {
            Err(OpenError::Missing(path.to_owned()))
        };
    }
    match create_private(path) {
        Ok(_) => {
            tracing::warn!(
                file = %path.display(),
                "made a new, empty database; if there should be one already, check that its volume is mounted and its path right"
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
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

    async fn pragma(pool: &Pool, name: &'static str) -> String {
        let statement = AssertSqlSafe(format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"));
        query_scalar(statement).fetch_one(&mut *pool.acquire().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn sqlite_waits_for_the_disk_at_every_commit_and_its_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite_file(folder.path().join("latchkey.db"));
        let store = Store::open(&url, StoreOptions::default(), Sources::system()).await.unwrap();
        assert_eq!(pragma(&store.0.writer, "synchronous").await, "2");
        assert_eq!(pragma(&store.0.writer, "journal_mode").await, "wal");
        assert_eq!(pragma(&store.0.writer, "foreign_keys").await, "1");
        let mut reader = store.0.readers.acquire().await.unwrap();
        let write = sqlx::query("UPDATE history SET revision = 7").execute(&mut *reader).await;
        assert!(write.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn a_path_is_encoded_where_a_url_would_take_it_for_something_else() {
        assert_eq!(percent_encoded("/var/lib/a-b_c.d~1"), "/var/lib/a-b_c.d~1");
        assert_eq!(percent_encoded("/a b?c#d%é"), "/a%20b%3Fc%23d%25%C3%A9");
    }
}
