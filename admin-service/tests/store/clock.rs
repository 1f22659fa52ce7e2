//! The clock that the service goes by: jumps stamp a new epoch once, nothing is deleted by a clock in doubt, and on PostgreSQL the
//! database's clock is everybody's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use latchkey_admin::clock::{Clock, Hold, OsEntropy, STEADY, Sources, SystemClock};
use latchkey_admin::domain::audit::Origin;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::Token;
use latchkey_admin::jobs::{Runner, delete_expired};
use latchkey_admin::store::{Holder, Lease, Store, StoreError, StoreOptions, Trigger};

use crate::scheduler::insert_expired;
use crate::support::{Fixture, eventually, name, on_both_databases, origin};

on_both_databases![
    a_jump_in_either_direction_stamps_one_epoch_whoever_notices_it,
    a_clock_that_goes_on_stamps_no_epoch,
    a_clock_that_was_set_between_two_runs_stamps_an_epoch_at_the_start,
    records_of_a_clock_that_was_ahead_stamp_one_epoch_at_the_start,
    seventy_days_ahead_for_a_moment_delete_nothing,
    a_machine_that_was_off_for_months_deletes_after_an_hour,
    nothing_is_pruned_by_a_clock_in_doubt,
];

const DAY: i64 = 86_400_000;

async fn epochs(db: &Fixture) -> i64 {
    db.number("SELECT COUNT(*) FROM audit WHERE action = 'epoch.changed'").await
}

async fn a_jump_in_either_direction_stamps_one_epoch_whoever_notices_it(db: Fixture) {
    let stores = [db.second_store().await, db.second_store().await];
    for store in &stores {
        store.check_clock_at_start().await.unwrap();
        store.look_at_clock().await.unwrap();
    }
    for (number, by) in [(1, DAY), (2, -DAY), (3, 1_500), (4, -1_001)] {
        let before = db.position().await;
        db.clock.jump(by);
        for store in stores.iter().chain(&stores) {
            store.look_at_clock().await.unwrap();
        }
        let after = db.position().await;
        assert_ne!(after.epoch, before.epoch, "{by} ms");
        assert_eq!((after.revision, epochs(&db).await), (before.revision, number), "{by} ms");
    }
    let details =
        db.sql("SELECT details FROM audit WHERE action = 'epoch.changed' ORDER BY at DESC LIMIT 1").await;
    let details: String = sqlx::Row::get(&details[0], 0);
    assert!(details.contains("the clock jumped 86400 s forward"), "{details}");
}

async fn a_clock_that_goes_on_stamps_no_epoch(db: Fixture) {
    let before = db.position().await;
    for step in [1, 3_600, 86_400, 70 * 86_400] {
        db.clock.advance(Duration::from_secs(step));
        db.clock.jump(100);
        db.store.look_at_clock().await.unwrap();
    }
    assert_eq!((db.position().await, db.store.clock_hold()), (before, None));
}

async fn a_clock_that_was_set_between_two_runs_stamps_an_epoch_at_the_start(db: Fixture) {
    db.store.check_clock_at_start().await.unwrap();
    let before = db.position().await;
    db.second_store().await.check_clock_at_start().await.unwrap();
    assert_eq!(db.position().await, before, "the clock is as it was");
    db.clock.jump(DAY);
    let after_jump = db.second_store().await;
    after_jump.check_clock_at_start().await.unwrap();
    assert_ne!(db.position().await.epoch, before.epoch);
    assert_eq!(after_jump.clock_hold(), Some(Hold::Doubted));
    db.second_store().await.check_clock_at_start().await.unwrap();
    assert_eq!(epochs(&db).await, 1, "once");
}

async fn records_of_a_clock_that_was_ahead_stamp_one_epoch_at_the_start(db: Fixture) {
    db.user("alice").await;
    // As after the machine was started again: nothing tells how its clock was set before.
    db.clock.jump(-DAY);
    let stores = [db.second_store().await, db.second_store().await];
    for store in &stores {
        store.check_clock_at_start().await.unwrap();
        store.look_at_clock().await.unwrap();
        assert_eq!(store.clock_hold(), Some(Hold::Doubted));
    }
    assert_eq!(epochs(&db).await, 1);
    db.clock.advance(Duration::from_secs(5_000));
    db.second_store().await.check_clock_at_start().await.unwrap();
    assert_eq!(epochs(&db).await, 1, "those records are known by then");
}

