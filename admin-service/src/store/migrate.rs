//! Bringing a database to this program's schema, and refusing one that is not for it.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, SqlSafeStr};

use super::open_error::OpenError;
use super::transaction::Tx;
use crate::clock::Sources;

/// Every migration: its number, what it does, and its text.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first schema", include_str!("../../migrations/0001_first.sql")),
    (2, "rotation and search", include_str!("../../migrations/0002_rotation_and_search.sql")),
    (3, "administration", include_str!("../../migrations/0003_administration.sql")),
    (4, "user restrictions", include_str!("../../migrations/0004_user_restrictions.sql")),
    (5, "scheduler progress", include_str!("../../migrations/0005_scheduler_progress.sql")),
    (6, "token lineage", include_str!("../../migrations/0006_token_lineage.sql")),
    (7, "guards", include_str!("../../migrations/0007_guards.sql")),
    (8, "periods", include_str!("../../migrations/0008_periods.sql")),
    (9, "files", include_str!("../../migrations/0009_files.sql")),
    (10, "clock", include_str!("../../migrations/0010_clock.sql")),
    (11, "linked changes", include_str!("../../migrations/0011_linked_changes.sql")),
];
/// Where a database keeps which migrations it has had. A table of our own name, so that a database of another program
/// that uses the same library is not mistaken for ours.
const TABLE: &str = "latchkey_migrations";

/// What differs between the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Which tables there are, those of PostgreSQL's extensions left out. The catalogues are the one place where the databases have no text in common.
    fn tables(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            }
            Self::Postgres => {
                "SELECT CAST(c.relname AS TEXT) FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT EXISTS \
                 (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"
            }
        }
    }

    /// A migration's text for this database.
    fn dialect(self, text: &'static str) -> Cow<'static, str> {
        match self {
            Self::Sqlite => text.into(),
            Self::Postgres => text.replace("BLOB", "BYTEA").into(),
        }
    }
}

/// How far a database is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// It holds nothing yet.
    Empty,
    /// It has had the migrations up to `found`, and this program knows those up to `known`.
    Older {
        /// The latest migration in the database.
        found: i64,
        /// The latest migration that this program knows.
        known: i64,
    },
    /// It has had all that this program knows.
    Current,
}

/// Refuses a database that is another program's, or a newer Latchkey's. Only reads.
pub(super) async fn check(connection: &mut AnyConnection, kind: Kind) -> Result<Schema, OpenError> {
    let tables: Vec<String> = sqlx::query_scalar(kind.tables()).fetch_all(&mut *connection).await?;
    if tables.is_empty() {
        return Ok(Schema::Empty);
    }
    if !tables.iter().any(|table| table == TABLE) {
        return Err(OpenError::Foreign);
    }
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM latchkey_migrations").fetch_one(connection).await?;
    let known = MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0);
    match newest.unwrap_or(0) {
        found if found > known => Err(OpenError::Newer { found, known }),
        found if found < known => Ok(Schema::Older { found, known }),
        _ => Ok(Schema::Current),
    }
}

/// Applies the migrations that are missing, once, however many processes start together.
pub(super) async fn migrate(
    connection: &mut AnyConnection,
    kind: Kind,
    sources: &Sources,
) -> Result<(), OpenError> {
    let mut migrator = Migrator::with_migrations(migrations(kind));
    migrator.dangerous_set_table_name(TABLE);
    match kind {
        // The driver takes an advisory lock.
        Kind::Postgres => migrator.run_direct(None, &mut *connection, false).await?,
        // The driver takes no lock here, so the whole of it is one transaction that writes.
        Kind::Sqlite => {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            migrator.run_direct(None, &mut *transaction, false).await?;
            transaction.commit().await?;
        }
    }
    begin_history(connection, sources).await
}

/// Names the history of a new database.
async fn begin_history(connection: &mut AnyConnection, sources: &Sources) -> Result<(), OpenError> {
    let tx = Tx { connection, sources, took_revision: false, announced: Vec::new() };
    let epoch = sources.new_id(tx.now())?.to_string();
    sqlx::query(
        "INSERT INTO history (singleton, epoch, revision, retained_after) VALUES (1, $1, 0, 0) \
         ON CONFLICT (singleton) DO NOTHING",
    )
    .bind(epoch)
    .execute(tx.connection)
    .await?;
    Ok(())
}

fn migrations(kind: Kind) -> Vec<Migration> {
    let migration = |(version, description, text): &(i64, &'static str, &'static str)| {
        let sql = AssertSqlSafe(kind.dialect(text)).into_sql_str();
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql, false)
    };
    MIGRATIONS.iter().map(migration).collect()
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Self::from(error),
            other => Self::Migration(other),
        }
    }
}
