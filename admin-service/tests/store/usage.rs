//! Usage reports count once, whatever becomes of their answers, and last uses are kept to the minute.

use std::time::Duration;

use latchkey::wire::{TokenUsage, UsageReport};
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::{Token, TokenId};
use latchkey_admin::domain::usage::{Receipt, Report};
use latchkey_admin::store::{Store, StoreError};
use sqlx::{Connection, Row};
use tokio::task::JoinSet;

use crate::scheduler::insert_expired;
use crate::support::{Fixture, eventually, on_both_databases};

on_both_databases![
    a_report_counts_and_a_repeated_or_older_one_changes_nothing,
    one_report_sent_many_times_at_once_counts_once,
    reports_of_many_edges_at_once_all_count,
    a_last_use_is_kept_to_the_minute_and_never_goes_back,
    a_last_use_is_written_only_when_its_minute_changes,
    what_is_denied_is_counted_and_is_no_use_of_a_token,
    tokens_that_are_deleted_are_skipped_and_the_rest_counts,
    a_report_of_the_most_tokens_counts_for_each_of_them,
    requests_are_summed_by_the_hour_and_overflow_nothing,
    usage_is_no_change_of_the_history,
    more_edges_than_are_remembered_are_forgotten_the_oldest_first,
    what_no_edge_can_have_done_counts_for_nothing,
    a_report_that_cannot_be_written_counts_for_nothing_and_can_be_sent_again,
];

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

pub fn used(id: TokenId, allowed: u64, denied: u64, ago: u64) -> TokenUsage {
    TokenUsage { token_id: id.to_string(), allowed, denied, last_used_ms_ago: ago }
}

pub fn report(edge: &str, sequence: u64, usage: Vec<TokenUsage>) -> Report {
    UsageReport { edge: edge.to_owned(), sequence, usage }.try_into().unwrap()
}

async fn count(store: &Store, report: Report) -> bool {
    store.count_usage(&report).await.unwrap().counted
}

/// The hours with what they counted.
async fn hours(db: &Fixture) -> Vec<(Timestamp, i64, i64)> {
    let rows = db.sql("SELECT hour, allowed, denied FROM usage_hours ORDER BY hour").await;
    let hour = |millis| Timestamp::from_millisecond(millis).unwrap();
    rows.iter().map(|row| (hour(row.get(0)), row.get(1), row.get(2))).collect()
}

async fn last_use(db: &Fixture, token: &Token) -> Option<String> {
    db.store.token(token.id).await.unwrap().last_used_at.map(|time| time.to_string())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn a_report_counts_and_a_repeated_or_older_one_changes_nothing(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let first = report("a", 7, vec![used(token.id, 3, 1, 0)]);
    let receipt = db.store.count_usage(&first).await.unwrap();
    assert_eq!(receipt, Receipt { counted: true, at: db.position().await });
    db.clock.advance(HOUR);
    let before = db.everything().await;
    for sequence in [7, 6, 0] {
        let again = report("a", sequence, vec![used(token.id, 3, 1, 0)]);
        let receipt = db.store.count_usage(&again).await.unwrap();
        assert_eq!(receipt, Receipt { counted: false, at: db.position().await });
        assert_eq!(db.everything().await, before, "report {sequence} after report 7 changed something");
    }
    assert!(count(&db.store, report("a", 8, vec![used(token.id, 1, 0, 0)])).await);
    assert!(count(&db.store, report("b", 0, vec![used(token.id, 0, 1, 0)])).await);
    assert!(!count(&db.store, report("b", 0, vec![used(token.id, 0, 1, 0)])).await);
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 3, 1), (at("2026-01-01T01:00:00Z"), 1, 1)]);
}

