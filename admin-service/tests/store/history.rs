//! The history: revisions with no gaps, every changed verdict among them, and verdicts that know their revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Outcome;
use sqlx::Row;

use crate::support::{Fixture, name, on_both_databases, origin};

on_both_databases![
    revisions_have_no_gaps_however_many_write_at_once,
    a_change_of_a_user_names_its_live_tokens_and_no_others,
    a_verdict_never_claims_a_revision_that_it_does_not_know,
    an_epoch_stays_the_same_when_the_database_is_opened_again,
];

/// The token hashes of each revision.
pub async fn changes(db: &Fixture) -> BTreeMap<i64, BTreeSet<Vec<u8>>> {
    let mut changes = BTreeMap::<i64, BTreeSet<Vec<u8>>>::new();
    for row in db.sql("SELECT revision, token_hash FROM changes").await {
        changes.entry(row.get(0)).or_default().insert(row.get(1));
    }
    changes
}

async fn revisions_have_no_gaps_however_many_write_at_once(db: Fixture) {
    let second = db.second_store().await;
    let mut tokens = Vec::new();
    for user in 0..4 {
        db.user(&format!("user{user}")).await;
        for _ in 0..5 {
            tokens.push(db.token(&format!("user{user}")).await);
        }
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (number, token) in tokens.iter().enumerate() {
        let (store, token) = (if number % 2 == 0 { db.store.clone() } else { second.clone() }, token.clone());
        tasks.spawn(async move {
            if number % 5 == 0 {
                let disable = UserPatch { active: Some(false), ..UserPatch::default() };
                store.update_user(&origin(), &token.user, &disable).await.unwrap();
            } else {
                store.revoke_token(&origin(), token.id).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let changes = changes(&db).await;
    let revision = i64::try_from(db.revision().await).unwrap();
    assert_eq!(changes.keys().copied().collect::<Vec<_>>(), (1..=revision).collect::<Vec<_>>());
    let touched: BTreeSet<_> = changes.into_values().flatten().collect();
    assert_eq!(touched, tokens.iter().map(|token| token.hash.as_bytes().to_vec()).collect());
}

async fn a_change_of_a_user_names_its_live_tokens_and_no_others(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let soon = latchkey_admin::domain::period::Period::from_days(1).after(db.now());
    let live = [db.token("alice").await, db.token("alice").await];
    let revoked = db.token("alice").await;
    db.token_until("alice", soon).await;
    db.token("bob").await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    db.clock.set(soon);
    let set = |active| UserPatch { active: Some(active), ..UserPatch::default() };
    let alice = name("alice");
    db.store.update_user(&origin(), &alice, &set(false)).await.unwrap();
    db.store.update_user(&origin(), &alice, &set(true)).await.unwrap();
    db.store.delete_user(&origin(), &alice).await.unwrap();
    let changes = changes(&db).await;
    let hashes: BTreeSet<_> = live.iter().map(|token| token.hash.as_bytes().to_vec()).collect();
    assert_eq!(changes.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!((2..=4).all(|revision| changes[&revision] == hashes));
    // No verdict changes with a user who has no live token.
    db.user("carol").await;
    db.store.delete_user(&origin(), &name("carol")).await.unwrap();
    assert_eq!(db.revision().await, 4);
}

async fn a_verdict_never_claims_a_revision_that_it_does_not_know(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, hash, done) = (db.store.clone(), token.hash, Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let verdict = store.verify(hash).await.unwrap();
                    seen.push((verdict.revision.0, matches!(verdict.outcome, Outcome::Valid(_))));
                }
                seen
            })
        })
        .collect();
    for step in 1..=40 {
        let toggle = UserPatch { active: Some(step % 2 == 0), ..UserPatch::default() };
        db.store.update_user(&origin(), &name("alice"), &toggle).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(db.revision().await, 40);
    for reader in readers {
        for (revision, valid) in reader.await.unwrap() {
            assert_eq!(valid, revision % 2 == 0, "at revision {revision}");
        }
    }
}

async fn an_epoch_stays_the_same_when_the_database_is_opened_again(db: Fixture) {
    let epoch = db.store.position().await.unwrap().epoch;
    let again = db.second_store().await.position().await.unwrap().epoch;
    assert_eq!(epoch, again);
    assert!(!epoch.0.is_empty());
}
