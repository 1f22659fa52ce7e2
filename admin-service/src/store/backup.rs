//! Copies of a SQLite database: one made while services run on it, and one put in its place while none does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Connection, Executor, query, query_scalar};

use super::authority::Confirmed;
use super::connector::ConnectError;
use super::epoch::Rename;
use super::error::StoreError;
use super::files::{create_private, sync_folder, with_ending};
use super::migrate::{Schema, check};
use super::open::connector;
use super::open_error::OpenError;
use super::presence::{Absent, Presence};
use super::row::Columns;
use super::transaction::{Tx, Work};
use super::url::{DatabaseUrl, Location};
use super::{Store, StoreOptions, audit};
use crate::clock::Sources;
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::changes::Position;

/// How many tokens and users that work again are named.
const NAMED: usize = 20;
/// How long another program may keep the old database locked.
const LOCKED: Duration = Duration::from_secs(2);
/// What each SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite and the store keep beside a database.
const SIDE_FILES: [&str; 5] = ["-wal", "-shm", "-journal", "-reserve", ".lock"];

/// Why there is no copy, or why it is not in its place. What was there is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Not a SQLite file: PostgreSQL has programs of its own for this.
    #[error("the database is on PostgreSQL")]
    NotSqlite,
    /// There is none to copy.
    #[error("there is no database at {}", .0.display())]
    Missing(PathBuf),
    /// Nothing is overwritten.
    #[error("{} is there already, and nothing is overwritten; name another file", .0.display())]
    Exists(PathBuf),
    /// A file of a database that was running when it was copied.
    #[error(
        "{} has a write-ahead log beside it, so it was copied from under a running service and is no backup; make one with `latchkey backup`",
        .0.display()
    )]
    HasLog(PathBuf),
    /// No database, or not Latchkey's, or one that this version cannot read.
    #[error("{} is no backup: {reason}", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Processes use the database.
    #[error("the database {} is in use by {by}; stop it and try again", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who, as far as it is known.
        by: String,
    },
    /// The operating system refuses a step.
    #[error("{} cannot be {step}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        step: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Open(error.into())
    }
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The latest revision.
    pub revision: i64,
    /// How many users.
    pub users: i64,
    /// How many tokens, revoked and expired ones as well.
    pub tokens: i64,
}

/// A restored database.
#[derive(Debug)]
pub struct Restored {
    /// Where its history goes on.
    pub position: Position,
    /// Where the database of before is now, if there was one.
    pub kept: Option<PathBuf>,
    /// What was lost, if the database of before can be read.
    pub lost: Option<Lost>,
}

/// What the database of before has and the backup has not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many tokens work again that were revoked since.
    pub revived: i64,
    /// The first of them: identifier and user.
    pub tokens: Vec<(String, String)>,
    /// Users who are active again and were disabled or deleted since.
    pub users: Vec<String>,
    /// How many tokens were made since.
    pub unknown: i64,
}

impl Store {
    /// Copies a SQLite database as it is at one moment to a new file that only its owner may read. Services go on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]; then there is no such file.
    pub async fn back_up(url: &DatabaseUrl, to: &Path) -> Result<Contents, BackupError> {
        let Location::Sqlite(from) = &url.0 else { return Err(BackupError::NotSqlite) };
        if !from.exists() {
            return Err(BackupError::Missing(from.clone()));
        }
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let partial = with_ending(to, &format!(".{}.partial", std::process::id()));
        let copied = copy(url, &partial, to).await;
        let _ = fs::remove_file(&partial);
        copied
    }

    /// Puts a backup in the place of a SQLite database that nobody uses, in a new epoch. The database of before is kept
    /// beside it.
    ///
    /// # Errors
    /// [`BackupError`]; then the database of before is in its place.
    pub async fn restore(url: &DatabaseUrl, from: &Path, sources: &Sources) -> Result<Restored, BackupError> {
        let Location::Sqlite(path) = &url.0 else { return Err(BackupError::NotSqlite) };
        let path = path.canonicalize().unwrap_or_else(|_| path.clone());
        let _lock = exclude(&path)?;
        let fresh = with_ending(&path, ".restoring");
        remove(&fresh);
        let restored = put(from, &fresh, &path, sources).await;
        remove(&fresh);
        restored
    }
}

