//! How the databases go about the store's statements.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use sqlx::Row;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::Fixture;

/// Checks that a statement finds what it needs by indexes.
pub async fn reads_no_table_from_end_to_end(db: &Fixture, text: &str) {
    let plan = plan(db, text).await;
    let reads_all = |line: &str| {
        let scans = ["Seq Scan", "SCAN tokens", "SCAN users", "SCAN u "];
        scans.iter().any(|scan| line.contains(scan)) && !line.contains("INDEX")
    };
    assert!(!plan.lines().any(reads_all), "{text}\n{plan}");
}

/// How the database goes about a statement, whatever the values.
pub async fn plan(db: &Fixture, text: &str) -> String {
    if db.url.to_string().starts_with("sqlite") {
        let rows = db.sql(&format!("EXPLAIN QUERY PLAN {text}")).await;
        return rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
    }
    let values = (1..).take_while(|number| text.contains(&format!("${number}"))).map(|_| "NULL");
    let values = values.collect::<Vec<_>>().join(", ");
    let values = if values.is_empty() { values } else { format!("({values})") };
    db.sql("SET plan_cache_mode = force_generic_plan").await;
    // Of what stands in a list of values alone, PostgreSQL does not see that it is a hash.
    let types =
        if text.contains("(VALUES (0, $1)") { values.replace("NULL", "BYTEA") } else { String::new() };
    db.sql(&format!("PREPARE search{types} AS {text}")).await;
    let rows = db.sql(&format!("EXPLAIN EXECUTE search{values}")).await;
    db.sql("DEALLOCATE search").await;
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

/// The statements that this process has sent, as sqlx tells of them, each with how often.
pub fn statements() -> &'static Mutex<BTreeMap<String, usize>> {
    static STATEMENTS: OnceLock<Mutex<BTreeMap<String, usize>>> = OnceLock::new();
    STATEMENTS.get_or_init(|| {
        tracing::subscriber::set_global_default(Listener).unwrap();
        Mutex::default()
    })
}

/// Hears what sqlx tells.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Statement);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Statement;

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A text that is short is told as its own summary alone.
        let whole = field.name() == "db.statement" || field.name() == "summary" && !value.ends_with('…');
        if whole && !value.is_empty() {
            *statements().lock().unwrap().entry(value.trim().to_owned()).or_default() += 1;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
