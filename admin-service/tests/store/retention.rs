//! What is old is forgotten, in batches: changes, though never half a revision as far as any reader can tell, edges that
//! report no more, and hours long past.

use std::time::Duration;

use latchkey::wire::UsageReport;
use latchkey_admin::clock::id_at;
use latchkey_admin::domain::audit::{Action, AuditFilter, Origin};
use latchkey_admin::domain::changes::{PAGE, Position};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::usage::Report;
use latchkey_admin::domain::verdict::Revision;
use latchkey_admin::jobs::{Runner, forget};
use latchkey_admin::store::{Batch, EDGES_RETAINED, HOURS_RETAINED, Holder, Lease, RETAINED, StoreError};
use tokio::sync::oneshot;

use crate::support::{Fixture, eventually, note_changes, on_both_databases};

on_both_databases![
    changes_of_a_day_are_kept_and_older_ones_are_forgotten_in_batches,
    a_clock_that_was_wrong_keeps_nothing_for_ever,
    a_holder_that_lost_its_lease_forgets_nothing,
    edges_of_a_week_and_hours_of_ninety_days_are_kept_and_older_ones_are_forgotten_in_batches,
    an_edge_that_reports_again_is_kept,
    entries_of_the_audit_log_are_kept_as_long_as_asked_and_older_ones_are_deleted_in_batches,
    the_runner_forgets_what_is_old,
    the_runner_deletes_old_entries_of_the_audit_log_when_asked_to_run,
];

const MILLISECOND: Duration = Duration::from_millis(1);

pub fn lease(holder: &str) -> Lease {
    Lease { job: forget::JOB, holder: Holder(holder.to_owned()), lasts: Period::from_millis(10_000) }
}

/// The revisions that a reader may be at, of so many.
async fn known(db: &Fixture, revisions: u64) -> Vec<u64> {
    let here = db.position().await;
    let mut known = Vec::new();
    for revision in 0..=revisions {
        let at = Position { revision: Revision(revision), ..here.clone() };
        if db.store.changes(&at, PAGE).await.unwrap().page.is_some() {
            known.push(revision);
        }
    }
    known
}

async fn changes_of_a_day_are_kept_and_older_ones_are_forgotten_in_batches(db: Fixture) {
    note_changes(&db, 1, &[1, 400, 0, 700], db.now()).await;
    db.clock.advance(MILLISECOND);
    note_changes(&db, 5, &[2, 0, 1], db.now()).await;
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let batch = async || db.store.forget_changes_batch(&held).await.unwrap();
    db.clock.set(RETAINED.after(db.now()));
    db.clock.set(Period::from_millis(2).before(db.now()));
    assert_eq!(batch().await, Batch { deleted: 0, more: false });
    assert_eq!(known(&db, 8).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    db.clock.advance(MILLISECOND);
    // From the first batch on, nobody takes the half of a revision that is left for all of it.
    for deleted in [[100; 11].as_slice(), &[1]].concat() {
        assert_eq!(batch().await, Batch { deleted, more: true });
        assert_eq!(known(&db, 8).await, [4, 5, 6, 7]);
    }
    assert_eq!(batch().await, Batch { deleted: 0, more: false });
    assert_eq!(db.number("SELECT COUNT(*) FROM changes").await, 3);
    db.clock.advance(MILLISECOND);
    assert_eq!(batch().await.deleted, 3);
    assert_eq!(known(&db, 8).await, [7]);
}

async fn a_clock_that_was_wrong_keeps_nothing_for_ever(db: Fixture) {
    let now = db.now();
    note_changes(&db, 1, &[1], Period::from_days(3_650).after(now)).await;
    note_changes(&db, 2, &[1, 1], now).await;
    db.clock.set(RETAINED.after(now));
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    assert_eq!(db.store.forget_changes_batch(&held).await.unwrap().deleted, 3);
    assert_eq!(known(&db, 4).await, [3]);
}

async fn a_holder_that_lost_its_lease_forgets_nothing(db: Fixture) {
    note_changes(&db, 1, &[1], db.now()).await;
    db.clock.set(RETAINED.after(db.now()));
    db.store.acquire_lease(&lease("them")).await.unwrap();
    let refused = db.refused(db.store.forget_changes_batch(&lease("me"))).await;
    assert!(matches!(refused, StoreError::LeaseLost));
    note_usage(&db, 1).await;
    db.clock.set(HOURS_RETAINED.after(db.now()));
    let refused = db.refused(db.store.forget_usage_batch(&lease("me"))).await;
    assert!(matches!(refused, StoreError::LeaseLost));
}

/// Notes so many edges, seen one millisecond after the other from now on, and as many hours, the last of them now.
async fn note_usage(db: &Fixture, count: u32) {
    let now = db.now().as_millisecond();
    for insert in [
        format!("INSERT INTO edges SELECT 'edge-' || CAST(i AS TEXT), 1, {now} + i FROM n"),
        format!("INSERT INTO usage_hours SELECT {now} - i * CAST(3600000 AS BIGINT), 1, 1 FROM n"),
    ] {
        let numbers =
            format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})");
        db.sql(&format!("{numbers} {insert}")).await;
    }
}

