//! A database that is gone, or does not answer: calls fail soon and change nothing, and all is well when it is back.

use std::time::Duration;

use latchkey_admin::domain::token::Expiry;
use latchkey_admin::domain::user::NewUser;
use latchkey_admin::store::{Store, StoreError};
use sqlx::{Connection, Executor};

use crate::postgres::Cluster;
use crate::support::{Fixture, eventually, name, new_token, origin};

const PATIENCE: Duration = Duration::from_millis(300);

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(error.to_string(), "the database cannot be used now");
}

async fn create(store: &Store) -> Result<(), StoreError> {
    store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_crashes_and_comes_back_needs_no_restart_of_the_service() {
    let cluster = Cluster::start(true);
    let url = cluster.database();
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let token = db.token("alice").await;
    cluster.crash();
    assert_unavailable(db.store.verify(token.hash).await);
    assert_unavailable(create(&db.store).await);
    assert_unavailable(db.store.ping().await);
    cluster.resume();
    eventually("the recovery", async || db.store.ping().await.is_ok()).await;
    assert!(db.is_valid(&token).await);
    create(&db.store).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 2);
    db.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_does_not_answer_holds_nobody_for_long() {
    let db = Fixture::postgres().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    let store = db.impatient_store(PATIENCE).await;
    let mut other = db.connection().await;
    let mut blocking = other.begin().await.unwrap();
    blocking.execute("LOCK TABLE tokens").await.unwrap();
    // More calls than there are connections, so that none may keep its place.
    for _ in 0..6 {
        let (read, write) = tokio::join!(store.verify(token.hash), create(&store));
        assert_unavailable(read);
        assert_unavailable(write);
    }
    blocking.rollback().await.unwrap();
    store.verify(token.hash).await.unwrap();
    create(&store).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_that_another_process_writes_to_is_read_all_the_while() {
    let db = Fixture::sqlite().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    let store = db.impatient_store(PATIENCE).await;
    let mut other = db.connection().await;
    let mut blocking = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    blocking.execute("UPDATE history SET epoch = 'never seen'").await.unwrap();
    for _ in 0..3 {
        assert_unavailable(create(&store).await);
        assert_unavailable(store.create_user(&origin(), &NewUser::named(name("bob"))).await);
        assert_ne!(store.verify(token.hash).await.unwrap().epoch.0, "never seen");
    }
    blocking.rollback().await.unwrap();
    create(&store).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM users").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_waits_for_any_more_leaves_nothing_half_done() {
    for db in [Fixture::sqlite().await, Fixture::postgres().await] {
        db.user("alice").await;
        for polls in 0..40_u32 {
            let call = create(&db.store);
            tokio::pin!(call);
            // Give it up after so many steps, wherever that is.
            let mut left = polls;
            std::future::poll_fn(|context| {
                let done = call.as_mut().poll(context).is_ready();
                left = left.saturating_sub(1);
                if done || left == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
        let tokens = db.number("SELECT COUNT(*) FROM tokens").await;
        let entries = db.number("SELECT COUNT(*) FROM audit WHERE action = 'token.created'").await;
        assert_eq!(tokens, entries);
        assert!(tokens <= 10);
        // Whatever was left open was rolled back: others can write.
        db.user("bob").await;
        db.second_store().await.delete_user(&origin(), &name("bob")).await.unwrap();
    }
}

/// SQLite rolls a transaction back by itself when it cannot write, as to a full disk.
#[tokio::test]
async fn a_sqlite_that_has_ended_a_transaction_by_itself_is_written_to_again() {
    let db = Fixture::sqlite().await;
    db.user("alice").await;
    db.sql("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ROLLBACK, 'full'); END").await;
    for _ in 0..3 {
        assert_unavailable(db.store.create_user(&origin(), &NewUser::named(name("bob"))).await);
        assert_unavailable(create(&db.store).await);
    }
    db.sql("DROP TRIGGER full").await;
    create(&db.store).await.unwrap();
    db.user("bob").await;
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 1);
}
