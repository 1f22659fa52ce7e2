//! Old changes are forgotten, in batches, and never half a revision as far as any reader can tell.

use std::time::Duration;

use latchkey_admin::domain::changes::{PAGE, Position};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::verdict::Revision;
use latchkey_admin::jobs::{Runner, forget_changes};
use latchkey_admin::store::{Batch, Holder, Lease, RETAINED, StoreError};
use tokio::sync::oneshot;

use crate::support::{Fixture, eventually, note_changes, on_both_databases};

on_both_databases![
    changes_of_a_day_are_kept_and_older_ones_are_forgotten_in_batches,
    a_clock_that_was_wrong_keeps_nothing_for_ever,
    a_holder_that_lost_its_lease_forgets_nothing,
    the_runner_forgets_what_is_old,
];

const MILLISECOND: Duration = Duration::from_millis(1);

fn lease(holder: &str) -> Lease {
    Lease { job: forget_changes::JOB, holder: Holder(holder.to_owned()), lasts: Period::from_millis(10_000) }
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
    for deleted in [500, 500, 101] {
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
}

async fn the_runner_forgets_what_is_old(db: Fixture) {
    note_changes(&db, 1, &[1_203, 1], db.now()).await;
    db.clock.set(RETAINED.after(db.now()));
    note_changes(&db, 3, &[1], db.now()).await;
    let (runner, _handle) = Runner::new(db.store.clone(), Holder("me".to_owned()));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(runner.run(async move {
        let _ = stopped.await;
    }));
    eventually("the note of it", async || {
        let done = format!(
            "SELECT COUNT(*) FROM jobs WHERE name = '{}' AND last_deleted = 1204",
            forget_changes::JOB
        );
        db.number(&done).await == 1
    })
    .await;
    assert_eq!(db.number("SELECT COUNT(*) FROM changes").await, 1);
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM leases").await, 0);
}
