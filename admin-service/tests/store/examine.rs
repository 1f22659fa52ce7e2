//! Looking at a database: what is found, and that nothing is changed.

use latchkey_admin::clock::Sources;
use latchkey_admin::store::{DatabaseUrl, Examination, OpenError, Schema, Store, StoreOptions};

use crate::support::{Fixture, on_both_databases};

async fn examine(url: &DatabaseUrl) -> Result<Examination, OpenError> {
    let (store, found) = Store::examine(url, StoreOptions::default(), Sources::system()).await?;
    store.close().await;
    Ok(found)
}

async fn a_look_finds_a_database_as_the_service_left_it_and_changes_nothing(fixture: Fixture) {
    fixture.user("alice").await;
    let before = fixture.everything().await;
    let found = examine(&fixture.url).await.unwrap();
    assert_eq!((found.schema, found.unwritable, found.damage.len()), (Schema::Current, None, 0));
    assert!(
        found.server.starts_with("SQLite 3.") || found.server.starts_with("PostgreSQL 1"),
        "{}",
        found.server
    );
    assert_eq!(found.clock_ahead.is_some(), found.server.starts_with("PostgreSQL"));
    assert_eq!(
        found.settings.iter().any(|(name, _)| *name == "synchronous_commit"),
        found.clock_ahead.is_some()
    );
    assert_eq!(before, fixture.everything().await);
}

async fn a_database_that_misses_migrations_is_told_of_and_not_migrated(fixture: Fixture) {
    let count = async || fixture.number("SELECT COUNT(*) FROM latchkey_migrations").await;
    let newest = "(SELECT MAX(version) FROM latchkey_migrations)";
    fixture.sql(&format!("DELETE FROM latchkey_migrations WHERE version = {newest}")).await;
    let before = count().await;
    let found = examine(&fixture.url).await.unwrap();
    assert!(matches!(found.schema, Schema::Older { found, known } if found < known), "{:?}", found.schema);
    assert_eq!(count().await, before);
}

on_both_databases!(
    a_look_finds_a_database_as_the_service_left_it_and_changes_nothing,
    a_database_that_misses_migrations_is_told_of_and_not_migrated,
);

#[tokio::test]
async fn a_look_makes_no_file_and_finds_an_empty_one_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latchkey.db");
    let url = DatabaseUrl::sqlite_file(&path);
    assert!(matches!(examine(&url).await, Err(OpenError::File { .. })));
    assert!(!path.exists());
    std::fs::write(&path, "").unwrap();
    let found = examine(&url).await.unwrap();
    assert_eq!((found.schema, found.unwritable), (Schema::Empty, None));
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[tokio::test]
async fn damage_is_found() {
    let fixture = Fixture::sqlite().await;
    for n in 0..200 {
        fixture.user(&format!("user-{n}")).await;
    }
    fixture.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    fixture
        .sql("PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, '(actor, id)', '(action, id)') WHERE name = 'audit_by_actor'")
        .await;
    let found = examine(&fixture.url).await.unwrap();
    assert!(!found.damage.is_empty());
}
