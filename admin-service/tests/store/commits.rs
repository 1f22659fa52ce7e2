//! What this process commits is told from memory, whatever becomes of the database right after the commit.

use std::net::SocketAddr;
use std::time::Duration;

use latchkey_admin::domain::changes::Position;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Revision;
use latchkey_admin::feed::Outcome;

use crate::feed::{LONG, ask, start};
use crate::postgres::Cluster;
use crate::relay::Relay;
use crate::support::{Fixture, eventually, name, on_both_databases, origin};

on_both_databases![
    commits_are_announced_with_the_hashes_that_the_database_tells_of_and_refusals_are_not,
    concurrent_writers_of_one_process_are_told_in_the_order_of_their_revisions,
    a_revocation_after_one_of_another_replica_is_told_after_it_and_never_in_its_place,
];

/// What PostgreSQL answers to a commit: CommandComplete with its tag.
const COMMITTED: &[u8] = b"COMMIT\0";

/// A store whose database is reached by a relay, and the cluster, which ends with it.
async fn behind_a_relay() -> (Fixture, Relay, Cluster) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::primary(port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let relay = Relay::to(address).await;
    let direct = cluster.database();
    let relayed = direct.replace(&address.to_string(), &relay.address().to_string());
    assert_ne!(relayed, direct);
    (Fixture::on(relayed.parse().unwrap(), direct, None).await, relay, cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompt_a_revocation_is_told_at_once_though_the_database_falls_silent_right_after_its_commit() {
    let (db, relay, _cluster) = behind_a_relay().await;
    db.user("alice").await;
    let (first, second) = (db.token("alice").await, db.token("alice").await);
    let (feed, _trigger) = start(&db.store);
    // The follower has begun.
    let epoch = db.position().await.epoch;
    for (revision, token) in [(1, &first), (2, &second)] {
        let here = Position { epoch: epoch.clone(), revision: Revision(revision - 1) };
        let waiting = tokio::spawn({
            let (feed, here) = (feed.clone(), here.clone());
            async move { (ask(&feed, Some(&here), LONG).await, crate::wait::now()) }
        });
        eventually("an edge waits", async || feed.waiting() == 1).await;
        relay.hold_after(COMMITTED);
        db.store.revoke_token(&origin(), token.id).await.unwrap();
        let committed = crate::wait::now();
        assert!(relay.is_holding(), "nothing can be read any more");
        let ((outcome, answer), told) = waiting.await.unwrap();
        assert!(relay.is_holding(), "it was told from memory");
        println!("told {:?} after the commit", told.saturating_duration_since(committed));
        assert_eq!((outcome, answer.revision, answer.more), (Outcome::Changes, revision, false));
        assert_eq!(answer.token_hashes, [token.hash]);
        relay.mend();
    }
    // When the database is read again, it says the same, and nobody has to forget anything.
    let here = Position { epoch, revision: Revision(2) };
    for _ in 0..3 {
        let (outcome, answer) = ask(&feed, Some(&here), Duration::from_millis(300)).await;
        assert_eq!((outcome, answer.revision, answer.epoch), (Outcome::Timeout, 2, here.epoch.0.clone()));
    }
}

async fn a_revocation_after_one_of_another_replica_is_told_after_it_and_never_in_its_place(db: Fixture) {
    db.user("alice").await;
    let other = db.second_store().await;
    let (feed, _trigger) = start(&db.store);
    let begin = db.position().await;
    let (mut at, mut told, mut expected) = (begin, Vec::new(), Vec::new());
    for _ in 0..10 {
        let (others, own) = (db.token("alice").await, db.token("alice").await);
        other.revoke_token(&origin(), others.id).await.unwrap();
        db.store.revoke_token(&origin(), own.id).await.unwrap();
        expected.extend([others.hash, own.hash]);
        while told.len() < expected.len() {
            let (_, answer) = ask(&feed, Some(&at), LONG).await;
            assert!(answer.revision > at.revision.0 && !answer.reset);
            told.extend(answer.token_hashes);
            at.revision = Revision(answer.revision);
        }
        assert_eq!((told.as_slice(), at.revision.0), (expected.as_slice(), expected.len() as u64));
    }
}

async fn commits_are_announced_with_the_hashes_that_the_database_tells_of_and_refusals_are_not(db: Fixture) {
    db.user("alice").await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(db.token("alice").await);
    }
    let begin = db.position().await;
    let mut commits = db.store.commits();
    db.store.revoke_token(&origin(), tokens[0].id).await.unwrap();
    let disabled = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disabled).await.unwrap();
    // None of these alters a verdict.
    db.store.revoke_token(&origin(), tokens[0].id).await.unwrap();
    db.refused(db.store.delete_user(&origin(), &name("nobody"))).await;
    let told = db.store.changes(&begin, 100).await.unwrap().page.unwrap().changes;
    assert_eq!(told.iter().map(|change| change.token_hashes.len()).collect::<Vec<_>>(), [1, 3]);
    for change in told {
        let committed = commits.try_recv().unwrap();
        assert_eq!((committed.epoch, committed.change), (begin.epoch.clone(), change));
    }
    assert!(commits.try_recv().is_err());
}

async fn concurrent_writers_of_one_process_are_told_in_the_order_of_their_revisions(db: Fixture) {
    let mut tokens = Vec::new();
    for user in 0..4 {
        db.user(&format!("user{user}")).await;
        for _ in 0..8 {
            tokens.push(db.token(&format!("user{user}")).await);
        }
    }
    let (feed, _trigger) = start(&db.store);
    let mut at = db.position().await;
    let mut writers = tokio::task::JoinSet::new();
    for token in &tokens {
        let (store, id) = (db.store.clone(), token.id);
        writers.spawn(async move { store.revoke_token(&origin(), id).await.unwrap() });
    }
    let mut told = Vec::new();
    while at.revision.0 < 32 {
        let (outcome, answer) = ask(&feed, Some(&at), LONG).await;
        assert_eq!(outcome, Outcome::Changes);
        assert_eq!(answer.revision - at.revision.0, answer.token_hashes.len() as u64, "none is left out");
        told.extend(answer.token_hashes);
        at.revision = Revision(answer.revision);
    }
    writers.join_all().await;
    let begin = Position { revision: Revision(0), ..at };
    let stored = db.store.changes(&begin, 100).await.unwrap().page.unwrap();
    assert_eq!(told, stored.token_hashes().collect::<Vec<_>>());
}
