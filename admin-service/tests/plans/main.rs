//! Nothing that the store does for a request or a job reads a large table from end to end.
//!
//! Every operation is run on its own, on tables of many rows; which there are is read from the source. On PostgreSQL the
//! database's own counters tell what was read, on SQLite the plans of the statements that were sent. This is a program of its
//! own, so that no other test's statements are among them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod operations;
#[allow(dead_code, reason = "the tool box of the store's tests")]
#[path = "../store/plans.rs"]
mod plans;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;
mod seed;
#[allow(dead_code, unused_imports, unused_macros, reason = "the tool box of the store's tests")]
#[path = "../store/support.rs"]
mod support;

use std::collections::BTreeSet;

use latchkey::token::TokenHash;
use latchkey::wire::MAX_TOKEN_HASHES;
use latchkey_admin::domain::verdict::Outcome;
use sqlx::Row;
use tokio::sync::Mutex;

use crate::plans::{plan, statements};
use crate::support::{Fixture, change_hash, eventually, note_changes};

/// The tables that grow with use.
const LARGE: [&str; 4] = ["tokens", "audit", "changes", "edges"];
/// Those of one row or few, the last three by the names that statements give them.
const SMALL: [&str; 9] = ["history", "restrictions", "clock", "leases", "jobs", "usage_hours", "h", "r", "c"];
/// What counts or looks for tokens among all live ones, whatever their number: on SQLite by an index that has all that it asks for; PostgreSQL
/// takes the table where most tokens are live. And what finds the edges beyond a number: it counts so many.
const COUNTS_ALL: [&str; 4] =
    ["forget_surplus_edges", "shorten_existing_tokens", "touched_by", "would_shorten"];

/// Indexes of a few rows of a large table.
const FEW: [&str; 2] = ["tokens_of_admins", "users_with_limits"];

