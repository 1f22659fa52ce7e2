//! Those who follow the change feed: they miss nothing whatever else goes on, they cost the database nothing while they
//! wait, and there is a place for so many of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey_admin::domain::changes::{MOST, Position};
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Revision;
use latchkey_admin::feed::{Feed, Outcome, PLACES, Unanswered};
use latchkey_admin::store::RETAINED;
use tokio::task::JoinSet;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::feed::{LONG, ask, start};
use crate::retention::lease;
use crate::support::{Fixture, change_hash, eventually, name, note_changes, on_both_databases, origin};

on_both_databases![
    who_follows_while_many_write_misses_nothing_from_whichever_replica,
    who_was_away_for_longer_than_changes_are_kept_is_reset,
    each_has_a_place_and_who_leaves_gives_it_to_another,
];

/// Follows from a position up to the last revision, asking the feeds in turn. Gives all that it was told.
async fn follow(feeds: Vec<Feed>, from: Position, last: u64) -> Vec<TokenHash> {
    let (mut here, mut told) = (from, Vec::new());
    for feed in feeds.iter().cycle() {
        if here.revision.0 >= last {
            break;
        }
        let (outcome, answer) = ask(feed, Some(&here), LONG).await;
        assert_eq!(outcome, Outcome::Changes, "at {}", here.revision);
        assert!(answer.revision > here.revision.0, "it goes on");
        told.extend(answer.token_hashes);
        here.revision = Revision(answer.revision);
    }
    told
}

async fn who_follows_while_many_write_misses_nothing_from_whichever_replica(db: Fixture) {
    const USERS: usize = 4;
    const CHANGES: usize = 12;
    let second = db.second_store().await;
    let replicas = [start(&db.store), start(&second)];
    let feeds: Vec<Feed> = replicas.iter().map(|(feed, _)| feed.clone()).collect();
    let mut tokens = Vec::new();
    for user in 0..USERS {
        db.user(&format!("user{user}")).await;
        tokens.push(db.token(&format!("user{user}")).await);
    }
    let (begin, last) = (db.position().await, (USERS * CHANGES) as u64);
    let followers: Vec<_> = [vec![0], vec![1], vec![0, 1], vec![1, 1, 0]]
        .into_iter()
        .map(|order| order.into_iter().map(|replica: usize| feeds[replica].clone()).collect())
        .map(|feeds| tokio::spawn(follow(feeds, begin.clone(), last)))
        .collect();
    let mut writers = JoinSet::new();
    for user in 0..USERS {
        let store = if user % 2 == 0 { db.store.clone() } else { second.clone() };
        writers.spawn(async move {
            for step in 0..CHANGES {
                let toggle = UserPatch { active: Some(step % 2 == 1), ..UserPatch::default() };
                store.update_user(&origin(), &name(&format!("user{user}")), &toggle).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let all: BTreeSet<_> = tokens.iter().map(|token| token.hash.to_string()).collect();
    for follower in followers {
        let told = follower.await.unwrap();
        assert_eq!(told.len(), USERS * CHANGES, "each change once");
        assert_eq!(told.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), all);
    }
}

async fn who_was_away_for_longer_than_changes_are_kept_is_reset(db: Fixture) {
    note_changes(&db, 1, &[1, 1], db.now()).await;
    db.clock.set(RETAINED.after(db.now()));
    note_changes(&db, 3, &[1], db.now()).await;
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    assert_eq!(db.store.forget_changes_batch(&held).await.unwrap().deleted, 2);
    let (feed, _trigger) = start(&db.store);
    let at = async |revision| {
        let position = Position { revision: Revision(revision), ..db.position().await };
        ask(&feed, Some(&position), Duration::ZERO).await
    };
    for lost in [0, 1] {
        let (outcome, answer) = at(lost).await;
        assert_eq!(
            (outcome, answer.revision, answer.token_hashes.len()),
            (Outcome::Reset, 3, 0),
            "at {lost}"
        );
    }
    let (outcome, answer) = at(2).await;
    assert_eq!((outcome, answer.token_hashes), (Outcome::Changes, vec![change_hash(3, 0)]));
}

async fn each_has_a_place_and_who_leaves_gives_it_to_another(db: Fixture) {
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    let mut waiting = JoinSet::new();
    for _ in 0..PLACES {
        let (feed, here) = (feed.clone(), here.clone());
        waiting.spawn(async move { feed.answer(Some(&here), LONG).await.map(|answer| answer.outcome) });
    }
    eventually("the wait of all", async || feed.waiting() == PLACES).await;
    assert!(matches!(feed.answer(Some(&here), LONG).await, Err(Unanswered::Full)));
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    assert_eq!(feed.waiting(), 0, "who hangs up keeps no place");
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
}

/// Counts what is asked of databases by the tasks of one thread, as sqlx tells it.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// On PostgreSQL, whose driver has no threads of its own.
#[tokio::test]
async fn however_many_are_reset_by_a_change_of_very_many_tokens_one_reads_the_database_for_all_of_them() {
    const WAITING: usize = 1_000;
    let statements = Statements::default();
    let _counted = tracing_subscriber::registry().with(statements.clone()).set_default();
    let db = Fixture::postgres().await;
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let (feed, here) = (feed.clone(), here.clone());
        waiting.spawn(async move { ask(&feed, Some(&here), LONG).await });
    }
    eventually("the wait of all", async || feed.waiting() == WAITING).await;
    note_changes(&db, 1, &[MOST + 1], db.now()).await;
    let before = statements.0.load(Ordering::Relaxed);
    let answers = tokio::time::timeout(2 * LONG, waiting.join_all()).await.expect("all within two minutes");
    for (outcome, answer) in answers {
        assert_eq!((outcome, answer.revision, answer.reset), (Outcome::Reset, 1, true));
    }
    let statements = statements.0.load(Ordering::Relaxed) - before;
    assert!(statements < WAITING / 2, "{statements} statements for {WAITING} who waited");
}

/// On PostgreSQL, whose driver has no threads of its own.
#[tokio::test]
async fn however_many_wait_one_reads_the_database_for_all_of_them() {
    const WAITING: usize = 5_000;
    let statements = Statements::default();
    let _counted = tracing_subscriber::registry().with(statements.clone()).set_default();
    let count = || statements.0.load(Ordering::Relaxed);
    let db = Fixture::postgres().await;
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let (feed, here) = (feed.clone(), here.clone());
        waiting.spawn(async move { ask(&feed, Some(&here), LONG).await });
    }
    eventually("the wait of all", async || feed.waiting() == WAITING).await;
    let before = count();
    note_changes(&db, 1, &[3], db.now()).await;
    for (outcome, answer) in waiting.join_all().await {
        assert_eq!((outcome, answer.revision, answer.token_hashes.len()), (Outcome::Changes, 1, 3));
    }
    let statements = count() - before;
    // The two of the change itself, and a look every 100 ms by the one who follows.
    assert!((3..500).contains(&statements), "{statements} statements for {WAITING} who waited");
}
