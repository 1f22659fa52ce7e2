//! The first administrator.

use std::time::Duration;

use latchkey_admin::domain::audit::{Actor, AuditFilter};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::scope::Scopes;
use latchkey_admin::domain::token::TokenSpec;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::feed::{Outcome, Unanswered};
use latchkey_admin::store::StoreError;

use crate::feed::{LONG, ask, start};
use crate::support::{Fixture, admin_token, eventually, name, on_both_databases, origin, token_of};
use crate::usage::{report, used};

on_both_databases![
    the_first_administrator_is_made_once,
    of_many_who_try_at_once_one_succeeds,
    an_administrator_who_lost_the_token_gets_another,
    a_database_that_never_had_an_administrator_says_nothing_of_tokens_until_it_has_one,
    the_first_token_of_an_administrator_counts_however_it_is_made,
];

async fn the_first_administrator_is_made_once(db: Fixture) {
    // A scope that only looks alike makes no administrator.
    db.user("mallory").await;
    let scopes = ["latchkey:administrator", "not-latchkey:admin", "LATCHKEY:ADMIN"]
        .map(|scope| scope.parse().unwrap());
    let spec =
        TokenSpec { scopes: Scopes::new(scopes).unwrap(), ..TokenSpec::named("test".parse().unwrap()) };
    db.store.create_token(&origin(), &name("mallory"), &token_of(spec)).await.unwrap();
    let token = db.store.bootstrap(&name("admin"), &admin_token()).await.unwrap();
    assert!(token.scopes.is_admin() && db.is_valid(&token).await);
    assert!(db.store.user(&name("admin")).await.unwrap().active);
    let filter = AuditFilter { actor: Some(Actor::Bootstrap), ..AuditFilter::default() };
    assert_eq!(db.store.audit(&filter, PageRequest::default()).await.unwrap().items.len(), 2);
    let other = name("other");
    let again = db.refused(db.store.bootstrap(&other, &admin_token())).await;
    assert!(matches!(again, StoreError::AdminExists));
}

async fn of_many_who_try_at_once_one_succeeds(db: Fixture) {
    let second = db.second_store().await;
    let tries = (0..8).map(|number| {
        let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
        tokio::spawn(async move { store.bootstrap(&name(&format!("admin{number}")), &admin_token()).await })
    });
    let tries: Vec<_> = tries.collect();
    let mut made = 0;
    for one in tries {
        match one.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::AdminExists), "{error}"),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM users").await, 1);
}

async fn an_administrator_who_lost_the_token_gets_another(db: Fixture) {
    let lost = db.store.bootstrap(&name("admin"), &admin_token()).await.unwrap();
    db.store.revoke_token(&origin(), lost.id).await.unwrap();
    let found = db.store.bootstrap(&name("admin"), &admin_token()).await.unwrap();
    assert_eq!(found.user_id, lost.user_id);
    // Nor does the token of a disabled user make an administrator, and a disabled user gets no token.
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("admin"), &disable).await.unwrap();
    let admin = name("admin");
    let disabled = db.refused(db.store.bootstrap(&admin, &admin_token())).await;
    assert!(matches!(disabled, StoreError::UserDisabled(_)));
    db.store.bootstrap(&name("second"), &admin_token()).await.unwrap();
}

/// As a new database is that was made by accident, in the place of one that knows these tokens.
async fn a_database_that_never_had_an_administrator_says_nothing_of_tokens_until_it_has_one(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let before = db.position().await;
    db.note_bootstrapped(false).await;
    let (feed, _trigger) = start(&db.store);
    let report = report("vm-1", 1, vec![used(token.id, 1, 0, 0)]);
    for _ in 0..2 {
        for error in [
            db.refused(db.store.verify(token.hash)).await,
            db.refused(db.store.ping()).await,
            db.refused(db.store.standing()).await,
            db.refused(db.store.changes(&before, 1)).await,
            db.refused(db.store.count_usage(&report)).await,
        ] {
            assert!(matches!(error, StoreError::NotBootstrapped), "{error}");
        }
    }
    eventually("those who follow are told", async || {
        matches!(feed.answer(Some(&before), Duration::ZERO).await, Err(Unanswered::NotBootstrapped))
    })
    .await;
    assert!(matches!(feed.answer(None, LONG).await, Err(Unanswered::NotBootstrapped)));

    // By another process, as the command is.
    let admin = db.second_store().await.bootstrap(&name("admin"), &admin_token()).await.unwrap();
    assert!(db.is_valid(&admin).await && db.is_valid(&token).await);
    eventually("the feed goes on", async || feed.answer(Some(&before), Duration::ZERO).await.is_ok()).await;
    assert_eq!(ask(&feed, Some(&before), Duration::ZERO).await.0, Outcome::Timeout);
    // One who was there is enough.
    db.store.revoke_token(&origin(), admin.id).await.unwrap();
    assert!(db.is_valid(&token).await);
}

async fn the_first_token_of_an_administrator_counts_however_it_is_made(db: Fixture) {
    db.note_bootstrapped(false).await;
    db.user("alice").await;
    db.token("alice").await;
    assert!(matches!(db.store.ping().await, Err(StoreError::NotBootstrapped)));
    db.store.create_token(&origin(), &name("alice"), &admin_token()).await.unwrap();
    db.store.ping().await.unwrap();
}