/// One database at a time, so that all statements that are heard are of one.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_reads_a_large_table_from_end_to_end_on_sqlite() {
    let _turn = TURN.lock().await;
    let db = Fixture::sqlite().await;
    let seeded = seed::fill(&db).await;
    let sent = statements();
    for operation in operations::all() {
        sent.lock().unwrap().clear();
        operations::run(&operation, &db, &seeded).await;
        let texts = std::mem::take(&mut *sent.lock().unwrap()).into_keys().collect::<BTreeSet<_>>();
        for text in texts.iter().filter(|text| is_planned(text)) {
            let plan = plan(&db, text).await;
            let end_to_end = plan.lines().find(|line| reads_all(line, &plan, &operation));
            assert_eq!(end_to_end, None, "{operation}: {text}\n{plan}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_reads_a_large_table_from_end_to_end_on_postgres_knowing_its_values() {
    on_postgres("force_custom_plan").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_reads_a_large_table_from_end_to_end_on_postgres_whatever_its_values() {
    on_postgres("force_generic_plan").await;
}

async fn on_postgres(plans: &str) {
    let _turn = TURN.lock().await;
    let db = Fixture::postgres().await;
    let seeded = seed::fill(&db).await;
    let database: String = db.sql("SELECT CAST(current_database() AS TEXT)").await[0].get(0);
    db.sql(&format!("ALTER DATABASE {database} SET plan_cache_mode = {plans}")).await;
    for operation in operations::all() {
        let before = scans(&db).await;
        operations::run(&operation, &db, &seeded).await;
        if COUNTS_ALL.contains(&operation.as_str()) {
            continue;
        }
        assert_eq!(scans(&db).await, before, "{operation} reads one of {LARGE:?} from end to end");
    }
}

/// That is the state of a new database, of one that was restored, and of one without autovacuum. PostgreSQL then takes `history`, which
/// has one row, for one of hundreds, and what is joined with it for that many times as much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_never_analysed_is_planned_for_the_one_row_of_its_history() {
    let _turn = TURN.lock().await;
    let db = Fixture::postgres().await;
    for table in ["history", "changes"] {
        db.sql(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    note_changes(&db, 1, &[100; 300], db.now()).await;
    let mut position = db.position().await;
    position.revision.0 -= 1;
    let sent = statements();
    sent.lock().unwrap().clear();
    assert!(db.store.changes(&position, 60_000).await.unwrap().page.is_some());
    db.store.verify(change_hash(1, 1)).await.unwrap();
    db.position().await;
    db.store.restrictions().await.unwrap();
    let texts = std::mem::take(&mut *sent.lock().unwrap()).into_keys().collect::<BTreeSet<_>>();
    let texts: Vec<_> = texts.iter().filter(|text| is_planned(text) && !text.contains("pg_")).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    for text in texts {
        let plan = plan(&db, text).await;
        let of_one_row = |line: &&str| line.contains(" on history") || line.contains(" on restrictions");
        let wrong = plan.lines().filter(of_one_row).find(|line| !line.contains(" rows=1 "));
        assert_eq!(wrong, None, "{text}\n{plan}");
        // From 100,000 on, PostgreSQL compiles a plan, where it is let.
        let cost = plan.split_once("..").and_then(|(_, rest)| rest.split('.').next()).unwrap();
        assert!(cost.parse::<u64>().unwrap() < 100_000, "{text}\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_tokens_of_one_request_are_looked_up_by_one_statement() {
    let _turn = TURN.lock().await;
    for db in [Fixture::sqlite().await, Fixture::postgres().await] {
        db.user("alice").await;
        let token = db.token("alice").await;
        let mut hashes: Vec<TokenHash> = (1..MAX_TOKEN_HASHES).map(|number| change_hash(1, number)).collect();
        hashes.push(token.hash);
        let sent = statements();
        sent.lock().unwrap().clear();
        let verdicts = db.store.verify_all(hashes.try_into().unwrap()).await.unwrap();
        assert_eq!(verdicts.outcomes.len(), MAX_TOKEN_HASHES);
        assert!(matches!(verdicts.outcomes.last(), Some(Outcome::Valid(last)) if last.id == token.id));
        let sent = std::mem::take(&mut *sent.lock().unwrap());
        let planned: Vec<_> =
            sent.iter().filter(|(text, _)| is_planned(text) && !text.contains("pg_")).collect();
        assert!(matches!(planned[..], [(text, 1)] if text.contains("tokens t")), "{planned:?}");
    }
}

/// How often each large table was read from end to end, once every other connection has ended and told of what it did.
async fn scans(db: &Fixture) -> Vec<i64> {
    let others = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = \
                  'client backend' AND pid <> pg_backend_pid()";
    eventually("the end of all connections", async || db.number(others).await == 0).await;
    let mut scans = Vec::new();
    for table in LARGE {
        let of = format!("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'");
        scans.push(db.number(&of).await);
    }
    scans
}

/// Whether a text is a statement that has a plan, and not a setting or the begin of a transaction.
fn is_planned(text: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| text.starts_with(verb))
        && !["sqlite_", "latchkey_migrations", "pragma_"].iter().any(|own| text.contains(own))
}

/// Whether a line of SQLite's plan says that a table is read from end to end, and not what the statement itself has made.
fn reads_all(line: &str, plan: &str, operation: &str) -> bool {
    let Some(scanned) = line.strip_prefix("SCAN ") else { return false };
    let table = scanned.split(' ').next().unwrap_or_default();
    let made = ["CO-ROUTINE", "MATERIALIZE"].map(|how| format!("{how} {table}"));
    let own = plan.lines().any(|line| made.iter().any(|made| line == made))
        || table.starts_with(|first: char| first == '(' || first.is_ascii_digit())
        || table == "CONSTANT";
    let of_an_index = scanned.split_once("INDEX ").is_some_and(|(_, index)| {
        COUNTS_ALL.contains(&operation) || FEW.contains(&index.split(' ').next().unwrap_or_default())
    });
    !(SMALL.contains(&table) || own || of_an_index)
}