/// Starts what deletes by time, on a store whose clock was looked at before, and lets it see that it is due.
fn start(store: &Store) -> tokio::task::JoinHandle<()> {
    let (runner, _handle) = Runner::new(store.clone(), Holder("me".to_owned()));
    tokio::spawn(runner.run(std::future::pending()))
}

async fn tokens(db: &Fixture) -> i64 {
    db.number("SELECT COUNT(*) FROM tokens").await
}

async fn seventy_days_ahead_for_a_moment_delete_nothing(db: Fixture) {
    db.user("alice").await;
    let token = db.token_until("alice", Period::from_days(30).after(db.now())).await;
    db.store.look_at_clock().await.unwrap();
    db.clock.jump(70 * DAY);
    let runner = start(&db.store);
    eventually("the job notices the jump", || async { epochs(&db).await == 1 }).await;
    let state = db.store.scheduler_state(delete_expired::JOB).await.unwrap();
    assert_eq!(state.held_until(db.now()), Some(db.now().saturating_add(STEADY)));
    assert_eq!(state.next_run_at(db.now()), state.held_until(db.now()));
    assert!(state.doubt.unwrap().1.contains("6048000 s forward"));
    // Nor would a batch that was about to begin when the clock jumped.
    let lease =
        Lease { job: delete_expired::JOB, holder: Holder("other".to_owned()), lasts: Period::from_days(1) };
    db.store.acquire_lease(&lease).await.unwrap();
    let scheduler = Origin::scheduler();
    let batch = db.store.delete_expired_batch(&scheduler, &lease, Trigger::Time);
    assert!(matches!(db.refused(batch).await, StoreError::ClockInDoubt(Hold::Doubted)));
    db.clock.jump(-70 * DAY);
    db.store.look_at_clock().await.unwrap();
    db.clock.advance(STEADY);
    db.store.release_lease(&lease).await.unwrap();
    runner.abort();
    assert!(db.is_valid(&token).await);
    assert_eq!((tokens(&db).await, epochs(&db).await), (1, 2));
}

async fn a_machine_that_was_off_for_months_deletes_after_an_hour(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 3, db.now()).await;
    db.clock.advance(Duration::from_secs(90 * 86_400));
    let store = db.second_store().await;
    store.check_clock_at_start().await.unwrap();
    store.look_at_clock().await.unwrap();
    assert_eq!((store.clock_hold(), epochs(&db).await), (Some(Hold::Doubted), 0));
    db.clock.advance(STEADY - Duration::from_secs(1));
    store.look_at_clock().await.unwrap();
    assert_eq!(store.clock_hold(), Some(Hold::Doubted));
    db.clock.advance(Duration::from_secs(1));
    let runner = start(&store);
    eventually("the tokens are deleted", || async { tokens(&db).await == 0 }).await;
    runner.abort();
}

async fn nothing_is_pruned_by_a_clock_in_doubt(db: Fixture) {
    db.user("alice").await;
    let lease = Lease { job: "forget", holder: Holder("me".to_owned()), lasts: Period::from_days(1) };
    db.store.look_at_clock().await.unwrap();
    db.store.acquire_lease(&lease).await.unwrap();
    db.clock.jump(500 * DAY);
    let kept = Period::from_days(400);
    for refused in [
        db.refused(db.store.forget_changes_batch(&lease)).await,
        db.refused(db.store.forget_usage_batch(&lease)).await,
        db.refused(db.store.forget_audit_batch(&lease, kept)).await,
    ] {
        assert!(matches!(refused, StoreError::ClockInDoubt(_)), "{refused:?}");
    }
}

/// The machine's clock, which the test sets, and a steady clock that the test can let differ: to the store, the database's clock
/// then seems to be set.
#[derive(Debug, Default)]
struct Moved {
    machine: AtomicI64,
    steady: AtomicI64,
}

