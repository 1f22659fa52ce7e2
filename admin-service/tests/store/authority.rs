//! A change that was asked for with a token which is no longer good when its transaction begins.

use std::time::Duration;

use latchkey_admin::domain::audit::{Actor, Origin};
use latchkey_admin::domain::token::{Expiry, Token};
use latchkey_admin::domain::user::{NewUser, UserPatch};
use latchkey_admin::store::StoreError;

use crate::support::{Fixture, name, new_token, on_both_databases, origin};

on_both_databases![
    every_change_looks_at_the_token_again_that_it_is_asked_for_with,
    a_token_may_revoke_itself_and_disable_its_user,
    a_revocation_and_creates_by_the_revoked_token_at_once_leave_no_token_made_after_it,
];

/// The origin of what is asked for with a token.
fn by(token: &Token) -> Origin {
    Origin { actor: Actor::User(token.user.clone()), token_id: Some(token.id), ..origin() }
}

async fn every_change_looks_at_the_token_again_that_it_is_asked_for_with(db: Fixture) {
    for user in ["admin", "alice", "disabled"] {
        db.user(user).await;
    }
    let (revoked, of_disabled) = (db.token("admin").await, db.token("disabled").await);
    let victim = db.token("alice").await;
    let expired = db.token_until("admin", db.now() + Duration::from_secs(1)).await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &of_disabled.user, &disable).await.unwrap();
    db.clock.advance(Duration::from_secs(1));
    let restrictions = db.store.restrictions().await.unwrap();
    let (alice, bob) = (name("alice"), NewUser::named(name("bob")));
    let new = new_token(Expiry::Latest);
    for token in [&revoked, &expired, &of_disabled] {
        let by = by(token);
        let refusals = [
            db.refused(db.store.create_user(&by, &bob)).await,
            db.refused(db.store.update_user(&by, &alice, &disable)).await,
            db.refused(db.store.delete_user(&by, &alice)).await,
            db.refused(db.store.create_token(&by, &alice, &new)).await,
            db.refused(db.store.revoke_token(&by, victim.id)).await,
            db.refused(db.store.delete_expired_of_user(&by, &alice)).await,
            db.refused(db.store.put_restrictions(&by, &restrictions)).await,
        ];
        for refusal in refusals {
            assert!(matches!(refusal, StoreError::CallerRefused), "{refusal}");
        }
    }
}

async fn a_token_may_revoke_itself_and_disable_its_user(db: Fixture) {
    db.user("alice").await;
    let (first, second) = (db.token("alice").await, db.token("alice").await);
    db.store.revoke_token(&by(&first), first.id).await.unwrap();
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&by(&second), &name("alice"), &disable).await.unwrap();
    assert!(!db.is_valid(&first).await && !db.is_valid(&second).await);
}

async fn a_revocation_and_creates_by_the_revoked_token_at_once_leave_no_token_made_after_it(db: Fixture) {
    let other = db.second_store().await;
    for round in 0..20 {
        let user = format!("user{round}");
        db.user(&user).await;
        let token = db.token(&user).await;
        let creates: Vec<_> = (0..4)
            .map(|_| {
                let (store, by, user) = (other.clone(), by(&token), name(&user));
                tokio::spawn(async move { store.create_token(&by, &user, &new_token(Expiry::Latest)).await })
            })
            .collect();
        db.store.revoke_token(&origin(), token.id).await.unwrap();
        let made_before = db.number("SELECT COUNT(*) FROM tokens").await;
        for create in creates {
            match create.await.unwrap() {
                Ok(_) | Err(StoreError::CallerRefused) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, made_before, "made after the revocation");
    }
}