/// Makes the copy, and gives it its name when it is whole and on the disk.
async fn copy(url: &DatabaseUrl, partial: &Path, to: &Path) -> Result<Contents, BackupError> {
    let made = create_private(partial).map_err(file(partial, "made"))?;
    let (kind, connect) = connector(url)?;
    let mut connection = connect.connect().await.map_err(OpenError::from)?.connection;
    let schema = check(&mut connection, kind).await?;
    if schema != Schema::Empty {
        connection.execute("PRAGMA busy_timeout = 5000").await?;
        let target = partial.canonicalize().map_err(file(partial, "found"))?;
        let target = target.to_str().ok_or_else(|| unnamed(to))?.to_owned();
        query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
    }
    connection.close().await?;
    let contents = verified(partial).await.map_err(|error| renamed(error, to))?;
    made.sync_all().map_err(file(to, "written"))?;
    match fs::hard_link(partial, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(to.to_owned()));
        }
        // A file system without links.
        Err(_) => fs::rename(partial, to).map_err(file(to, "made"))?,
        Ok(()) => {}
    }
    sync_folder(to).map_err(file(to, "made"))?;
    Ok(contents)
}

/// Names the file that somebody knows, for one that is made on the way.
fn renamed(error: BackupError, path: &Path) -> BackupError {
    match error {
        BackupError::NotABackup { reason, .. } => BackupError::NotABackup { path: path.to_owned(), reason },
        other => other,
    }
}

/// Reads a copy through, and says what it holds.
async fn verified(path: &Path) -> Result<Contents, BackupError> {
    let bad = |reason: String| BackupError::NotABackup { path: path.to_owned(), reason };
    let (kind, connect) = connector(&DatabaseUrl::sqlite_file(path))?;
    let mut connection = connect.connect().await.map_err(OpenError::from)?.connection;
    let schema = check(&mut connection, kind).await.map_err(|error| bad(error.to_string()))?;
    if schema == Schema::Empty {
        return Err(bad("it holds no tables".to_owned()));
    }
    let integrity = query_scalar("PRAGMA integrity_check(1)").fetch_all(&mut connection);
    let found: Vec<String> = integrity.await.map_err(|error| bad(error.to_string()))?;
    if let Some(damage) = found.into_iter().find(|line| line != "ok") {
        let damage: Vec<&str> = damage.split_whitespace().collect();
        return Err(bad(format!("it is damaged ({})", damage.join(" "))));
    }
    let text = "SELECT revision, (SELECT COUNT(*) FROM users) AS users, (SELECT COUNT(*) FROM tokens) AS tokens FROM history WHERE singleton = 1";
    let row = query(text).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Contents {
        revision: row.number("revision")?,
        users: row.number("users")?,
        tokens: row.number("tokens")?,
    })
}

/// Checks and prepares a copy of the backup beside the database, and puts it in the database's place at once.
async fn put(from: &Path, fresh: &Path, path: &Path, sources: &Sources) -> Result<Restored, BackupError> {
    if fs::metadata(with_ending(from, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Err(BackupError::HasLog(from.to_owned()));
    }
    let mut source = fs::File::open(from).map_err(file(from, "read"))?;
    let mut target = create_private(fresh).map_err(file(fresh, "made"))?;
    io::copy(&mut source, &mut target).map_err(file(fresh, "written"))?;
    verified(fresh).await.map_err(|error| renamed(error, from))?;
    let old = path.exists();
    let readable = old && fold(path).await?;
    let lost = if readable { lost(fresh, path).await.ok() } else { None };
    let url = DatabaseUrl::sqlite_file(fresh);
    let store = Store::open(&url, StoreOptions::default(), sources.clone()).await?;
    let stamped = store.write(&Stamp(&Origin::local())).await;
    store.close().await;
    let position = stamped?;
    drop(store);
    if !fold(fresh).await? {
        return Err(file(fresh, "written")(io::Error::other("its log cannot be written back")));
    }
    target.sync_all().map_err(file(fresh, "written"))?;
    let kept = if old { Some(set_aside(path, sources)?) } else { None };
    fs::rename(fresh, path).map_err(file(path, "replaced"))?;
    sync_folder(path).map_err(file(path, "replaced"))?;
    Ok(Restored { position, kept, lost })
}

/// Keeps everybody else from the database, if nobody uses it.
fn exclude(path: &Path) -> Result<Presence, BackupError> {
    Presence::exclude(path).map_err(|absent| match absent {
        Absent::Held(by) if by.is_empty() => in_use(path, "another latchkey process".to_owned()),
        Absent::Held(by) => in_use(path, format!("latchkey serve ({})", by.join(", "))),
        Absent::Impossible(lock, source) => BackupError::File { path: lock, step: "locked", source },
    })
}

fn in_use(path: &Path, by: String) -> BackupError {
    BackupError::InUse { path: path.to_owned(), by }
}

/// Writes the old database's log back into it, so that it is one file; `false` where it cannot be read. Fails where any
/// program has it open, also one that knows nothing of Latchkey's locks.
async fn fold(path: &Path) -> Result<bool, BackupError> {
    // SQLite would throw the log of what it cannot read away.
    let mut begin = [0; MAGIC.len()];
    let begun = fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    if begun.is_err() || begin != *MAGIC {
        return Ok(false);
    }
    let (_, connect) = connector(&DatabaseUrl::sqlite_file(path))?;
    let folded = async {
        let mut connection = connect.connect().await.map_err(ConnectError::into_driver)?.connection;
        let wait = format!("PRAGMA busy_timeout = {}", LOCKED.as_millis());
        connection.execute(AssertSqlSafe(wait)).await?;
        let folded = connection.execute("PRAGMA journal_mode = DELETE").await;
        connection.close().await?;
        folded
    };
    match folded.await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("5" | "261" | "517")) => {
            Err(in_use(path, "another program".to_owned()))
        }
        Err(_) => Ok(false),
    }
}

