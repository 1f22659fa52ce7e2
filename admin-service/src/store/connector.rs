//! How a connection is made: to the SQLite file, or to that server of a PostgreSQL URL which takes writes. A server that takes
//! none, a standby or one that is set read-only, is no source of verdicts and is refused.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::error::DatabaseError;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long one server of several may take to answer until the next one is tried beside it.
const HEDGE: Duration = Duration::from_millis(250);
/// How long it may take to say goodbye to a server.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a server is asked before it is used, and again and again: which of its processes answers, and whether what is begun now
/// can write. On a standby it cannot. A simple query, of which a pooler keeps nothing.
const ROLE: &str =
    "SELECT CAST(pg_backend_pid() AS BIGINT) AS pid, current_setting('transaction_read_only') AS read_only";
/// Leaves in a session what no other session has had, and says what. A setting with a point in its name is nobody's.
const MARK: &str = "SELECT set_config('latchkey.session', CAST(random() AS TEXT), false) AS mark";
/// What was left in a session, if something was.
const FIND_MARK: &str = "SELECT current_setting('latchkey.session', true) AS mark";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The driver's word.
    #[error("{0}")]
    Driver(#[from] sqlx::Error),
    /// The server answers, and takes no writes.
    #[error("{0}")]
    NoWrites(#[from] NoWrites),
    /// A pooler gives each transaction of a connection to another server.
    #[error("{0}")]
    TransactionPooler(#[from] TransactionPooler),
}

/// A PostgreSQL server that takes no writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL at {server} is {role}")]
pub struct NoWrites {
    /// Host and port.
    pub server: String,
    /// Why it takes none.
    pub role: ReadOnlyRole,
}

/// Why a server takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnlyRole {
    /// It follows another server.
    Standby,
    /// It is set so.
    ReadOnly,
}

impl fmt::Display for ReadOnlyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standby => "a standby, which takes no writes",
            Self::ReadOnly => "read-only (default_transaction_read_only = on)",
        })
    }
}

/// What answers is a pooler that gives each transaction of a connection to another server. The driver's prepared statements would
/// be sent to one and looked for at another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "PostgreSQL at {server} is reached through a pooler in transaction mode (PgBouncer: pool_mode = transaction), which does not \
     keep a connection's prepared statements and settings; set pool_mode = session for this database, or connect to the server \
     itself"
)]
pub struct TransactionPooler {
    /// Host and port.
    pub server: String,
}

impl ConnectError {
    /// Whether the server is starting, or has no room for one more connection at this moment.
    pub(super) fn passes_soon(&self) -> bool {
        match self {
            Self::Driver(sqlx::Error::Io(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            Self::Driver(sqlx::Error::Database(error)) => error.is_transient_in_connect_phase(),
            _ => false,
        }
    }

    /// The driver's word, of a file, of which there is no other.
    pub(super) fn into_driver(self) -> sqlx::Error {
        match self {
            Self::Driver(error) => error,
            other => sqlx::Error::Configuration(Box::new(other)),
        }
    }

    /// Of the errors of several servers the one to tell of has the highest: what somebody must mend goes before what passes.
    fn weight(&self) -> u8 {
        match self {
            Self::TransactionPooler(_) => 3,
            Self::Driver(sqlx::Error::Database(error)) if !is_lost(error.as_ref()) => 2,
            Self::NoWrites(_) => 1,
            Self::Driver(_) => 0,
        }
    }
}

/// Whether the server has ended the connection, or ends: its other connections are of no use either.
pub(super) fn is_lost(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "25006" || code.starts_with("57P0") || code.starts_with("08"))
}

/// Whether an error means that the connection it came on is of no use any more.
pub(super) fn ends_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => is_lost(error.as_ref()),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        _ => false,
    }
}

/// One server of a URL.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Host and port, as people write them.
    pub name: String,
    /// How to connect to it.
    pub options: AnyConnectOptions,
}

/// How to connect to a database.
#[derive(Debug)]
pub(super) struct Connector(Target);

#[derive(Debug)]
enum Target {
    Sqlite(AnyConnectOptions),
    Postgres {
        servers: Vec<Server>,
        /// Which of them took writes last.
        latest: AtomicUsize,
    },
}

/// A connection that was just made.
#[derive(Debug)]
pub(super) struct Connected {
    pub connection: AnyConnection,
    /// Who is at its other end; `None` for a file.
    pub peer: Option<Peer>,
}

/// The server's process at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    server: String,
    pid: i64,
}

impl Connector {
    pub(super) fn sqlite(options: AnyConnectOptions) -> Self {
        Self(Target::Sqlite(options))
    }

    pub(super) fn postgres(servers: Vec<Server>) -> Self {
        Self(Target::Postgres { servers, latest: AtomicUsize::new(0) })
    }

