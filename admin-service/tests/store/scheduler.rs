//! The scheduler: what is due is deleted once, nothing else is, and one replica at a time does it.

use std::collections::BTreeSet;
use std::time::Duration;

use latchkey_admin::domain::audit::{Action, Actor, AuditFilter, Origin};
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::restrictions::{DeleteExpired, Restrictions};
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::user::User;
use latchkey_admin::jobs::{RunError, Runner, RunnerHandle, delete_expired};
use latchkey_admin::store::{Batch, Holder, Lease, Store, StoreError, Trigger};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Fixture, eventually, name, on_both_databases, origin};

on_both_databases![
    what_is_due_is_deleted_and_nothing_else,
    revoked_tokens_and_deleted_users_are_pruned_when_their_time_has_come_and_not_before,
    everyone_sees_how_far_a_run_has_come,
    a_run_on_demand_is_recorded_as_done_by_who_asked,
    a_disabled_scheduler_runs_on_demand_only,
    a_change_of_the_restrictions_wakes_the_scheduler,
    a_holder_that_lost_its_lease_deletes_nothing,
    a_lease_is_one_replicas_until_it_ends,
    a_lease_from_a_clock_that_was_set_back_is_nobodys,
    a_runner_that_ends_gives_its_lease_back,
    a_failed_run_says_so,
];

const DAY: Duration = Duration::from_secs(86_400);

/// Inserts tokens of a user that expire one millisecond after the other, from `first` on.
pub async fn insert_expired(db: &Fixture, user: &User, count: u32, first: Timestamp) {
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    let (id, at) = (user.id, first.as_millisecond());
    db.sql(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) \
         INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at) \
         SELECT '00000000-0000-7000-8000-' || CAST(100000000000 + i AS TEXT), '{id}', \
         CAST('expired token number' || CAST(100000000000 + i AS TEXT) AS {bytes}), 'expired', 'lk_abcd', 'bearer', '', \
         '', 0, {at} + i FROM n"
    ))
    .await;
}

fn lease(holder: &str) -> Lease {
    Lease { job: delete_expired::JOB, holder: Holder(holder.to_owned()), lasts: Period::from_millis(10_000) }
}

/// Starts a runner; the sender ends it.
fn start(store: &Store, holder: &str) -> (RunnerHandle, oneshot::Sender<()>, JoinHandle<()>) {
    let (runner, handle) = Runner::new(store.clone(), Holder(holder.to_owned()));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(runner.run(async move {
        let _ = stopped.await;
    }));
    (handle, stop, task)
}

async fn disable(db: &Fixture) -> Restrictions {
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.delete_expired.enabled = false;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap()
}

/// The identifiers of all tokens that the audit log says were deleted, each as often as it says so.
async fn deleted(db: &Fixture) -> Vec<String> {
    let filter = AuditFilter { action: Some(Action::TokensDeleted), ..AuditFilter::default() };
    let page = PageRequest { limit: Limit::new(200).unwrap(), cursor: None };
    let entries = db.store.audit(&filter, page).await.unwrap();
    assert_eq!(entries.next_cursor, None);
    let ids = entries.items.iter().flat_map(|entry| entry.details["token_ids"].as_array().unwrap().clone());
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

async fn what_is_due_is_deleted_and_nothing_else(db: Fixture) {
    let alice = db.user("alice").await;
    let first = db.now();
    let revoked = db.token_until("alice", Period::from_millis(5).after(first)).await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let live = db.token("alice").await;
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = None;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let eternal = db.token("alice").await;
    db.store.revoke_token(&origin(), eternal.id).await.unwrap();
    insert_expired(&db, &alice, 1_203, first).await;
    // All but the last two have been expired for thirty days.
    db.clock.set(Period::from_millis(1_200).after(Period::from_days(30).after(first)));
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let mut batches = Vec::new();
    loop {
        let batch = db.store.delete_expired_batch(&Origin::scheduler(), &held, Trigger::Time).await.unwrap();
        batches.push(batch.deleted);
        if !batch.more {
            break;
        }
    }
    let full = [100; 12];
    // The last one never expires, and was revoked thirty days ago.
    assert_eq!(batches, [&full[..], &[2, 1, 0]].concat());
    db.store.finish_run(&held, 1_203, None).await.unwrap();
    let state = db.store.scheduler_state(delete_expired::JOB).await.unwrap();
    assert_eq!((state.last_run_at, state.last_deleted), (Some(db.now()), Some(1_203)));
    assert_eq!((state.last_error, state.holder), (None, None));
    let ids = deleted(&db).await;
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (1_203, 1_203));
    assert!(ids.contains(&revoked.id.to_string()) && ids.contains(&eternal.id.to_string()));
    assert!(db.is_valid(&live).await);
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 3);
}

