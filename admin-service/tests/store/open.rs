//! Opening a database: a new one is made once, and one that is not ours is refused as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use latchkey_admin::clock::Sources;
use latchkey_admin::store::{DatabaseUrl, OpenError, Store, StoreError, StoreOptions};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use crate::postgres;
use crate::support::{Fixture, on_both_databases};

on_both_databases![
    a_database_of_an_earlier_version_is_migrated_with_all_that_it_holds,
    a_database_of_an_earlier_version_says_nothing_only_if_it_was_never_used,
    a_database_that_must_exist_and_does_not_is_refused_and_none_is_made,
    a_newer_database_is_refused,
    a_database_whose_schema_was_tampered_with_is_refused,
    many_processes_that_start_at_once_migrate_once,
];

async fn open(url: &DatabaseUrl) -> Result<Store, OpenError> {
    Store::open(url, StoreOptions::default(), Sources::system()).await
}

async fn a_database_of_an_earlier_version_is_migrated_with_all_that_it_holds(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let everything = db.everything().await;
    for step in [
        "ALTER TABLE history DROP COLUMN previous_stamp",
        "ALTER TABLE changes DROP COLUMN stamp",
        "ALTER TABLE changes DROP COLUMN previous_stamp",
        "ALTER TABLE history DROP COLUMN stamp",
        "ALTER TABLE history DROP COLUMN bootstrapped",
        "ALTER TABLE users DROP COLUMN own_max_lifetime_unit",
        "ALTER TABLE restrictions DROP COLUMN max_lifetime_unit",
        "ALTER TABLE restrictions DROP COLUMN delete_expired_after_unit",
        "ALTER TABLE restrictions DROP COLUMN delete_expired_every_unit",
        "ALTER TABLE restrictions DROP COLUMN outlive_maker",
        "DROP INDEX users_deleted",
        "ALTER TABLE users DROP COLUMN deleted_at",
        "DROP INDEX tokens_by_maker",
        "DROP INDEX tokens_revoked_by_time",
        "ALTER TABLE tokens DROP COLUMN made_by",
        "ALTER TABLE tokens DROP COLUMN in_use_since",
        "DROP INDEX users_with_limits",
        "ALTER TABLE users DROP COLUMN own_max_lifetime_ms",
        "ALTER TABLE users DROP COLUMN own_max_tokens",
        "DROP INDEX tokens_unrevoked",
        "DROP INDEX tokens_revoked",
        "ALTER TABLE tokens DROP COLUMN rotated_from",
        "ALTER TABLE tokens DROP COLUMN rotated_to",
        "ALTER TABLE tokens DROP COLUMN folded",
        "CREATE INDEX tokens_unrevoked ON tokens (user_id, expires_at, created_at, revoked_at) WHERE revoked_at IS NULL",
        "DELETE FROM latchkey_migrations WHERE version IN (2, 4, 6, 8, 9, 11)",
    ] {
        db.sql(step).await;
    }
    let migrated = open(&db.url).await.unwrap();
    assert_eq!(migrated.token(token.id).await.unwrap(), token);
    assert_eq!(db.everything().await, everything);
}

/// The service of an earlier version was in use, so that it goes on: there were administrators, or users that they made.
async fn a_database_of_an_earlier_version_says_nothing_only_if_it_was_never_used(db: Fixture) {
    let earlier = async || {
        for step in [
            "ALTER TABLE history DROP COLUMN stamp",
            "ALTER TABLE history DROP COLUMN bootstrapped",
            "DELETE FROM latchkey_migrations WHERE version = 9",
        ] {
            db.sql(step).await;
        }
        open(&db.url).await.unwrap()
    };
    assert!(matches!(earlier().await.ping().await, Err(StoreError::NotBootstrapped)));
    db.user("alice").await;
    earlier().await.ping().await.unwrap();
}

async fn a_database_that_must_exist_and_does_not_is_refused_and_none_is_made(db: Fixture) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let on_sqlite = db.url.to_string().starts_with("sqlite");
    let new = if on_sqlite {
        DatabaseUrl::sqlite_file(&path)
    } else {
        postgres::shared().database().parse().unwrap()
    };
    let options = StoreOptions { must_exist: true, ..StoreOptions::default() };
    let refused = async || Store::open(&new, options, Sources::system()).await.unwrap_err().to_string();
    if on_sqlite {
        assert!(refused().await.starts_with("there is no database at"), "{}", refused().await);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
        fs::write(&path, "").unwrap();
    }
    for _ in 0..2 {
        let error = refused().await;
        assert!(error.contains("is empty, and --database-must-exist is set"), "{error}");
        assert!(error.contains("latchkey bootstrap"), "{error}");
    }
    if on_sqlite {
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
    open(&new).await.unwrap().close().await;
    Store::open(&new, options, Sources::system()).await.unwrap();
}

async fn a_newer_database_is_refused(db: Fixture) {
    db.sql(
        "INSERT INTO latchkey_migrations (version, description, success, checksum, execution_time) \
         SELECT 99, 'from the future', success, checksum, 0 FROM latchkey_migrations WHERE version = 1",
    )
    .await;
    let before = db.everything().await;
    let error = open(&db.url).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer Latchkey"), "{error}");
    assert_eq!(db.everything().await, before);
}

async fn a_database_whose_schema_was_tampered_with_is_refused(db: Fixture) {
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    db.sql(&format!("UPDATE latchkey_migrations SET checksum = CAST('other' AS {bytes})")).await;
    let before = db.everything().await;
    let error = open(&db.url).await.unwrap_err();
    assert!(matches!(error, OpenError::Migration(_)), "{error}");
    assert_eq!(db.everything().await, before);
}