    /// Connects to the file, or to a server that takes writes: to the one that did so last, if it still does.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectError> {
        match &self.0 {
            Target::Sqlite(options) => {
                let connection = AnyConnection::connect_with(options).await?;
                Ok(Connected { connection, peer: None })
            }
            Target::Postgres { servers, latest } => {
                let first = latest.load(Ordering::Relaxed);
                let (found, connected) = connect_to_one(servers, first).await?;
                latest.store(found, Ordering::Relaxed);
                Ok(connected)
            }
        }
    }

    /// Notices a pooler that gives the transactions of one connection to several servers: then one connection is answered by two
    /// processes, or what it leaves in its session is found by another. That two connections name processes of one number says
    /// nothing: they may be on two nodes of a distributed database.
    pub(super) async fn refuse_transaction_pooler(&self, one: &mut Connected) -> Result<(), ConnectError> {
        let Some(peer) = one.peer.clone() else { return Ok(()) };
        if peer.pid <= 0 {
            // A server that only speaks like PostgreSQL, and has no processes to name.
            return Ok(());
        }
        // Where there is no room for a second connection, nothing is known; what comes later shows it.
        let Ok(Ok(mut other)) = timeout(FAREWELL, self.connect()).await else { return Ok(()) };
        let mut looked = Ok(());
        for _ in 0..8 {
            looked = async {
                peer.check(&mut one.connection).await?;
                let Some(beside) = &other.peer else { return Ok(()) };
                beside.check(&mut other.connection).await?;
                let left = mark(&mut one.connection, MARK).await?;
                let found = mark(&mut other.connection, FIND_MARK).await?;
                if left.is_some() && left == found { Err(peer.pooled().into()) } else { Ok(()) }
            }
            .await;
            if looked.is_err() {
                break;
            }
        }
        farewell(other.connection).await;
        match looked {
            Err(error @ ConnectError::TransactionPooler(_)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Connects to the first of the servers that takes writes, beginning with one of them. One that does not answer holds up the next
/// one only for a moment.
async fn connect_to_one(servers: &[Server], first: usize) -> Result<(usize, Connected), ConnectError> {
    let count = servers.len();
    let mut left = (0..count).map(|n| (first + n) % count);
    let mut attempts = JoinSet::new();
    let mut worst: Option<ConnectError> = None;
    loop {
        if let Some((number, server)) = left.next().and_then(|n| Some((n, servers.get(n)?.clone()))) {
            attempts.spawn(async move { (number, connect_to(&server).await) });
        }
        let more = left.len() > 0;
        let attempt = tokio::select! {
            attempt = attempts.join_next() => attempt,
            () = sleep(HEDGE), if more => continue,
        };
        match attempt {
            Some(Ok((number, Ok(connected)))) => return Ok((number, connected)),
            Some(Ok((_, Err(error)))) => {
                if worst.as_ref().is_none_or(|worst| worst.weight() < error.weight()) {
                    worst = Some(error);
                }
            }
            // The driver has panicked.
            Some(Err(_)) => {}
            None if more => {}
            None => return Err(worst.unwrap_or(ConnectError::Driver(sqlx::Error::WorkerCrashed))),
        }
    }
}

async fn connect_to(server: &Server) -> Result<Connected, ConnectError> {
    let mut connection = AnyConnection::connect_with(&server.options).await?;
    let asked = ask(&mut connection).await;
    let refused = match asked {
        Ok(Role { pid, writes: true }) => {
            return Ok(Connected { connection, peer: Some(Peer { server: server.name.clone(), pid }) });
        }
        Ok(Role { writes: false, .. }) => no_writes(&server.name, &mut connection).await.into(),
        Err(error) => error.into(),
    };
    farewell(connection).await;
    Err(refused)
}

/// Ends a connection, politely if that goes fast.
pub(super) async fn farewell(connection: AnyConnection) {
    let _ = timeout(FAREWELL, connection.close()).await;
}

/// What a server says of itself.
struct Role {
    pid: i64,
    writes: bool,
}

async fn ask(connection: &mut AnyConnection) -> Result<Role, sqlx::Error> {
    let row: AnyRow = connection.fetch_one(AssertSqlSafe(ROLE)).await?;
    let read_only: String = row.try_get("read_only")?;
    Ok(Role { pid: row.try_get("pid")?, writes: read_only != "on" })
}

/// What is left in a session, by [`MARK`] or [`FIND_MARK`].
async fn mark(connection: &mut AnyConnection, text: &'static str) -> Result<Option<String>, sqlx::Error> {
    connection.fetch_one(text).await?.try_get("mark")
}

async fn no_writes(server: &str, connection: &mut AnyConnection) -> NoWrites {
    let asked = connection.fetch_one("SELECT CAST(pg_is_in_recovery() AS TEXT) AS standby").await;
    let standby = asked.and_then(|row| row.try_get::<String, _>("standby"));
    let role = if standby.is_ok_and(|standby| standby.starts_with('t')) {
        ReadOnlyRole::Standby
    } else {
        ReadOnlyRole::ReadOnly
    };
    NoWrites { server: server.to_owned(), role }
}

impl Peer {
    /// Whether the server still takes writes, and is the one that the connection was made to.
    pub(super) async fn check(&self, connection: &mut AnyConnection) -> Result<(), ConnectError> {
        let role = ask(connection).await?;
        if role.pid != self.pid {
            return Err(self.pooled().into());
        }
        if !role.writes {
            return Err(no_writes(&self.server, connection).await.into());
        }
        Ok(())
    }

    fn pooled(&self) -> TransactionPooler {
        TransactionPooler { server: self.server.clone() }
    }
}
