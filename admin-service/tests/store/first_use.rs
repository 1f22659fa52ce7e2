//! The first look-up of a token that succeeds another: from then on it is in use, and no repeated rotation replaces it.

use std::time::Duration;

use latchkey::wire::RefusalReason;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::StoreError;

use crate::rotation::{limit, rotate, valid};
use crate::support::{Fixture, on_both_databases, origin};

on_both_databases![
    a_successor_that_was_looked_up_once_is_in_use_for_every_replica,
    a_look_up_and_a_repeated_rotation_at_once_never_both_succeed,
    a_look_up_writes_the_first_time_that_a_successor_is_presented_and_never_else,
    every_successor_of_one_look_up_is_in_use_when_it_is_answered,
    a_look_up_of_several_tokens_and_a_repeated_rotation_at_once_never_both_succeed,
];

async fn a_successor_that_was_looked_up_once_is_in_use_for_every_replica(db: Fixture) {
    db.user("alice").await;
    let other = db.second_store().await;
    for overlap in ["0s", "1h"] {
        let old = db.token("alice").await;
        let new = rotate(&db, &old, overlap).await.unwrap();
        assert!(matches!(other.verify(new.hash).await.unwrap().outcome, Outcome::Valid(_)));
        let error = db.refused(rotate(&db, &old, overlap)).await;
        assert!(matches!(error, StoreError::TokenRotated(id) if id == new.id), "{error}");
        assert!(db.is_valid(&new).await);
    }
}

async fn a_look_up_and_a_repeated_rotation_at_once_never_both_succeed(db: Fixture) {
    db.user("alice").await;
    limit(&db, 100).await;
    let other = db.second_store().await;
    for _ in 0..30 {
        let old = db.token("alice").await;
        let new = rotate(&db, &old, "0s").await.unwrap();
        let look_ups: Vec<_> = (0..4)
            .map(|_| {
                let (store, hash) = (other.clone(), new.hash);
                tokio::spawn(async move { store.verify(hash).await.unwrap().outcome })
            })
            .collect();
        let repeated = rotate(&db, &old, "0s").await;
        for look_up in look_ups {
            let outcome = look_up.await.unwrap();
            match &repeated {
                Ok(_) => {
                    assert!(matches!(outcome, Outcome::Refused(RefusalReason::Revoked, _)), "{outcome:?}");
                }
                Err(StoreError::TokenRotated(id)) => {
                    assert!(*id == new.id && matches!(outcome, Outcome::Valid(_)), "{outcome:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn a_look_up_writes_the_first_time_that_a_successor_is_presented_and_never_else(db: Fixture) {
    db.user("alice").await;
    let (plain, old) = (db.token("alice").await, db.token("alice").await);
    let new = rotate(&db, &old, "1h").await.unwrap();
    let before = db.everything().await;
    assert_eq!(valid(&db, &[&plain, &old]).await, [true, true]);
    assert_eq!(db.everything().await, before);
    let first = db.now();
    assert!(db.is_valid(&new).await);
    assert_eq!(db.store.token(new.id).await.unwrap().in_use_since, Some(first));
    let before = db.everything().await;
    db.clock.advance(Duration::from_secs(1));
    assert!(db.is_valid(&new).await);
    assert_eq!(db.everything().await, before);
    // One that is refused is not in use by that.
    let replaced = rotate(&db, &plain, "0s").await.unwrap();
    db.store.revoke_token(&origin(), replaced.id).await.unwrap();
    let before = db.everything().await;
    assert!(!db.is_valid(&replaced).await);
    assert_eq!(db.everything().await, before);
}

async fn every_successor_of_one_look_up_is_in_use_when_it_is_answered(db: Fixture) {
    db.user("alice").await;
    let other = db.second_store().await;
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for overlap in ["0s", "1h", "1h"] {
        let token = db.token("alice").await;
        new.push(rotate(&db, &token, overlap).await.unwrap());
        old.push(token);
    }
    let replaced = db.token("alice").await;
    let was_new = rotate(&db, &replaced, "1h").await.unwrap();
    rotate(&db, &replaced, "1h").await.unwrap();
    let hashes: Vec<_> =
        [&new[0], &old[1], &new[1], &was_new, &new[2], &new[0]].map(|token| token.hash).to_vec();
    let at = db.position().await;
    let verdicts = other.verify_all(hashes.try_into().unwrap()).await.unwrap();
    assert_eq!((verdicts.epoch, verdicts.revision), (at.epoch, at.revision));
    for (place, outcome) in verdicts.outcomes.iter().enumerate() {
        assert_eq!(matches!(outcome, Outcome::Valid(_)), place != 3, "{place}: {outcome:?}");
    }
    for (old, new) in old.iter().zip(&new) {
        let error = db.refused(rotate(&db, old, "1h")).await;
        assert!(matches!(error, StoreError::TokenRotated(id) if id == new.id), "{error}");
        assert!(db.is_valid(new).await);
    }
}

async fn a_look_up_of_several_tokens_and_a_repeated_rotation_at_once_never_both_succeed(db: Fixture) {
    db.user("alice").await;
    limit(&db, 100).await;
    let (other, beside) = (db.second_store().await, db.token("alice").await);
    for _ in 0..30 {
        let old = db.token("alice").await;
        let new = rotate(&db, &old, "0s").await.unwrap();
        let hashes = vec![beside.hash, new.hash, old.hash].try_into().unwrap();
        let store = other.clone();
        let look_up = tokio::spawn(async move { store.verify_all(hashes).await.unwrap().outcomes });
        let repeated = rotate(&db, &old, "0s").await;
        let outcomes = look_up.await.unwrap();
        let [Outcome::Valid(_), of_new, Outcome::Refused(RefusalReason::Revoked, _)] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        match repeated {
            Ok(_) => assert!(matches!(of_new, Outcome::Refused(RefusalReason::Revoked, _)), "{of_new:?}"),
            Err(StoreError::TokenRotated(id)) if id == new.id => {
                assert!(matches!(of_new, Outcome::Valid(_)), "{of_new:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