/// Before every time that it is set back by, the steady clock has gone on for so long, in milliseconds.
const STEADY_BEGINNING: i64 = 1_000_000_000;

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now().as_millisecond() + self.machine.load(Ordering::SeqCst);
        Timestamp::from_millisecond(now).unwrap()
    }

    fn steady(&self) -> Duration {
        let by = STEADY_BEGINNING + self.steady.load(Ordering::SeqCst);
        SystemClock.steady() + Duration::from_millis(u64::try_from(by).unwrap())
    }

    fn yields_to_database(&self) -> bool {
        true
    }
}

/// A replica of its own machine.
async fn replica(db: &Fixture, ahead_ms: i64) -> (Arc<Moved>, Store) {
    let clock = Arc::new(Moved { machine: AtomicI64::new(ahead_ms), ..Moved::default() });
    let sources = Sources::new(clock.clone(), Arc::new(OsEntropy));
    let store = Store::open(&db.url, StoreOptions::default(), sources).await.unwrap();
    store.look_at_clock().await.unwrap();
    (clock, store)
}

fn apart(one: Timestamp, other: Timestamp) -> i64 {
    (one.as_millisecond() - other.as_millisecond()).abs()
}

/// How far two readings may be apart on a busy machine.
const BUSY: i64 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_machines_are_five_minutes_apart_go_by_the_databases_clock() {
    let db = Fixture::postgres().await;
    db.user("alice").await;
    let (_, right) = replica(&db, 0).await;
    let (clock, ahead) = replica(&db, 300_000).await;
    assert!(apart(right.sources().now(), ahead.sources().now()) < BUSY);
    let skew = ahead.sources().ahead_of_database().as_millis();
    assert!((270_000..330_000).contains(&skew), "{skew}");
    assert!(matches!(ahead.clock_hold(), Some(Hold::Apart(_))));
    assert!(right.sources().ahead_of_database().as_millis().abs() < 30_000);
    // A token with two minutes to live is active at both.
    let end = Period::from_millis(120_000).after(right.sources().now());
    let token: Token = right
        .create_token(
            &origin(),
            &name("alice"),
            &crate::support::new_token(latchkey_admin::domain::token::Expiry::At(end)),
        )
        .await
        .unwrap();
    for store in [&right, &ahead] {
        let outcome = store.verify(token.hash).await.unwrap().outcome;
        assert!(matches!(outcome, latchkey_admin::domain::verdict::Outcome::Valid(_)), "{outcome:?}");
    }
    // What happens to the machine's clock between two measurements is of no consequence.
    clock.machine.store(86_400_000, Ordering::SeqCst);
    assert!(apart(right.sources().now(), ahead.sources().now()) < BUSY);
    clock.machine.store(0, Ordering::SeqCst);
    ahead.look_at_clock().await.unwrap();
    assert_eq!((ahead.clock_hold(), epochs(&db).await), (None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_clock_is_set_back_stamps_one_epoch_for_all_replicas() {
    let db = Fixture::postgres().await;
    let (one, two) = (replica(&db, 0).await, replica(&db, 0).await);
    let before = db.position().await;
    for (clock, store) in [&one, &two, &one, &two] {
        clock.steady.store(86_400_000, Ordering::SeqCst);
        store.look_at_clock().await.unwrap();
    }
    assert_ne!(db.position().await.epoch, before.epoch);
    assert_eq!(epochs(&db).await, 1);
    for (_, store) in [&one, &two] {
        assert_eq!(store.clock_hold(), Some(Hold::Doubted));
        assert!(apart(store.sources().now(), SystemClock.now()) < BUSY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_of_a_new_epoch_is_by_a_clock_that_was_measured_since() {
    let db = Fixture::postgres().await;
    let (_, one) = replica(&db, 0).await;
    let (clock, late) = replica(&db, 0).await;
    // To this replica the database's clock has moved a day back, and it has yet to look.
    clock.steady.store(86_400_000, Ordering::SeqCst);
    assert!(apart(late.sources().now(), SystemClock.now()) > 80_000_000);
    let verdict = late.verify(latchkey::token::TokenHash::of(b"any")).await.unwrap();
    assert!(apart(late.sources().now(), SystemClock.now()) > 80_000_000, "no epoch tells of it");
    one.replace_epoch(&verdict.epoch).await.unwrap();
    late.verify(latchkey::token::TokenHash::of(b"any")).await.unwrap();
    assert!(apart(late.sources().now(), SystemClock.now()) < BUSY);
}