async fn many_processes_that_start_at_once_migrate_once(db: Fixture) {
    // The fixture has migrated its own database; this one is new.
    let folder = tempfile::tempdir().unwrap();
    let url = if db.url.to_string().starts_with("sqlite") {
        DatabaseUrl::sqlite_file(folder.path().join("new.db"))
    } else {
        postgres::shared().database().parse().unwrap()
    };
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { open(&url).await.unwrap().position().await.unwrap() })
        })
        .collect();
    let mut histories = Vec::new();
    for opened in opening {
        histories.push(opened.await.unwrap());
    }
    histories.dedup();
    assert_eq!(histories.len(), 1, "all see one history");
}

#[tokio::test]
async fn a_postgres_database_with_another_programs_tables_is_refused_and_views_and_extensions_are_none() {
    let url = postgres::shared().database();
    sqlx::any::install_default_drivers();
    let mut beside = AnyConnection::connect(&url).await.unwrap();
    beside.execute("CREATE TABLE theirs (id BIGINT)").await.unwrap();
    let error = open(&url.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign), "{error}");
    beside.execute("DROP TABLE theirs").await.unwrap();
    beside.execute("CREATE VIEW seen AS SELECT 1 AS one").await.unwrap();
    beside.execute("CREATE EXTENSION IF NOT EXISTS plpgsql").await.unwrap();
    open(&url.parse().unwrap()).await.unwrap();
}

/// Refuses a file, and leaves it as it was, byte for byte.
async fn refused(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let error = open(&DatabaseUrl::sqlite_file(path)).await.unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before);
    error.to_string()
}

#[tokio::test]
async fn a_new_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("with space & 100%.db");
    let store = open(&DatabaseUrl::sqlite_file(&path)).await.unwrap();
    store.position().await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() >= 2, "the file and its log");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    store.close().await;
    let mut left: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let name = "with space & 100%.db";
    assert_eq!(
        left,
        [name.to_owned(), format!("{name}-reserve"), format!("{name}.lock")],
        "the log is folded into the file at the end"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for content in ["not a database".to_owned(), "x".repeat(100_000)] {
        fs::write(&path, content).unwrap();
        assert!(refused(&path).await.contains("damaged, or not a SQLite database"));
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latchkey.db");
    let store = open(&DatabaseUrl::sqlite_file(&path)).await.unwrap();
    store.close().await;
    let mut bytes = fs::read(&path).unwrap();
    // The page of the schema, after the file's header.
    bytes[100..4096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert!(refused(&path).await.contains("damaged"));
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    sqlx::any::install_default_drivers();
    for table in ["users", "_sqlx_migrations"] {
        let _ = fs::remove_file(&path);
        let mut other =
            AnyConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
        other.execute(AssertSqlSafe(format!("CREATE TABLE {table} (id BIGINT)"))).await.unwrap();
        other.close().await.unwrap();
        assert!(refused(&path).await.contains("not Latchkey's"));
    }
    let cluster = postgres::shared();
    let url = cluster.database();
    let mut other = AnyConnection::connect(&url).await.unwrap();
    other.execute("CREATE TABLE users (id BIGINT)").await.unwrap();
    let error = open(&url.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign), "{error}");
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema()";
    let count: i64 = sqlx::query_scalar(tables).fetch_one(&mut other).await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn what_cannot_be_reached_is_one_sentence_without_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let missing = DatabaseUrl::sqlite_file(folder.path().join("no/such/folder/latchkey.db"));
    let error = open(&missing).await.unwrap_err().to_string();
    assert!(error.contains("check that its folder exists"), "{error}");
    let a_folder = open(&DatabaseUrl::sqlite_file(folder.path())).await.unwrap_err().to_string();
    assert!(a_folder.contains("cannot be opened"), "{a_folder}");
    let nobody: DatabaseUrl = "postgres://latchkey:hunter2@127.0.0.1:1/latchkey".parse().unwrap();
    let error = open(&nobody).await.unwrap_err();
    assert!(error.to_string().contains("PostgreSQL at 127.0.0.1:1 cannot be used"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// A refusal names the server, says what to do, and whether waiting helps; never a password, nor where in its own source
/// PostgreSQL has made it.
#[tokio::test]
async fn what_postgres_refuses_is_told_with_what_to_do_about_it() {
    let cluster = postgres::shared();
    let url = cluster.database();
    let database = url.split('?').next().unwrap().rsplit_once('/').unwrap().1;
    let by = |user: &str| format!("postgres://{user}@{}", url.split_once('@').unwrap().1);
    sqlx::any::install_default_drivers();
    let mut admin = AnyConnection::connect(&url).await.unwrap();
    for statement in [
        format!("CREATE ROLE \"poor {database}\" LOGIN PASSWORD 'hunter2'"),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
    ] {
        admin.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    for (url, problem, advice) in [
        (
            cluster.url("nowhere"),
            r#"database "nowhere" does not exist"#.to_owned(),
            "CREATE DATABASE nowhere OWNER ".to_owned(),
        ),
        (
            by(&format!("poor%20{database}:hunter2")),
            "permission denied for schema public".to_owned(),
            format!("GRANT CREATE ON SCHEMA public TO \"poor {database}\";"),
        ),
        (
            by("nobody:hunter2"),
            "\"nobody\"".to_owned(),
            "check user and password of the database URL".to_owned(),
        ),
    ] {
        let error = open(&url.parse().unwrap()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("PostgreSQL at ") && text.contains(&problem), "{text}");
        assert!(text.contains(&advice), "{text}");
        assert!(!text.contains("at line") && !format!("{text} {error:?}").contains("hunter2"), "{text}");
        assert!(matches!(error, OpenError::Server(error) if !error.passes));
    }
}
