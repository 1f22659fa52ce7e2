//! Restrictions that are applied to what exists: which tokens expire sooner, and how that is done in batches.

use std::time::Duration;

use latchkey_admin::domain::audit::{Action, AuditFilter};
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::restrictions::Restrictions;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::{Expiry, Token};
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use latchkey_admin::store::{Shortened, StoreError};

use crate::history::changes;
use crate::rotation::rotation;
use crate::support::{Fixture, admin_token, by, name, new_token, on_both_databases, origin};

on_both_databases![
    active_tokens_get_the_expiry_that_is_allowed_from_when_they_were_made,
    users_with_a_lifetime_of_their_own_go_by_theirs,
    many_are_shortened_in_batches_that_can_be_repeated,
    nobody_ends_the_token_that_asks,
];

const DAY: Duration = Duration::from_secs(86_400);

async fn lifetime(db: &Fixture, days: Option<u32>) -> Restrictions {
    let restrictions = db.store.restrictions().await.unwrap();
    Restrictions { max_lifetime: days.map(Period::from_days), max_tokens_per_user: None, ..restrictions }
}

async fn put(db: &Fixture, days: Option<u32>) -> Restrictions {
    let wanted = lifetime(db, days).await;
    db.store.put_restrictions(&origin(), &wanted).await.unwrap()
}

async fn end(db: &Fixture, token: &Token) -> Option<Timestamp> {
    db.store.token(token.id).await.unwrap().expires_at
}

async fn active_tokens_get_the_expiry_that_is_allowed_from_when_they_were_made(db: Fixture) {
    put(&db, None).await;
    db.user("alice").await;
    let days = |days| Some(Period::from_days(days).after(db.now()));
    let (old, short) = (db.token("alice").await, db.token_until("alice", days(8).unwrap()).await);
    let revoked = db.token("alice").await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let over = db.token_until("alice", days(2).unwrap()).await;
    let overlapped = db.token("alice").await;
    let long_ago = db.now();
    db.clock.advance(6 * DAY);
    let (eternal, long) = (db.token("alice").await, db.token_until("alice", days(365).unwrap()).await);
    let successor = db.store.rotate_token(&origin(), overlapped.id, &rotation("10d", None)).await.unwrap();
    let wanted = lifetime(&db, Some(5)).await;
    let before = db.everything().await;
    let would = db.store.would_shorten(&wanted).await.unwrap();
    assert_eq!(would.counts, Shortened { tokens: 6, at_once: 3 });
    assert_eq!(db.everything().await, before, "a dry run changed something");
    let example = would.examples.iter().find(|(token, _)| token.id == long.id).unwrap();
    assert_eq!((example.0.expires_at, Some(example.1)), (long.expires_at, days(5)));

    db.store.put_restrictions_for_existing_tokens(&origin(), &wanted).await.unwrap();
    let revision = db.revision().await;
    let done = db.store.shorten_existing_tokens(&origin()).await.unwrap();
    assert_eq!(done, would.counts);
    // Made longer ago than is allowed: they end now, and no sooner.
    for token in [&old, &short, &overlapped] {
        assert_eq!(end(&db, token).await, Some(db.now()));
        assert!(!db.is_valid(token).await);
    }
    for token in [&eternal, &long, &successor] {
        assert_eq!(end(&db, token).await, days(5));
        assert!(db.is_valid(token).await);
    }
    assert_eq!(end(&db, &revoked).await, None);
    assert_eq!(end(&db, &over).await, Some(Period::from_days(2).after(long_ago)));
    assert_eq!(db.revision().await, revision + 1);
    let touched = &changes(&db).await[&i64::try_from(revision + 1).unwrap()];
    let all = [&old, &short, &overlapped, &eternal, &long, &successor];
    assert_eq!(*touched, all.iter().map(|token| token.hash.as_bytes().to_vec()).collect());
    let filter = AuditFilter { subject: Some(long.id.into()), ..AuditFilter::default() };
    let entry = db.store.audit(&filter, PageRequest::default()).await.unwrap().items.remove(0);
    assert_eq!((entry.action, entry.origin), (Action::TokenUpdated, origin()));
    let expected = serde_json::json!({
        "user": "alice", "hint": long.hint, "because": "restrictions",
        "before": {"expires_at": long.expires_at}, "after": {"expires_at": days(5)},
    });
    assert_eq!(entry.details, expected);
    // Repeated, it finds nothing.
    let before = db.everything().await;
    assert_eq!(db.store.shorten_existing_tokens(&origin()).await.unwrap(), Shortened::default());
    assert_eq!(db.everything().await, before);
}