/// What the old database has and the backup has not.
async fn lost(fresh: &Path, old: &Path) -> Result<Lost, BackupError> {
    let (_, connect) = connector(&DatabaseUrl::sqlite_file(fresh))?;
    let mut connection = connect.connect().await.map_err(OpenError::from)?.connection;
    let old = old.to_str().ok_or_else(|| unnamed(old))?.to_owned();
    query("ATTACH $1 AS old").bind(old).execute(&mut connection).await?;
    let revived = "FROM main.tokens t JOIN main.users u ON u.id = t.user_id JOIN old.tokens o ON o.id = t.id \
         WHERE o.revoked_at IS NOT NULL AND t.revoked_at IS NULL";
    let count: i64 =
        query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) {revived}"))).fetch_one(&mut connection).await?;
    let first = format!("SELECT t.id AS id, u.name AS name {revived} ORDER BY t.id LIMIT {NAMED}");
    let first = query(AssertSqlSafe(first)).fetch_all(&mut connection).await?;
    let users = format!(
        "SELECT u.name AS name FROM main.users u JOIN old.users o ON o.id = u.id \
         WHERE o.active = 0 AND u.active = 1 ORDER BY u.name LIMIT {NAMED}"
    );
    let users = query(AssertSqlSafe(users)).fetch_all(&mut connection).await?;
    let unknown = "SELECT COUNT(*) FROM old.tokens WHERE id NOT IN (SELECT id FROM main.tokens)";
    let unknown: i64 = query_scalar(unknown).fetch_one(&mut connection).await?;
    connection.close().await?;
    let pair = |row: &AnyRow| Ok::<_, StoreError>((row.text("id")?, row.text("name")?));
    Ok(Lost {
        revived: count,
        tokens: first.iter().map(pair).collect::<Result<_, _>>()?,
        users: users.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?,
        unknown,
    })
}

/// Keeps the old database under another name, with what is left of its log. It has its own name as well until the new one
/// takes that, so that there is a database at any moment.
fn set_aside(path: &Path, sources: &Sources) -> Result<PathBuf, BackupError> {
    let now = sources.now().to_string().replace([':', '-'], "");
    let kept = with_ending(path, &format!(".before-{now}"));
    match fs::hard_link(path, &kept) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(BackupError::Exists(kept)),
        // A file system without links.
        Err(_) => fs::rename(path, &kept).map_err(file(path, "set aside"))?,
    }
    for ending in ["-wal", "-shm", "-journal"] {
        let side = with_ending(path, ending);
        if side.exists() {
            fs::rename(&side, with_ending(&kept, ending)).map_err(file(&side, "set aside"))?;
        }
    }
    Ok(kept)
}

/// Removes what is left of an earlier attempt, or of this one.
fn remove(fresh: &Path) {
    let _ = fs::remove_file(fresh);
    for ending in SIDE_FILES {
        let _ = fs::remove_file(with_ending(fresh, ending));
    }
}

fn file(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::File { path: path.to_owned(), step, source }
}

fn unnamed(path: &Path) -> BackupError {
    file(path, "named")(io::Error::other("its name is not UTF-8"))
}

/// Begins a new epoch, as what edges know may be gone, and says in the audit log why.
struct Stamp<'a>(&'a Origin);

impl Work for Stamp<'_> {
    type Output = Position;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Position, StoreError> {
        let now = tx.now();
        let position = Rename { lost: None, origin: self.0.clone(), reason: None }.run(tx).await?;
        let by = Confirmed::when_begun(self.0);
        let details = json!({ "revision": position.revision, "epoch": position.epoch });
        audit::record(tx, &by, Action::DatabaseRestored, Subject::database(), details, now).await?;
        Ok(position)
    }
}