async fn what_is_denied_is_counted_and_is_no_use_of_a_token(db: Fixture) {
    db.user("alice").await;
    let (unused, used_before) = (db.token("alice").await, db.token("alice").await);
    assert!(count(&db.store, report("a", 1, vec![used(used_before.id, 1, 0, 0)])).await);
    db.clock.advance(HOUR);
    let denied = vec![used(unused.id, 0, 4, 0), used(used_before.id, 0, 3, 0)];
    assert!(count(&db.store, report("a", 2, denied)).await);
    assert_eq!(last_use(&db, &unused).await, None);
    assert_eq!(last_use(&db, &used_before).await.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 1, 0), (at("2026-01-01T01:00:00Z"), 0, 7)]);
    // Of the two entries of one token, the one that was allowed says when.
    db.clock.advance(HOUR);
    let both = vec![used(unused.id, 1, 0, 120_000), used(unused.id, 0, 1, 0)];
    assert!(count(&db.store, report("a", 3, both)).await);
    assert_eq!(last_use(&db, &unused).await.as_deref(), Some("2026-01-01T01:58:00Z"));
}

async fn one_report_sent_many_times_at_once_counts_once(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let second = db.second_store().await;
    for sequence in 1..=5 {
        let mut tasks = JoinSet::new();
        for number in 0..16 {
            let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
            let report = report("a", sequence, vec![used(token.id, 2, 1, 0)]);
            tasks.spawn(async move { count(&store, report).await });
        }
        let counted = tasks.join_all().await;
        assert_eq!(counted.into_iter().filter(|counted| *counted).count(), 1);
    }
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 10, 5)]);
}

async fn reports_of_many_edges_at_once_all_count(db: Fixture) {
    let user = db.user("alice").await;
    insert_expired(&db, &user, 120, db.now()).await;
    let ids = ids(&db).await;
    let second = db.second_store().await;
    for sequence in 1..=3 {
        db.clock.advance(MINUTE);
        let mut tasks = JoinSet::new();
        for edge in 0..12 {
            let store = if edge % 2 == 0 { db.store.clone() } else { second.clone() };
            let usage = ids.iter().map(|id| used(*id, 1, 2, 0)).collect();
            let report = report(&format!("edge-{edge}"), sequence, usage);
            tasks.spawn(async move { count(&store, report).await });
        }
        assert!(tasks.join_all().await.into_iter().all(|counted| counted));
    }
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 4_320, 8_640)]);
    assert_eq!(db.number("SELECT COUNT(DISTINCT last_used_at) FROM tokens").await, 1);
}

async fn ids(db: &Fixture) -> Vec<TokenId> {
    let rows = db.sql("SELECT id FROM tokens ORDER BY id").await;
    rows.iter().map(|row| row.get::<String, _>(0).parse().unwrap()).collect()
}

async fn a_last_use_is_kept_to_the_minute_and_never_goes_back(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    db.clock.set(at("2026-01-01T00:10:59.999Z"));
    let mut sequence = 0;
    let mut said = async |ago: u64| {
        sequence += 1;
        assert!(count(&db.store, report("a", sequence, vec![used(token.id, 1, 0, ago)])).await);
        last_use(&db, &token).await.unwrap()
    };
    assert_eq!(said(u64::MAX).await, "1970-01-01T00:00:00Z");
    assert_eq!(said(60_000).await, "2026-01-01T00:09:00Z");
    assert_eq!(said(59_999).await, "2026-01-01T00:10:00Z");
    for earlier in [60_000, 120_000, u64::MAX] {
        assert_eq!(said(earlier).await, "2026-01-01T00:10:00Z");
    }
    // What a clock has noted that was ahead is replaced.
    db.clock.set(at("2025-12-31T00:00:00Z"));
    assert_eq!(said(0).await, "2025-12-31T00:00:00Z");
    db.clock.set(at("2026-01-01T00:11:00Z"));
    assert_eq!(said(0).await, "2026-01-01T00:11:00Z");
    let shown = db.tokens_of("alice").await;
    assert_eq!(shown[0].last_used_at, Some(at("2026-01-01T00:11:00Z")));
}

/// Has the database fail every statement that writes to a token.
async fn forbid_updates_of_tokens(db: &Fixture) {
    if db.url.to_string().starts_with("sqlite") {
        db.sql("CREATE TRIGGER closed BEFORE UPDATE ON tokens BEGIN SELECT RAISE(ABORT, 'closed'); END")
            .await;
    } else {
        db.sql("CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''closed''; END'")
            .await;
        db.sql("CREATE TRIGGER closed BEFORE UPDATE ON tokens FOR EACH ROW EXECUTE FUNCTION closed()").await;
    }
}

