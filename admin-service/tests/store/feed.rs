//! The change feed on a database: what other processes change is heard, lost history and a lost database are noticed.

use std::time::Duration;

use latchkey::wire::ChangesResponse;
use latchkey_admin::domain::changes::{MOST, Position};
use latchkey_admin::domain::verdict::{Epoch, Revision};
use latchkey_admin::feed::{Feed, Outcome, Unanswered};
use latchkey_admin::lifecycle::{Trigger, shutdown};
use latchkey_admin::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::postgres::Cluster;
use crate::support::{Fixture, change_hash, eventually, note_changes, on_both_databases, origin};

on_both_databases![
    what_another_process_changes_is_heard,
    a_reader_that_memory_does_not_reach_back_to_is_served_from_the_database,
    lost_revisions_make_one_new_epoch_among_all_replicas,
    a_history_of_the_same_revision_that_is_another_gets_a_new_epoch,
    a_new_epoch_of_another_process_resets_those_who_wait,
    a_revision_that_no_page_can_tell_of_resets_those_who_wait,
    the_end_lets_everybody_go,
];

/// No test waits for this.
pub const LONG: Duration = Duration::from_secs(60);

/// A feed with its follower, which ends with the trigger.
pub fn start(store: &Store) -> (Feed, Trigger) {
    let (feed, follower) = Feed::new(store.clone());
    let (trigger, ending) = shutdown();
    tokio::spawn(follower.run(ending));
    (feed, trigger)
}

