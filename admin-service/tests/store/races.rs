//! Limits under a race, within one process and through two.

use latchkey_admin::domain::token::Expiry;
use latchkey_admin::store::{Store, StoreError};
use tokio::task::JoinSet;

use crate::support::{Fixture, name, new_token, on_both_databases, origin};

on_both_databases![
    sixty_four_creates_at_once_against_a_limit_of_ten_give_ten,
    creates_and_revocations_at_once_never_pass_the_limit,
];

async fn create(store: Store) -> Result<(), StoreError> {
    store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await.map(|_| ())
}

async fn sixty_four_creates_at_once_against_a_limit_of_ten_give_ten(db: Fixture) {
    db.user("alice").await;
    let second = db.second_store().await;
    let mut tasks = JoinSet::new();
    for number in 0..64 {
        tasks.spawn(create(if number % 2 == 0 { db.store.clone() } else { second.clone() }));
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, StoreError::TokenLimitReached { limit: 10, count: 10, .. }), "{error:?}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 10);
    assert_eq!(db.number("SELECT COUNT(*) FROM audit WHERE action = 'token.created'").await, 10);
}

async fn creates_and_revocations_at_once_never_pass_the_limit(db: Fixture) {
    db.user("alice").await;
    let second = db.second_store().await;
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(db.token("alice").await);
    }
    let mut tasks = JoinSet::new();
    for token in &tokens {
        tasks.spawn(create(db.store.clone()));
        tasks.spawn(create(second.clone()));
        let (store, id) = (second.clone(), token.id);
        tasks.spawn(async move { store.revoke_token(&origin(), id).await.map(|_| ()) });
    }
    let made = tasks.join_all().await.into_iter().filter(Result::is_ok).count() - tokens.len();
    let live = db.number("SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL").await;
    assert_eq!(usize::try_from(live).unwrap(), made);
    assert!(live <= 10, "{live} live tokens");
    assert_eq!(db.revision().await, 10);
}