async fn a_last_use_is_written_only_when_its_minute_changes(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    assert!(count(&db.store, report("a", 1, vec![used(token.id, 1, 0, 0)])).await);
    forbid_updates_of_tokens(&db).await;
    db.clock.advance(MINUTE - Duration::from_millis(1));
    assert!(count(&db.store, report("a", 2, vec![used(token.id, 1, 0, 0)])).await);
    db.clock.advance(Duration::from_millis(1));
    let refused = db.refused(db.store.count_usage(&report("a", 3, vec![used(token.id, 1, 0, 0)]))).await;
    assert!(matches!(refused, StoreError::Unavailable(_)));
}

async fn tokens_that_are_deleted_are_skipped_and_the_rest_counts(db: Fixture) {
    db.user("alice").await;
    let soon = Timestamp::from_millisecond(db.now().as_millisecond() + 1).unwrap();
    let (kept, deleted) = (db.token("alice").await, db.token_until("alice", soon).await);
    db.clock.advance(MINUTE);
    assert_eq!(db.delete_expired("alice").await, 1);
    let usage = vec![used(deleted.id, 100, 100, 0), used(kept.id, 2, 1, 0)];
    assert!(count(&db.store, report("a", 1, usage)).await);
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 2, 1)]);
    assert_eq!(last_use(&db, &kept).await.unwrap(), "2026-01-01T00:01:00Z");
    assert!(count(&db.store, report("a", 2, vec![used(deleted.id, 100, 100, 0)])).await);
    assert!(count(&db.store, report("a", 3, Vec::new())).await);
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 2, 1)]);
}

async fn a_report_of_the_most_tokens_counts_for_each_of_them(db: Fixture) {
    let user = db.user("alice").await;
    insert_expired(&db, &user, 1_001, db.now()).await;
    let ids = ids(&db).await;
    db.clock.set(at("2026-01-02T00:00:00Z"));
    // The first was used just now, the second a minute before, and so on.
    let usage = ids.iter().zip(0..1_000).map(|(id, n)| used(*id, n + 1, 1, n * 60_000)).collect();
    assert!(count(&db.store, report("a", 1, usage)).await);
    assert_eq!(hours(&db).await, [(at("2026-01-02T00:00:00Z"), 500_500, 1_000)]);
    let rows = db.sql("SELECT last_used_at FROM tokens ORDER BY id").await;
    let found: Vec<Option<i64>> = rows.iter().map(|row| row.get(0)).collect();
    let minute = |n: i64| db.now().as_millisecond() - n * 60_000;
    let expected: Vec<Option<i64>> = (0..1_000).map(|n| Some(minute(n))).chain([None]).collect();
    assert_eq!(found, expected);
}

async fn requests_are_summed_by_the_hour_and_overflow_nothing(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let most = i64::MAX.unsigned_abs();
    db.clock.set(at("2026-01-01T01:59:59.999Z"));
    assert!(count(&db.store, report("a", 1, vec![used(token.id, 5, 0, 3_600_000)])).await);
    db.clock.set(at("2026-01-01T02:00:00Z"));
    assert!(count(&db.store, report("a", 2, vec![used(token.id, 1, 1, 0)])).await);
    db.sql(
        "UPDATE usage_hours SET allowed = 9223372036854775806, denied = 9223372036854775806 WHERE denied = 1",
    )
    .await;
    assert!(count(&db.store, report("a", 3, vec![used(token.id, 1, 1, 0)])).await);
    assert!(count(&db.store, report("a", most, vec![used(token.id, 1, 7, 0)])).await);
    assert!(!count(&db.store, report("a", most, vec![used(token.id, 1, 1, 0)])).await);
    assert_eq!(
        hours(&db).await,
        [(at("2026-01-01T01:00:00Z"), 5, 0), (at("2026-01-01T02:00:00Z"), i64::MAX, i64::MAX)]
    );
}

