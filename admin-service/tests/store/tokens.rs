//! Tokens: made within the restrictions, read, revoked, deleted once expired.

use std::sync::Arc;
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::{RefusalReason, Scheme};
use latchkey_admin::clock::{Clock, OsEntropy, Sources};
use latchkey_admin::domain::limits::{ExpiryRefusal, TooLong, Whose};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::scope::Scopes;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::{Expiry, Networks, Schemes, TokenId, TokenSpec, TokenStatus};
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::{Batch, Store, StoreError, StoreOptions};
use sqlx::{Connection, Executor};

use crate::support::{Fixture, eventually, name, new_token, on_both_databases, origin, token_of};

on_both_databases![
    a_token_is_read_as_it_was_made,
    a_token_gets_the_longest_lifetime_when_it_asks_for_none,
    a_token_that_would_live_too_long_is_refused,
    a_token_that_would_be_expired_at_once_is_refused,
    the_limit_counts_live_tokens_only,
    no_token_is_made_for_a_disabled_deleted_or_unknown_user,
    a_revoked_token_stays_revoked_as_of_the_first_time,
    a_token_is_refused_from_the_very_millisecond_of_its_expiry,
    an_unknown_hash_and_an_unknown_token_are_told_apart_from_failures,
    deleting_the_expired_tokens_of_a_user_spares_all_others,
    deleting_more_expired_tokens_than_one_batch_deletes_them_all,
    a_deletion_whose_time_is_up_says_how_far_it_came_and_goes_on_when_it_is_repeated,
    a_hundred_thousand_expired_tokens_are_deleted_while_others_write,
];

async fn a_token_is_read_as_it_was_made(db: Fixture) {
    let alice = db.user("alice").await;
    let spec = TokenSpec {
        name: "CI of «Ödegård»".parse().unwrap(),
        description: Some("makes releases".parse().unwrap()),
        schemes: Schemes::new([Scheme::Basic]).unwrap(),
        scopes: Scopes::new(["write".parse().unwrap(), "read".parse().unwrap()]).unwrap(),
        allowed_cidrs: Networks::parse(["10.0.0.0/8", "2001:db8::1"]).unwrap(),
        expiry: Expiry::In(Period::from_days(1)),
    };
    let new = token_of(spec.clone());
    let made = db.store.create_token(&origin(), &alice.name, &new).await.unwrap();
    assert_eq!(db.store.token(made.id).await.unwrap(), made);
    assert_eq!(db.outcome(&made).await, Outcome::Valid(Box::new(made.clone())));
    assert_eq!((made.user, made.user_id), (alice.name, alice.id));
    assert_eq!((made.name, made.description, made.schemes), (spec.name, spec.description, spec.schemes));
    assert_eq!((made.scopes, made.allowed_cidrs), (spec.scopes, spec.allowed_cidrs));
    assert_eq!((made.hash, made.hint), (new.hash, new.hint));
    assert_eq!((made.created_at, made.expires_at), (db.now(), Some(Period::from_days(1).after(db.now()))));
    assert_eq!((made.revoked_at, made.last_used_at), (None, None));
    assert_eq!(db.revision().await, 0, "nobody can hold a verdict on a hash that was just drawn");
}

async fn a_token_gets_the_longest_lifetime_when_it_asks_for_none(db: Fixture) {
    db.user("alice").await;
    assert_eq!(db.token("alice").await.expires_at, Some(Period::from_days(365).after(db.now())));
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = None;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let eternal = db.token("alice").await;
    assert_eq!(eternal.expires_at, None);
    db.clock.advance(Duration::from_secs(86_400 * 36_500));
    assert!(db.is_valid(&eternal).await);
}

async fn a_token_that_would_live_too_long_is_refused(db: Fixture) {
    db.user("alice").await;
    let longest = Period::from_days(365);
    let longer = Period::from_millis(longest.as_millis() + 1);
    for asked in [Expiry::In(longer), Expiry::At(longer.after(db.now())), Expiry::At(Timestamp::MAX)] {
        let error = db.refused(db.store.create_token(&origin(), &name("alice"), &new_token(asked))).await;
        let StoreError::Expiry(refusal) = error else { panic!("{error}") };
        let limit = TooLong { longest, whose: Whose::Service, latest: longest.after(db.now()), asked };
        assert_eq!(refusal, ExpiryRefusal::TooLong(limit));
    }
}