/// Asks as an edge does: again where the database was too slow on this busy machine for anyone to know.
pub async fn ask(feed: &Feed, at: Option<&Position>, wait: Duration) -> (Outcome, ChangesResponse) {
    loop {
        match feed.answer(at, wait).await {
            Ok(answer) => return (answer.outcome, serde_json::from_slice(&answer.body).unwrap()),
            Err(Unanswered::Lost) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn what_another_process_changes_is_heard(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let (feed, _trigger) = start(&db.store);
    let other = db.second_store().await;
    let here = db.position().await;
    let waiting = tokio::spawn({
        let (feed, here) = (feed.clone(), here.clone());
        async move { ask(&feed, Some(&here), LONG).await }
    });
    other.revoke_token(&origin(), token.id).await.unwrap();
    let (outcome, answer) = waiting.await.unwrap();
    assert_eq!((outcome, answer.token_hashes.as_slice()), (Outcome::Changes, [token.hash].as_slice()));
    assert_eq!((answer.revision, answer.reset, answer.more), (1, false, false));
    // A replica that is asked for a revision before it has heard of it looks again, and resets nobody.
    for step in 2..20 {
        note_changes(&db, step, &[1], db.now()).await;
        let there = Position { revision: Revision(step), ..here.clone() };
        assert_eq!(ask(&feed, Some(&there), Duration::ZERO).await.0, Outcome::Timeout);
    }
}

async fn a_reader_that_memory_does_not_reach_back_to_is_served_from_the_database(db: Fixture) {
    note_changes(&db, 1, &[600, 600, 1_500, 1], db.now()).await;
    let (feed, _trigger) = start(&db.store);
    let mut reader = Position { revision: Revision(0), ..db.position().await };
    let mut pages = Vec::new();
    loop {
        let (outcome, answer) = ask(&feed, Some(&reader), Duration::ZERO).await;
        pages.push((outcome, answer.token_hashes.len(), answer.revision, answer.more));
        if !answer.more {
            break;
        }
        assert_eq!(answer.token_hashes[0], change_hash(reader.revision.0 + 1, 0));
        reader.revision = Revision(answer.revision);
    }
    let changes = Outcome::Changes;
    assert_eq!(
        pages,
        [(changes, 600, 1, true), (changes, 600, 2, true), (changes, 1_500, 3, true), (changes, 1, 4, false)]
    );
}

async fn lost_revisions_make_one_new_epoch_among_all_replicas(db: Fixture) {
    note_changes(&db, 1, &[1, 1, 1], db.now()).await;
    let before = db.position().await;
    let second = db.second_store().await;
    let feeds = [start(&db.store), start(&second)];
    let waiting: Vec<_> = feeds
        .iter()
        .map(|(feed, _)| {
            let (feed, before) = (feed.clone(), before.clone());
            tokio::spawn(async move { ask(&feed, Some(&before), LONG).await })
        })
        .collect();
    for (feed, _) in &feeds {
        assert_eq!(ask(feed, Some(&before), Duration::ZERO).await.0, Outcome::Timeout);
    }
    // As a backup does that is restored under the running service.
    db.sql("UPDATE history SET revision = 1").await;
    let mut resets = Vec::new();
    for answer in waiting {
        resets.push(answer.await.unwrap());
    }
    let now = db.position().await;
    assert_ne!(now.epoch, before.epoch);
    for (outcome, answer) in resets {
        assert_eq!((outcome, answer.reset, answer.token_hashes.len()), (Outcome::Reset, true, 0));
        assert_eq!((Epoch(answer.epoch), answer.revision), (now.epoch.clone(), 1));
    }
    for (feed, _) in &feeds {
        assert_eq!(ask(feed, Some(&now), Duration::ZERO).await.0, Outcome::Timeout);
    }
}

/// As a backup does that is restored under the running service, where as many changes were lost as were made since.
async fn a_history_of_the_same_revision_that_is_another_gets_a_new_epoch(db: Fixture) {
    db.user("alice").await;
    let (lost, kept) = (db.token("alice").await, db.token("alice").await);
    db.store.revoke_token(&origin(), lost.id).await.unwrap();
    let before = db.position().await;
    let (feed, _trigger) = start(&db.store);
    assert_eq!(ask(&feed, Some(&before), Duration::ZERO).await.0, Outcome::Timeout);
    let stamp = db.number("SELECT stamp FROM history").await;
    let waiting = tokio::spawn({
        let (feed, before) = (feed.clone(), before.clone());
        async move { ask(&feed, Some(&before), LONG).await }
    });
    // Nobody looks between: both are one statement.
    db.sql(&format!("UPDATE history SET stamp = {}", stamp.wrapping_add(1))).await;
    let (outcome, answer) = waiting.await.unwrap();
    assert_eq!((outcome, answer.reset, answer.revision), (Outcome::Reset, true, before.revision.0));
    let now = db.position().await;
    assert_ne!(now.epoch, before.epoch);
    assert_eq!(Epoch(answer.epoch), now.epoch);
    // Once: the new history is followed as ever, and each of its revisions has another stamp.
    let known = db.number("SELECT stamp FROM history").await;
    db.store.revoke_token(&origin(), kept.id).await.unwrap();
    let (outcome, answer) = ask(&feed, Some(&now), LONG).await;
    assert_eq!((outcome, answer.token_hashes.as_slice()), (Outcome::Changes, [kept.hash].as_slice()));
    assert_ne!(db.number("SELECT stamp FROM history").await, known);
    assert_eq!(db.position().await.epoch, now.epoch);
}

/// A backup is restored into the live file, by one transaction, while a revocation waits for the lock: that one takes the revision
/// which the lost one had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_waited_while_a_backup_was_restored_under_it_resets_all_who_follow() {
    for _ in 0..5 {
        let db = Fixture::sqlite().await;
        db.user("alice").await;
        let (lost, waits) = (db.token("alice").await, db.token("alice").await);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        db.sql(&format!("VACUUM INTO '{}'", copy.display())).await;
        db.store.revoke_token(&origin(), lost.id).await.unwrap();
        let before = db.position().await;
        let (feed, _trigger) = start(&db.store);
        assert_eq!(ask(&feed, Some(&before), Duration::ZERO).await.0, Outcome::Timeout);
        let mut restoring = db.connection().await;
        restoring.execute(AssertSqlSafe(format!("ATTACH '{}' AS copy", copy.display()))).await.unwrap();
        restoring.execute("BEGIN IMMEDIATE").await.unwrap();
        let revocation = tokio::spawn({
            let store = db.store.clone();
            async move { store.revoke_token(&origin(), waits.id).await.unwrap().revision }
        });
        for statement in [
            "DELETE FROM changes; INSERT INTO changes SELECT * FROM copy.changes",
            "DELETE FROM tokens; INSERT INTO tokens SELECT * FROM copy.tokens",
            "DELETE FROM history; INSERT INTO history SELECT * FROM copy.history",
            "COMMIT",
        ] {
            restoring.execute(statement).await.unwrap();
        }
        assert_eq!(revocation.await.unwrap(), before.revision, "it took the revision of the lost one");
        let (outcome, answer) = ask(&feed, Some(&before), LONG).await;
        assert_eq!((outcome, answer.reset), (Outcome::Reset, true));
        assert_ne!(db.position().await.epoch, before.epoch);
        assert!(db.is_valid(&lost).await, "the backup was not restored");
        restoring.close().await.unwrap();
    }
}

async fn a_new_epoch_of_another_process_resets_those_who_wait(db: Fixture) {
    let (feed, _trigger) = start(&db.store);
    let before = db.position().await;
    let waiting = tokio::spawn({
        let before = before.clone();
        async move { ask(&feed, Some(&before), LONG).await }
    });
    let renamed = db.second_store().await.new_epoch().await.unwrap();
    let (outcome, answer) = waiting.await.unwrap();
    assert_eq!((outcome, answer.reset, Epoch(answer.epoch)), (Outcome::Reset, true, renamed.epoch));
}

async fn a_revision_that_no_page_can_tell_of_resets_those_who_wait(db: Fixture) {
    let (feed, _trigger) = start(&db.store);
    let before = db.position().await;
    let waiting = tokio::spawn({
        let (feed, before) = (feed.clone(), before.clone());
        async move { ask(&feed, Some(&before), LONG).await }
    });
    note_changes(&db, 2, &[MOST + 1], db.now()).await;
    let (outcome, answer) = waiting.await.unwrap();
    assert_eq!((outcome, answer.revision, answer.token_hashes.len()), (Outcome::Reset, 2, 0));
    assert_eq!(ask(&feed, Some(&before), Duration::ZERO).await.0, Outcome::Reset);
}

async fn the_end_lets_everybody_go(db: Fixture) {
    let (feed, trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (feed, here) = (feed.clone(), here.clone());
            tokio::spawn(async move { ask(&feed, Some(&here), LONG).await })
        })
        .collect();
    eventually("the wait of all", async || feed.waiting() == 100).await;
    trigger.pull();
    for answer in waiting {
        let (outcome, answer) = answer.await.unwrap();
        assert_eq!((outcome, answer.revision, answer.reset), (Outcome::Ending, 0, false));
    }
    // Who comes late is not kept either.
    assert_eq!(ask(&feed, Some(&here), LONG).await.0, Outcome::Ending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_nobody_is_told_that_nothing_changes() {
    let cluster = Cluster::start(false);
    let url = cluster.database();
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    note_changes(&db, 1, &[1], db.now()).await;
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    cluster.crash();
    assert!(matches!(feed.answer(Some(&here), LONG).await, Err(Unanswered::Lost)));
    assert!(matches!(feed.answer(Some(&here), Duration::ZERO).await, Err(Unanswered::Lost)));
    assert!(matches!(feed.answer(None, LONG).await, Err(Unanswered::Lost)));
    cluster.resume();
    eventually("the recovery", async || feed.answer(Some(&here), Duration::ZERO).await.is_ok()).await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
}