async fn more_edges_than_are_remembered_are_forgotten_the_oldest_first(db: Fixture) {
    let now = db.now().as_millisecond();
    db.sql(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
         INSERT INTO edges (name, last_sequence, seen_at) SELECT 'made-up-' || i, 1, {now} - 20000 + i FROM n"
    ))
    .await;
    for number in 0..300 {
        assert!(count(&db.store, report(&format!("new-{number}"), 1, Vec::new())).await);
    }
    // It is looked at with every 256th new edge, and by the job.
    assert_eq!(db.number("SELECT COUNT(*) FROM edges").await, 10_000 + 300 - 256);
    assert_eq!(db.store.forget_surplus_edges().await.unwrap(), 300 - 256);
    assert_eq!(db.number("SELECT COUNT(*) FROM edges").await, 10_000);
    let left = |name: &str| format!("SELECT COUNT(*) FROM edges WHERE name LIKE '{name}'");
    assert_eq!(db.number(&left("new-%")).await, 300);
    for (name, remembered) in [("made-up-300", 0), ("made-up-301", 1)] {
        assert_eq!(db.number(&left(name)).await, remembered, "{name}");
    }
    assert!(count(&db.store, report("made-up-10000", 2, Vec::new())).await, "a known edge");
    assert_eq!(db.store.forget_surplus_edges().await.unwrap(), 0);
}

async fn what_no_edge_can_have_done_counts_for_nothing(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    assert!(count(&db.store, report("a", 1, vec![used(token.id, 1, 0, 0)])).await);
    db.clock.advance(MINUTE);
    let before = db.everything().await;
    let forged = report("a", 2, vec![used(token.id, 60_000_001, 0, 0)]);
    let refused = db.store.count_usage(&forged).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::ImplausibleUsage(at) if at.field == "usage[0].allowed"),
        "{refused}"
    );
    let first = report("b", 1, vec![used(token.id, 0, i64::MAX.unsigned_abs(), 0)]);
    assert!(matches!(db.store.count_usage(&first).await, Err(StoreError::ImplausibleUsage(_))));
    assert_eq!(db.everything().await, before);
    assert!(count(&db.store, report("a", 2, vec![used(token.id, 60_000_000, 0, 0)])).await);
}

async fn usage_is_no_change_of_the_history(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let (position, recorded) = (db.position().await, db.number("SELECT COUNT(*) FROM audit").await);
    assert!(count(&db.store, report("a", 1, vec![used(token.id, 1, 0, 0)])).await);
    assert_eq!(db.position().await, position);
    assert_eq!(db.number("SELECT COUNT(*) FROM audit").await, recorded);
    assert!(db.is_valid(&token).await);
}

async fn a_report_that_cannot_be_written_counts_for_nothing_and_can_be_sent_again(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let whole = report("a", 1, vec![used(token.id, 1, 0, 0)]);
    db.sql("ALTER TABLE usage_hours RENAME COLUMN denied TO away").await;
    db.refused(db.store.count_usage(&whole)).await;
    db.sql("ALTER TABLE usage_hours RENAME COLUMN away TO denied").await;
    assert!(count(&db.store, whole).await);
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 1, 0)]);
}

/// Where writers work side by side, which on SQLite they do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_use_that_another_report_notes_meanwhile_stays() {
    let db = Fixture::postgres().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    assert!(count(&db.store, report("a", 1, vec![used(token.id, 1, 0, 0)])).await);
    db.clock.advance(MINUTE);
    // Another report that is not committed yet: it holds the hour, and knows of a use in the minute after.
    let mut other = db.connection().await;
    let mut other = other.begin().await.unwrap();
    for statement in
        ["UPDATE usage_hours SET allowed = allowed + 1", "UPDATE tokens SET last_used_at = 1767225720000"]
    {
        sqlx::query(statement).execute(&mut *other).await.unwrap();
    }
    let (store, one) = (db.store.clone(), report("b", 1, vec![used(token.id, 1, 0, 0)]));
    let counting = tokio::spawn(async move { count(&store, one).await });
    eventually("the wait for the hour", async || {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        db.number(waiting).await == 1
    })
    .await;
    db.clock.advance(MINUTE);
    other.commit().await.unwrap();
    assert!(counting.await.unwrap());
    assert_eq!(last_use(&db, &token).await.unwrap(), "2026-01-01T00:02:00Z");
    assert_eq!(hours(&db).await, [(at("2026-01-01T00:00:00Z"), 3, 0)]);
}