/// Runs the job to its end.
async fn run(db: &Fixture) -> u64 {
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let mut deleted = 0;
    delete_all(db, &held, &mut deleted).await;
    db.store.finish_run(&held, deleted, None).await.unwrap();
    deleted
}

async fn delete_all(db: &Fixture, held: &Lease, deleted: &mut u64) {
    loop {
        let batch = db.store.delete_expired_batch(&Origin::scheduler(), held, Trigger::Time).await.unwrap();
        *deleted += batch.deleted;
        if !batch.more {
            return;
        }
    }
}

async fn revoked_tokens_and_deleted_users_are_pruned_when_their_time_has_come_and_not_before(db: Fixture) {
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = None;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    for user in ["alice", "gone", "bare", "later"] {
        db.user(user).await;
    }
    // Of alice one that was revoked, one that was and expires in a year, and one that never ends.
    let (revoked, eternal) = (db.token("alice").await, db.token("alice").await);
    let dated = db.token_until("alice", Period::from_days(365).after(db.now())).await;
    let of_gone = [db.token("gone").await, db.token_until("gone", dated.expires_at.unwrap()).await];
    for token in [&revoked, &dated] {
        db.store.revoke_token(&origin(), token.id).await.unwrap();
    }
    for user in ["gone", "bare"] {
        db.store.delete_user(&origin(), &name(user)).await.unwrap();
    }
    db.clock.advance(Duration::from_millis(1));
    db.store.delete_user(&origin(), &name("later")).await.unwrap();
    db.clock.advance(30 * DAY - Duration::from_millis(2));
    assert_eq!(run(&db).await, 0, "a millisecond too soon");
    db.clock.advance(Duration::from_millis(1));
    assert_eq!(run(&db).await, 5);
    for token in [&revoked, &of_gone[0], &of_gone[1]] {
        assert!(matches!(db.store.token(token.id).await, Err(StoreError::TokenNotFound)));
    }
    assert!(db.is_valid(&eternal).await && db.store.token(dated.id).await.is_ok());
    for (user, is_there) in [("alice", true), ("gone", false), ("bare", false), ("later", true)] {
        assert_eq!(db.store.user(&name(user)).await.is_ok(), is_there, "{user}");
    }
    let filter = AuditFilter { action: Some(Action::UsersPruned), ..AuditFilter::default() };
    let entries = db.store.audit(&filter, PageRequest::default()).await.unwrap().items;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].details, serde_json::json!({"count": 2, "users": ["gone", "bare"]}));
    let ids = deleted(&db).await;
    let expected = [&revoked, &of_gone[0], &of_gone[1]].map(|token| token.id.to_string());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), expected.iter().collect());
    // The name is free again, for somebody else.
    db.user("gone").await;
    assert!(db.tokens_of("gone").await.is_empty());
}

async fn everyone_sees_how_far_a_run_has_come(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 150, db.now()).await;
    db.clock.advance(31 * DAY);
    let other = db.second_store().await;
    let so_far = async || other.scheduler_state(delete_expired::JOB).await.unwrap().deleted_so_far;
    let held = lease("me");
    for _ in 0..2 {
        assert_eq!(so_far().await, None);
        db.store.acquire_lease(&held).await.unwrap();
        assert_eq!(so_far().await, Some(0));
        let batch = db.store.delete_expired_batch(&Origin::scheduler(), &held, Trigger::Time).await.unwrap();
        assert_eq!(so_far().await, Some(batch.deleted));
        // A run that is begun again by the same holder begins at 0 too.
        db.store.acquire_lease(&held).await.unwrap();
        assert_eq!(so_far().await, Some(0));
        db.store.finish_run(&held, batch.deleted, None).await.unwrap();
    }
}

