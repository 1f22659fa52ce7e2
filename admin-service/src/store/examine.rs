//! A look at a database that changes nothing in it and makes none: what it is, how it is set, and whether it can be used.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, query_scalar};
use tokio::time::timeout;

use super::clock;
use super::connector::farewell;
use super::error::said;
use super::migrate::{Kind, Schema, check};
use super::open::{connector, pools, postgres_settings, sqlite_settings};
use super::open_error::OpenError;
use super::server_error::ServerError;
use super::url::DatabaseUrl;
use super::{Store, StoreOptions};
use crate::clock::Sources;

/// How long a whole SQLite file may take to be read through.
const INTEGRITY: Duration = Duration::from_secs(600);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The program that keeps it, and its version.
    pub server: String,
    /// How far it is migrated.
    pub schema: Schema,
    /// Why it cannot be written, if it cannot; `None` also where there is nothing to write to yet.
    pub unwritable: Option<String>,
    /// What SQLite finds to be broken in its file.
    pub damage: Vec<String>,
    /// The settings of PostgreSQL that decide whether what it acknowledges is safe, with their values. Those that a server
    /// does not know are left out.
    pub settings: Vec<(&'static str, String)>,
    /// How far this machine's clock is ahead of the server's; `None`: that has no other.
    pub clock_ahead: Option<SignedDuration>,
}

impl Store {
    /// Looks at a database that is there. The store is for reading what it holds, if it is migrated.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for the operator.
    pub async fn examine(
        url: &DatabaseUrl,
        options: StoreOptions,
        sources: Sources,
    ) -> Result<(Self, Examination), OpenError> {
        let (kind, connect) = connector(url)?;
        let examined = async {
            let late = |_| OpenError::TimedOut(options.patience);
            let mut connected = timeout(options.patience, connect.connect()).await.map_err(late)??;
            let looked = timeout(options.patience, connect.refuse_transaction_pooler(&mut connected)).await;
            let mut connection = connected.connection;
            if let Ok(Err(pooled)) = looked {
                farewell(connection).await;
                return Err(pooled.into());
            }
            let examined = examine(&mut connection, kind, options.patience, &sources).await;
            let closed = connection.close().await;
            let examination = examined?;
            closed?;
            Ok(examination)
        };
        let examination = examined.await.map_err(|error| ServerError::explain(error, url))?;
        Ok((Self(Arc::new(pools(connect, kind, options, sources))), examination))
    }
}

async fn examine(
    connection: &mut AnyConnection,
    kind: Kind,
    patience: Duration,
    sources: &Sources,
) -> Result<Examination, OpenError> {
    let late = |_| OpenError::TimedOut(patience);
    let schema = timeout(patience, check(connection, kind)).await.map_err(late)??;
    let settings = match kind {
        Kind::Sqlite => sqlite_settings(patience, false),
        Kind::Postgres => postgres_settings(patience),
    };
    timeout(patience, connection.execute(AssertSqlSafe(settings))).await.map_err(late)??;
    let unwritable = match schema {
        Schema::Empty => None,
        // Each of its statements gives up by itself, as it is told by the settings.
        _ => timeout(patience * 3, try_to_write(connection, kind)).await.map_err(late)?.err(),
    };
    let mut examination = Examination {
        server: String::new(),
        schema,
        unwritable: unwritable.as_ref().map(said),
        damage: Vec::new(),
        settings: Vec::new(),
        clock_ahead: None,
    };
    match kind {
        Kind::Sqlite => {
            examination.server = format!("SQLite {}", text(connection, "SELECT sqlite_version()").await?);
            let integrity = query_scalar("PRAGMA integrity_check(10)").fetch_all(connection);
            let found: Vec<String> = timeout(INTEGRITY, integrity).await.map_err(late)??;
            examination.damage = found.into_iter().filter(|line| line != "ok").collect();
        }
        Kind::Postgres => {
            timeout(patience, examine_server(connection, sources, &mut examination))
                .await
                .map_err(late)??;
        }
    }
    Ok(examination)
}

/// Takes the lock that every change takes, writes what is there already, and takes it back.
async fn try_to_write(connection: &mut AnyConnection, kind: Kind) -> Result<(), sqlx::Error> {
    let begin = match kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN",
    };
    let mut transaction = connection.begin_with(begin).await?;
    transaction.execute("UPDATE history SET revision = revision WHERE singleton = 1").await?;
    transaction.rollback().await
}

/// The questions to PostgreSQL's settings; a server that only speaks like it may not know all of them.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "SELECT current_setting('synchronous_commit', true)"),
    ("fsync", "SELECT current_setting('fsync', true)"),
    ("full_page_writes", "SELECT current_setting('full_page_writes', true)"),
    ("ssl", "SELECT CAST(ssl AS TEXT) FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()"),
    ("in_recovery", "SELECT CAST(pg_is_in_recovery() AS TEXT)"),
];

async fn examine_server(
    connection: &mut AnyConnection,
    sources: &Sources,
    examination: &mut Examination,
) -> Result<(), OpenError> {
    let version = text(connection, "SELECT current_setting('server_version')").await?;
    examination.server = format!("PostgreSQL {version}");
    for (name, question) in SETTINGS {
        if let Ok(Some(value)) =
            query_scalar::<_, Option<String>>(*question).fetch_one(&mut *connection).await
        {
            examination.settings.push((name, value));
        }
    }
    examination.clock_ahead = Some(clock::ahead_of(connection, sources).await?);
    Ok(())
}

async fn text(connection: &mut AnyConnection, question: &'static str) -> Result<String, sqlx::Error> {
    query_scalar(question).fetch_one(connection).await
}