async fn a_token_that_would_be_expired_at_once_is_refused(db: Fixture) {
    db.user("alice").await;
    for asked in [Expiry::At(db.now()), Expiry::At(Timestamp::MIN), Expiry::In(Period::from_millis(0))] {
        let error = db.refused(db.store.create_token(&origin(), &name("alice"), &new_token(asked))).await;
        assert!(matches!(error, StoreError::Expiry(ExpiryRefusal::NotInFuture { .. })), "{error}");
    }
}

async fn the_limit_counts_live_tokens_only(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let soon = Period::from_days(1).after(db.now());
    db.token_until("alice", soon).await;
    let revoked = db.token("alice").await;
    for _ in 0..8 {
        db.token("alice").await;
    }
    db.token("bob").await;
    let alice = name("alice");
    let again = || async { db.store.create_token(&origin(), &alice, &new_token(Expiry::Latest)).await };
    let error = db.refused(again()).await;
    assert!(matches!(error, StoreError::TokenLimitReached { limit: 10, count: 10, .. }), "{error}");
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    again().await.unwrap();
    assert!(matches!(db.refused(again()).await, StoreError::TokenLimitReached { .. }));
    db.clock.set(soon);
    again().await.unwrap();
    assert!(matches!(db.refused(again()).await, StoreError::TokenLimitReached { .. }));
}

async fn no_token_is_made_for_a_disabled_deleted_or_unknown_user(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disable).await.unwrap();
    db.store.delete_user(&origin(), &name("bob")).await.unwrap();
    for (user, expected) in [("alice", "disabled"), ("bob", "deleted"), ("carol", "no user")] {
        let error =
            db.refused(db.store.create_token(&origin(), &name(user), &new_token(Expiry::Latest))).await;
        assert!(error.to_string().contains(expected), "{error}");
    }
}

async fn a_revoked_token_stays_revoked_as_of_the_first_time(db: Fixture) {
    db.user("alice").await;
    let (token, other) = (db.token("alice").await, db.token("alice").await);
    let revoked = db.store.revoke_token(&origin(), token.id).await.unwrap().token;
    assert_eq!((revoked.revoked_at, revoked.status(db.now())), (Some(db.now()), TokenStatus::Revoked));
    assert_eq!(db.denial(&token).await, RefusalReason::Revoked);
    assert!(db.is_valid(&other).await);
    db.clock.advance(Duration::from_secs(60));
    let before = db.everything().await;
    assert_eq!(db.store.revoke_token(&origin(), token.id).await.unwrap().token, revoked);
    assert_eq!(db.everything().await, before);
    assert_eq!(db.revision().await, 1);
}

async fn a_token_is_refused_from_the_very_millisecond_of_its_expiry(db: Fixture) {
    db.user("alice").await;
    let end = Period::from_days(1).after(db.now());
    let token = db.token_until("alice", end).await;
    db.clock.set(Period::from_millis(1).before(end));
    assert!(db.is_valid(&token).await);
    db.clock.set(end);
    assert_eq!(db.denial(&token).await, RefusalReason::Expired);
}

async fn an_unknown_hash_and_an_unknown_token_are_told_apart_from_failures(db: Fixture) {
    let verdict = db.store.verify(TokenHash::of(b"never made")).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Refused(RefusalReason::Unknown, None));
    let id = TokenId(uuid::Uuid::from_u128(7));
    assert!(matches!(db.refused(db.store.token(id)).await, StoreError::TokenNotFound));
    assert!(matches!(db.refused(db.store.revoke_token(&origin(), id)).await, StoreError::TokenNotFound));
}

async fn deleting_the_expired_tokens_of_a_user_spares_all_others(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let soon = Period::from_days(1).after(db.now());
    let expired = [db.token_until("alice", soon).await, db.token_until("alice", soon).await];
    let revoked = db.token_until("alice", soon).await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let spared = [revoked.id, db.token("alice").await.id, db.token_until("bob", soon).await.id];
    assert_eq!(db.delete_expired("alice").await, 0);
    db.clock.set(soon);
    assert_eq!(db.delete_expired("alice").await, 2);
    for token in &expired {
        assert!(matches!(db.store.token(token.id).await, Err(StoreError::TokenNotFound)));
        assert_eq!(db.outcome(token).await, Outcome::Refused(RefusalReason::Unknown, None));
    }
    for id in spared {
        db.store.token(id).await.unwrap();
    }
    let before = db.everything().await;
    assert_eq!(db.delete_expired("alice").await, 0);
    assert_eq!(db.everything().await, before);
}