async fn a_run_on_demand_is_recorded_as_done_by_who_asked(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 3, db.now()).await;
    disable(&db).await;
    db.clock.advance(31 * DAY);
    let (handle, _stop, _task) = start(&db.store, "me");
    assert_eq!(handle.run_now(origin()).await.unwrap().deleted, 3);
    assert_eq!(handle.run_now(origin()).await.unwrap().deleted, 0);
    let filter = AuditFilter { action: Some(Action::TokensDeleted), ..AuditFilter::default() };
    let entries = db.store.audit(&filter, PageRequest::default()).await.unwrap().items;
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0].origin, entries[0].subject.as_str()), (&origin(), "scheduler"));
    assert_eq!(entries[0].details["count"], 3);
}

async fn a_disabled_scheduler_runs_on_demand_only(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 3, db.now()).await;
    db.clock.advance(31 * DAY);
    disable(&db).await;
    let state = db.store.scheduler_state(delete_expired::JOB).await.unwrap();
    assert_eq!(state.next_run_at(db.now()), None);
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    let by_time = db.store.delete_expired_batch(&Origin::scheduler(), &held, Trigger::Time).await.unwrap();
    assert_eq!(by_time, Batch { deleted: 0, more: false });
    let on_demand = db.store.delete_expired_batch(&origin(), &held, Trigger::Demand).await.unwrap();
    assert_eq!(on_demand.deleted, 3);
}

async fn a_change_of_the_restrictions_wakes_the_scheduler(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 3, db.now()).await;
    db.clock.advance(DAY);
    let (handle, _stop, _task) = start(&db.store, "me");
    // It has run, and found nothing that has been expired for thirty days.
    handle.run_now(origin()).await.unwrap();
    let half_an_hour = Period::from_millis(1_800_000);
    db.clock.advance(half_an_hour.into());
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.delete_expired =
        DeleteExpired { enabled: true, after: Period::from_days(1), every: half_an_hour };
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    eventually("the deletion", async || deleted(&db).await.len() == 3).await;
    let state = async || db.store.scheduler_state(delete_expired::JOB).await.unwrap();
    eventually("the note of it", async || state().await.last_deleted == Some(3)).await;
    assert_eq!(state().await.next_run_at(db.now()), Some(half_an_hour.after(db.now())));
}

async fn a_holder_that_lost_its_lease_deletes_nothing(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 3, db.now()).await;
    db.clock.advance(31 * DAY);
    let (mine, theirs) = (lease("me"), lease("them"));
    db.store.acquire_lease(&mine).await.unwrap();
    db.clock.advance(Duration::from_secs(10));
    db.store.acquire_lease(&theirs).await.unwrap();
    let batch = db.refused(db.store.delete_expired_batch(&Origin::scheduler(), &mine, Trigger::Time)).await;
    assert!(matches!(batch, StoreError::LeaseLost));
    let finish = db.refused(db.store.finish_run(&mine, 3, None)).await;
    assert!(matches!(finish, StoreError::LeaseLost));
    db.store.release_lease(&mine).await.unwrap();
    let batch = db.store.delete_expired_batch(&Origin::scheduler(), &theirs, Trigger::Time).await.unwrap();
    assert_eq!(batch.deleted, 3);
}

async fn a_lease_is_one_replicas_until_it_ends(db: Fixture) {
    let (mine, theirs) = (lease("me"), lease("them"));
    db.store.acquire_lease(&mine).await.unwrap();
    let held = db.refused(db.store.acquire_lease(&theirs)).await;
    assert!(matches!(held, StoreError::LeaseLost));
    db.clock.advance(Duration::from_millis(9_999));
    db.store.acquire_lease(&mine).await.unwrap();
    db.clock.advance(Duration::from_millis(9_999));
    let held = db.refused(db.store.acquire_lease(&theirs)).await;
    assert!(matches!(held, StoreError::LeaseLost));
    let holder = db.store.scheduler_state(delete_expired::JOB).await.unwrap().holder;
    assert_eq!(holder, Some(mine.holder));
    db.clock.advance(Duration::from_millis(1));
    assert_eq!(db.store.scheduler_state(delete_expired::JOB).await.unwrap().holder, None);
    db.store.acquire_lease(&theirs).await.unwrap();
    let holder = db.store.scheduler_state(delete_expired::JOB).await.unwrap().holder;
    assert_eq!(holder, Some(theirs.holder));
}