async fn users_with_a_lifetime_of_their_own_go_by_theirs(db: Fixture) {
    put(&db, None).await;
    let own = |days: Option<u32>| UserRestrictions {
        max_lifetime: Some(days.map(Period::from_days)),
        ..UserRestrictions::default()
    };
    let mut tokens = Vec::new();
    for (user, own) in [("plain", None), ("tight", Some(own(Some(2)))), ("free", Some(own(None)))] {
        db.user(user).await;
        tokens.push(db.token(user).await);
        if let Some(own) = own {
            db.store.put_user_restrictions(&origin(), &name(user), &own).await.unwrap();
        }
    }
    let wanted = put(&db, Some(5)).await;
    let would = db.store.would_shorten(&wanted).await.unwrap();
    assert_eq!((would.counts.tokens, would.examples.len()), (2, 2));
    assert_eq!(db.store.shorten_existing_tokens(&origin()).await.unwrap(), would.counts);
    let days = |days| Some(Period::from_days(days).after(db.now()));
    for (token, expected) in tokens.iter().zip([days(5), days(2), None]) {
        assert_eq!(end(&db, token).await, expected, "{}", token.user);
    }
    // Without a limit for everyone, those of users hold all the same.
    put(&db, None).await;
    db.store.put_user_restrictions(&origin(), &name("tight"), &own(Some(1))).await.unwrap();
    assert_eq!(db.store.shorten_existing_tokens(&origin()).await.unwrap().tokens, 1);
    assert_eq!(end(&db, &tokens[1]).await, days(1));
}

async fn many_are_shortened_in_batches_that_can_be_repeated(db: Fixture) {
    put(&db, None).await;
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    for (number, user) in ["a", "b", "c"].iter().enumerate() {
        let (id, now) = (db.user(user).await.id, db.now().as_millisecond());
        db.sql(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 120) INSERT INTO tokens \
             (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at) SELECT \
             '00000000-0000-7000-800{number}-' || CAST(100000000000 + i AS TEXT), '{id}', \
             CAST('token of user {user} number ' || CAST(100000000 + i AS TEXT) AS {bytes}), 'many', 'lk_abcd', 'bearer', \
             '', '', {now} FROM n"
        ))
        .await;
    }
    let (admin, revision) = (db.user("admin").await, db.revision().await);
    let admin = db.store.create_token(&origin(), &admin.name, &admin_token()).await.unwrap();
    put(&db, Some(5)).await;
    let done = db.store.shorten_existing_tokens(&by(&admin)).await.unwrap();
    assert_eq!(done, Shortened { tokens: 361, at_once: 0 });
    assert!(db.revision().await >= revision + 4, "in one batch");
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens WHERE expires_at IS NULL").await, 0);
    let filter = AuditFilter { action: Some(Action::TokenUpdated), ..AuditFilter::default() };
    let page = PageRequest { limit: Limit::new(200).unwrap(), cursor: None };
    let first = db.store.audit(&filter, page).await.unwrap();
    let next = PageRequest { limit: page.limit, cursor: first.next_cursor };
    let second = db.store.audit(&filter, next).await.unwrap();
    assert_eq!(first.items.len() + second.items.len(), 361);
    // Broken off in the middle, the rest is done by repeating it.
    db.sql("UPDATE tokens SET expires_at = NULL WHERE id LIKE '%7'").await;
    let left = db.number("SELECT COUNT(*) FROM tokens WHERE expires_at IS NULL").await;
    let again = db.store.shorten_existing_tokens(&by(&admin)).await.unwrap();
    assert_eq!(i64::try_from(again.tokens).unwrap(), left);
    db.store.revoke_token(&origin(), admin.id).await.unwrap();
    db.sql("UPDATE tokens SET expires_at = NULL").await;
    let refused = db.refused(db.store.shorten_existing_tokens(&by(&admin))).await;
    assert!(matches!(refused, StoreError::CallerRefused), "{refused}");
}

async fn nobody_ends_the_token_that_asks(db: Fixture) {
    let admin = db.user("admin").await;
    let old = db.store.create_token(&origin(), &admin.name, &admin_token()).await.unwrap();
    let made = db.now();
    db.clock.advance(5 * DAY);
    let new = db.store.create_token(&origin(), &admin.name, &new_token(Expiry::Latest)).await.unwrap();
    let wanted = lifetime(&db, Some(5)).await;
    let refused = db.refused(db.store.put_restrictions_for_existing_tokens(&by(&old), &wanted)).await;
    let expected = (made, Period::from_days(5));
    assert!(
        matches!(refused, StoreError::CallerWouldExpire { made, most } if (made, most) == expected),
        "{refused}"
    );
    db.store.put_restrictions_for_existing_tokens(&by(&new), &wanted).await.unwrap();
    assert_eq!(db.store.shorten_existing_tokens(&by(&new)).await.unwrap().tokens, 2);
    assert!(!db.is_valid(&old).await && db.is_valid(&new).await);
}
