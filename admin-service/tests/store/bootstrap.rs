//! The first administrator.

use latchkey_admin::domain::audit::{Actor, AuditFilter};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::scope::Scopes;
use latchkey_admin::domain::token::TokenSpec;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::store::StoreError;

use crate::support::{Fixture, admin_token, name, on_both_databases, origin, token_of};

on_both_databases![
    the_first_administrator_is_made_once,
    of_many_who_try_at_once_one_succeeds,
    an_administrator_who_lost_the_token_gets_another,
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