async fn a_lease_from_a_clock_that_was_set_back_is_nobodys(db: Fixture) {
    let before = db.now();
    db.clock.advance(DAY);
    db.store.acquire_lease(&lease("gone")).await.unwrap();
    db.clock.set(before);
    db.store.acquire_lease(&lease("me")).await.unwrap();
}

async fn a_runner_that_ends_gives_its_lease_back(db: Fixture) {
    disable(&db).await;
    let (handle, stop, task) = start(&db.store, "me");
    db.store.acquire_lease(&lease("me")).await.unwrap();
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM leases").await, 0);
    assert!(matches!(handle.run_now(origin()).await, Err(RunError::Ending)));
}

async fn a_failed_run_says_so(db: Fixture) {
    let held = lease("me");
    db.store.acquire_lease(&held).await.unwrap();
    db.store.finish_run(&held, 500, Some("the database cannot be used now")).await.unwrap();
    let state = db.store.scheduler_state(delete_expired::JOB).await.unwrap();
    assert_eq!(state.last_error.as_deref(), Some("the database cannot be used now"));
    assert_eq!(state.next_run_at(db.now()), Some(Period::from_millis(60_000).after(db.now())));
}

/// Twenty thousand expired tokens, some live ones, and a scheduler that is to wait for somebody to ask.
async fn twenty_thousand() -> Fixture {
    let db = Fixture::postgres().await;
    let alice = db.user("alice").await;
    let first = db.now();
    insert_expired(&db, &alice, 20_000, first).await;
    db.clock.advance(31 * DAY);
    for _ in 0..10 {
        db.token("alice").await;
    }
    db
}

async fn assert_each_was_deleted_once(db: &Fixture) {
    let ids = deleted(db).await;
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (20_000, 20_000));
    let live = "SELECT COUNT(*) FROM tokens WHERE name = 'test'";
    assert_eq!((db.number(live).await, db.number("SELECT COUNT(*) FROM tokens").await), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_over_twenty_thousand_expired_tokens_delete_each_once() {
    let db = twenty_thousand().await;
    let second = db.second_store().await;
    let runners = [start(&db.store, "one"), start(&second, "two")];
    let left = async || db.number("SELECT COUNT(*) FROM tokens").await;
    eventually("the end of the deletion", async || {
        // Both also run on demand all the while.
        for (handle, ..) in &runners {
            match handle.run_now(Origin::scheduler()).await {
                Ok(_) | Err(RunError::Running { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        left().await == 10
    })
    .await;
    assert_each_was_deleted_once(&db).await;
    let by_scheduler = AuditFilter { actor: Some(Actor::Scheduler), ..AuditFilter::default() };
    let page = PageRequest { limit: Limit::new(200).unwrap(), cursor: None };
    assert_eq!(db.store.audit(&by_scheduler, page).await.unwrap().items.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_dies_in_the_middle_is_followed_by_another() {
    let db = twenty_thousand().await;
    let second = db.second_store().await;
    let (_handle, _stop, task) = start(&db.store, "doomed");
    let left = async || db.number("SELECT COUNT(*) FROM tokens").await;
    eventually("the first batch", async || left().await < 20_010).await;
    // As with a process that is killed, nothing of it runs any more and the lease stays.
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(left().await > 10, "it was over before it was aborted");
    let (handle, _stop, _task) = start(&second, "heir");
    let refused = handle.run_now(Origin::scheduler()).await.unwrap_err();
    assert!(matches!(refused, RunError::Running { holder: Some(Holder(name)) } if name == "doomed"));
    db.clock.advance(Duration::from_secs(10));
    handle.run_now(Origin::scheduler()).await.unwrap();
    assert_each_was_deleted_once(&db).await;
}