async fn deleting_more_expired_tokens_than_one_batch_deletes_them_all(db: Fixture) {
    let alice = db.user("alice").await;
    crate::scheduler::insert_expired(&db, &alice, 1_201, db.now()).await;
    db.clock.advance(Duration::from_secs(2));
    let delete = async |most| {
        db.store.delete_expired_of_user(&origin(), &alice.name, most, Duration::MAX).await.unwrap().deleted
    };
    assert_eq!(delete(Some(601)).await, 601);
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 600);
    assert_eq!(delete(None).await, 600);
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 0);
}

// SQLite has one writer at a time, so there no batch is emptied under its deleter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_another_deleter_has_emptied_is_not_the_last() {
    let db = Fixture::postgres().await;
    let alice = db.user("alice").await;
    crate::scheduler::insert_expired(&db, &alice, 700, db.now()).await;
    db.clock.advance(Duration::from_secs(2));
    // Another deleter is about to delete what the first batch chooses, and commits when the batch waits for it.
    let mut other = db.connection().await;
    let mut deletion = other.begin().await.unwrap();
    let first = "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens ORDER BY expires_at, id LIMIT 500)";
    assert_eq!(deletion.execute(first).await.unwrap().rows_affected(), 500);
    let store = db.store.clone();
    let batches = tokio::spawn(async move {
        store.delete_expired_of_user(&origin(), &alice.name, None, Duration::MAX).await
    });
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the batch waits", || async { db.number(waiting).await == 1 }).await;
    deletion.commit().await.unwrap();
    assert_eq!(batches.await.unwrap().unwrap(), Batch { deleted: 200, more: false });
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 0);
}

/// A clock whose every look at the steady one takes a second: time for three batches.
#[derive(Debug)]
struct Hurried(std::sync::atomic::AtomicU64);

impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    fn steady(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
    }
}

async fn a_deletion_whose_time_is_up_says_how_far_it_came_and_goes_on_when_it_is_repeated(db: Fixture) {
    let alice = db.user("alice").await;
    crate::scheduler::insert_expired(&db, &alice, 2_100, db.now()).await;
    let sources = Sources::new(Arc::new(Hurried(0.into())), Arc::new(OsEntropy));
    let store = Store::open(&db.url, StoreOptions::default(), sources).await.unwrap();
    let within = Duration::from_secs(3);
    let mut done = Vec::new();
    loop {
        let before = db.number("SELECT COUNT(*) FROM tokens").await;
        let batch = store.delete_expired_of_user(&origin(), &alice.name, None, within).await.unwrap();
        let left = db.number("SELECT COUNT(*) FROM tokens").await;
        assert_eq!(u64::try_from(before - left).unwrap(), batch.deleted);
        done.push(batch);
        if !batch.more {
            break;
        }
    }
    assert_eq!(done, [Batch { deleted: 1_500, more: true }, Batch { deleted: 600, more: false }]);
    let entries = db.number("SELECT COUNT(*) FROM audit WHERE action = 'tokens.deleted'").await;
    assert_eq!(entries, 5, "one for each batch");
}

async fn a_hundred_thousand_expired_tokens_are_deleted_while_others_write(db: Fixture) {
    let (alice, most) = (db.user("alice").await, 100_000);
    db.user("bob").await;
    crate::scheduler::insert_expired(&db, &alice, most, db.now()).await;
    db.clock.advance(Duration::from_secs(200));
    let store = db.store.clone();
    let deleting = tokio::spawn(async move {
        store.delete_expired_of_user(&origin(), &alice.name, None, Duration::MAX).await.unwrap()
    });
    let (mut writes, mut meanwhile) = (0, 0);
    while !deleting.is_finished() {
        // None of these waits for longer than the store has patience.
        let token = db.token("bob").await;
        db.store.revoke_token(&origin(), token.id).await.unwrap();
        writes += 1;
        meanwhile +=
            i64::from(db.number("SELECT COUNT(*) FROM tokens WHERE expires_at < 1767300000000").await > 0);
    }
    assert_eq!(deleting.await.unwrap(), Batch { deleted: u64::from(most), more: false });
    assert!(meanwhile > 0, "{writes} writes");
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens WHERE expires_at < 1767300000000").await, 0);
}
