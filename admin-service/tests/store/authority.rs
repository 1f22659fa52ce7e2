//! A change that was asked for with a token which is no longer good when its transaction begins.

use std::time::Duration;

use latchkey_admin::domain::audit::Origin;
use latchkey_admin::domain::authority::Beyond;
use latchkey_admin::domain::scope::{ADMIN, TOKENS};
use latchkey_admin::domain::token::{Expiry, Token, TokenSpec};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user::{NewUser, UserPatch};
use latchkey_admin::store::StoreError;

use crate::rotation::rotation;
use crate::support::{Fixture, by, name, networks, new_token, on_both_databases, origin, scopes, token_of};

on_both_databases![
    every_change_looks_at_the_token_again_that_it_is_asked_for_with,
    a_token_that_lost_the_scope_or_the_network_that_a_change_needs_changes_nothing,
    a_token_gives_no_scopes_and_no_networks_that_it_has_lost_meanwhile,
    a_token_may_revoke_itself_and_disable_its_user,
    a_revocation_and_creates_by_the_revoked_token_at_once_leave_no_token_made_after_it,
];

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
    let patch = TokenPatch { name: Some("other".parse().unwrap()), ..TokenPatch::default() };
    for token in [&revoked, &expired, &of_disabled] {
        let by = by(token);
        let refusals = [
            db.refused(db.store.create_user(&by, &bob)).await,
            db.refused(db.store.update_user(&by, &alice, &disable)).await,
            db.refused(db.store.delete_user(&by, &alice)).await,
            db.refused(db.store.create_token(&by, &alice, &new)).await,
            db.refused(db.store.revoke_token(&by, victim.id)).await,
            db.refused(db.store.update_token(&by, victim.id, &patch)).await,
            db.refused(db.store.rotate_token(&by, victim.id, &rotation("0s", None))).await,
            db.refused(db.store.delete_expired_of_user(&by, &alice, None, Duration::MAX)).await,
            db.refused(db.store.put_restrictions(&by, &restrictions)).await,
        ];
        for refusal in refusals {
            assert!(matches!(refusal, StoreError::CallerRefused), "{refusal}");
        }
    }
}

/// A token of alice with scopes, that may be used from where [`origin`] is.
async fn holder(db: &Fixture, held: &[&str]) -> Token {
    let spec = TokenSpec {
        scopes: scopes(held),
        allowed_cidrs: networks(&["192.0.2.0/24"]),
        ..TokenSpec::named("holder".parse().unwrap())
    };
    db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap()
}

async fn a_token_that_lost_the_scope_or_the_network_that_a_change_needs_changes_nothing(db: Fixture) {
    db.user("alice").await;
    let admin = holder(&db, &[ADMIN]).await;
    let needs = |scope| Origin { permitted_by: Some(scope), ..by(&admin) };
    db.store.create_user(&needs(ADMIN), &NewUser::named(name("bob"))).await.unwrap();
    let narrow = TokenPatch { scopes: Some(scopes(&[TOKENS])), ..TokenPatch::default() };
    db.store.update_token(&needs(ADMIN), admin.id, &narrow).await.unwrap();
    let refused = db.refused(db.store.create_user(&needs(ADMIN), &NewUser::named(name("carol")))).await;
    assert!(matches!(refused, StoreError::CallerLacks(ADMIN)), "{refused}");
    let new =
        token_of(TokenSpec { allowed_cidrs: networks(&["192.0.2.7"]), ..new_token(Expiry::Latest).spec });
    db.store.create_token(&needs(TOKENS), &name("alice"), &new).await.unwrap();
    let elsewhere = TokenPatch { allowed_cidrs: Some(networks(&["192.0.2.8"])), ..TokenPatch::default() };
    db.store.update_token(&needs(TOKENS), admin.id, &elsewhere).await.unwrap();
    let refused = db.refused(db.store.revoke_token(&needs(TOKENS), admin.id)).await;
    assert!(matches!(refused, StoreError::CallerRefused), "{refused}");
}

async fn a_token_gives_no_scopes_and_no_networks_that_it_has_lost_meanwhile(db: Fixture) {
    db.user("alice").await;
    let holder = holder(&db, &[TOKENS, "read", "write"]).await;
    let create = |held: &[&str], bound: &[&str]| {
        let spec = TokenSpec {
            scopes: scopes(held),
            allowed_cidrs: networks(bound),
            ..new_token(Expiry::Latest).spec
        };
        let (store, by) = (db.store.clone(), by(&holder));
        async move { store.create_token(&by, &name("alice"), &token_of(spec)).await }
    };
    create(&["read", "write"], &["192.0.2.0/24"]).await.unwrap();
    let narrow = TokenPatch {
        scopes: Some(scopes(&[TOKENS, "read"])),
        allowed_cidrs: Some(networks(&["192.0.2.7"])),
        ..TokenPatch::default()
    };
    db.store.update_token(&origin(), holder.id, &narrow).await.unwrap();
    let refused = db.refused(create(&["read", "write"], &["192.0.2.7"])).await;
    assert!(
        matches!(&refused, StoreError::Beyond(Beyond::Scopes(lacking)) if lacking.len() == 1),
        "{refused}"
    );
    let refused = db.refused(create(&["read"], &["192.0.2.0/24"])).await;
    assert!(matches!(refused, StoreError::Beyond(Beyond::Networks(_))), "{refused}");
    create(&["read"], &["192.0.2.7"]).await.unwrap();
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