async fn edges_of_a_week_and_hours_of_ninety_days_are_kept_and_older_ones_are_forgotten_in_batches(
    db: Fixture,
) {
    note_usage(&db, 702).await;
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let batch = async || db.store.forget_usage_batch(&held).await.unwrap();
    let left = async || {
        let edges = db.number("SELECT COUNT(*) FROM edges").await;
        (edges, db.number("SELECT COUNT(*) FROM usage_hours").await)
    };
    let beginning = db.now();
    db.clock.set(Period::from_millis(1).before(EDGES_RETAINED.after(beginning)));
    assert_eq!(batch().await, Batch { deleted: 0, more: false });
    db.clock.set(Period::from_millis(700).after(EDGES_RETAINED.after(beginning)));
    for (deleted, edges) in
        [(100, 602), (100, 502), (100, 402), (100, 302), (100, 202), (100, 102), (100, 2), (1, 1)]
    {
        assert_eq!(batch().await, Batch { deleted, more: true });
        assert_eq!(left().await, (edges, 702));
    }
    assert_eq!(batch().await, Batch { deleted: 0, more: false });
    db.clock.set(Period::from_millis(1).before(HOURS_RETAINED.after(beginning)));
    for deleted in [101, 100, 100, 100, 100, 100, 100, 1] {
        assert_eq!(batch().await, Batch { deleted, more: true });
    }
    assert_eq!(left().await, (0, 1));
    db.clock.advance(MILLISECOND);
    assert_eq!(batch().await, Batch { deleted: 1, more: true });
    assert_eq!(left().await, (0, 0));
}

async fn an_edge_that_reports_again_is_kept(db: Fixture) {
    let report = |sequence| {
        let report = UsageReport { edge: "a".to_owned(), sequence, usage: Vec::new() };
        Report::try_from(report).unwrap()
    };
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    db.store.count_usage(&report(1)).await.unwrap();
    for sequence in 2..5 {
        db.clock.set(Period::from_millis(1).before(EDGES_RETAINED.after(db.now())));
        db.store.count_usage(&report(sequence)).await.unwrap();
        assert_eq!(db.store.forget_usage_batch(&held).await.unwrap().deleted, 0);
    }
    assert!(!db.store.count_usage(&report(4)).await.unwrap().counted);
}

async fn the_runner_forgets_what_is_old(db: Fixture) {
    note_changes(&db, 1, &[1_203, 1], db.now()).await;
    note_usage(&db, 1).await;
    db.clock.set(HOURS_RETAINED.after(db.now()));
    note_changes(&db, 3, &[1], db.now()).await;
    let (runner, _handle) = Runner::new(db.store.clone(), Holder("me".to_owned()));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(runner.run(async move {
        let _ = stopped.await;
    }));
    eventually("the note of it", async || {
        let done =
            format!("SELECT COUNT(*) FROM jobs WHERE name = '{}' AND last_deleted = 1206", forget::JOB);
        db.number(&done).await == 1
    })
    .await;
    assert_eq!(db.number("SELECT COUNT(*) FROM changes").await, 1);
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM leases").await, 0);
}

/// Adds entries to the audit log, one millisecond after the other from a time on.
async fn add_entries(db: &Fixture, count: u32, first: Timestamp) {
    for n in 0..count {
        let at = Period::from_millis(u64::from(n)).after(first);
        let (id, at) = (id_at(at, [7; 10]), at.as_millisecond());
        db.sql(&format!(
            "INSERT INTO audit (id, at, actor, action, subject, details) \
             VALUES ('{id}', {at}, 'root', 'user.created', 'alice', '{{}}')"
        ))
        .await;
    }
}

async fn entries_of_the_audit_log_are_kept_as_long_as_asked_and_older_ones_are_deleted_in_batches(
    db: Fixture,
) {
    let (first, kept) = (db.now(), Period::from_days(400));
    add_entries(&db, 702, first).await;
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let batch = async || db.store.forget_audit_batch(&held, kept).await.unwrap();
    let left = async || db.number("SELECT COUNT(*) FROM audit").await;
    // The oldest may be older by a day, lest there is an entry of the deletion for each entry that is deleted.
    db.clock.set(Period::from_days(401).after(first));
    assert_eq!((batch().await, left().await), (Batch { deleted: 0, more: false }, 702));
    db.clock.advance(MILLISECOND * 701);
    for deleted in [[100; 7].as_slice(), &[2]].concat() {
        assert_eq!(batch().await, Batch { deleted, more: true });
    }
    assert_eq!(batch().await, Batch { deleted: 0, more: false });
    let all = db.store.audit(&AuditFilter::default(), PageRequest::default()).await.unwrap().items;
    let told: Vec<_> = all
        .iter()
        .map(|entry| (entry.action, entry.subject.as_str(), entry.details["count"].clone()))
        .collect();
    let of = |count: u64| (Action::AuditDeleted, "audit", count.into());
    assert_eq!(told, [[of(2)].as_slice(), &[100; 7].map(of)].concat());
    assert!(all.iter().all(|entry| entry.origin == Origin::scheduler()));
    assert_eq!(all[0].details["older_than"], "2026-01-02T00:00:00.701Z");
}

async fn the_runner_deletes_old_entries_of_the_audit_log_when_asked_to_run(db: Fixture) {
    let (runner, handle) = Runner::new(db.store.clone(), Holder("me".to_owned()));
    let (_stop, stopped) = oneshot::channel::<()>();
    let runner = runner.keeping_audit_for(Some(Period::from_days(30)));
    tokio::spawn(runner.run(async move {
        let _ = stopped.await;
    }));
    // Its first run is over: it has found nothing.
    let ran = async || db.number("SELECT COUNT(*) FROM jobs WHERE name = 'forget'").await == 1;
    eventually("the first run", ran).await;
    add_entries(&db, 3, db.now()).await;
    db.clock.set(Period::from_days(60).after(db.now()));
    handle.run_now(Origin::scheduler()).await.unwrap();
    let gone = async || db.number("SELECT COUNT(*) FROM audit WHERE action = 'user.created'").await == 0;
    eventually("the deletion", gone).await;
}
