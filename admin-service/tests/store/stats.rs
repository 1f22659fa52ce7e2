//! Figures about everything: each row is counted once, however many slices that takes.

use std::time::Duration;

use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::stats::{HourOfRequests, TokenCounts, UserCounts};
use latchkey_admin::domain::user::UserPatch;

use crate::scheduler::insert_expired;
use crate::support::{Fixture, name, on_both_databases, origin};

on_both_databases![
    users_and_tokens_are_counted_by_what_they_are,
    every_token_is_counted_once_however_many_slices_there_are,
    hours_are_listed_from_a_time_on,
];

async fn users_and_tokens_are_counted_by_what_they_are(db: Fixture) {
    let nothing = db.store.counts().await.unwrap();
    assert_eq!((nothing.as_of, nothing.users.total(), nothing.tokens.total()), (db.now(), 0, 0));
    for user in ["alice", "bob", "carol"] {
        db.user(user).await;
    }
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = None;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let week = Period::from_days(7);
    // Alice: one for ever, one to the end of the week, one a millisecond longer, one that is over, one revoked for ever,
    // one revoked and over.
    db.token("alice").await;
    db.token_until("alice", week.after(Period::from_days(1).after(db.now()))).await;
    db.token_until(
        "alice",
        Period::from_millis(week.as_millis() + 1).after(Period::from_days(1).after(db.now())),
    )
    .await;
    db.token_until("alice", Period::from_days(1).after(db.now())).await;
    for token in
        [db.token("alice").await, db.token_until("alice", Period::from_days(1).after(db.now())).await]
    {
        db.store.revoke_token(&origin(), token.id).await.unwrap();
    }
    db.token("bob").await;
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("bob"), &disable).await.unwrap();
    db.store.delete_user(&origin(), &name("carol")).await.unwrap();
    db.clock.advance(Duration::from_secs(86_400));
    let counts = db.store.counts().await.unwrap();
    assert_eq!(counts.users, UserCounts { active: 1, disabled: 1, deleted: 1 });
    assert_eq!(counts.tokens, TokenCounts { active: 4, expired: 1, revoked: 2, expiring: 1 });
    assert_eq!((counts.users.total(), counts.tokens.total(), counts.as_of), (3, 7, db.now()));
}

async fn every_token_is_counted_once_however_many_slices_there_are(db: Fixture) {
    let alice = db.user("alice").await;
    insert_expired(&db, &alice, 90_000, db.now()).await;
    // Half of them all end at the same time, and some never.
    db.sql("UPDATE tokens SET expires_at = 7 WHERE expires_at % 2 = 0").await;
    db.sql("UPDATE tokens SET expires_at = NULL WHERE id > '00000000-0000-7000-8000-100000064998'").await;
    db.sql("UPDATE tokens SET revoked_at = 9 WHERE id > '00000000-0000-7000-8000-100000089997'").await;
    let counts = db.store.counts().await.unwrap();
    let expected = TokenCounts { active: 24_999, expired: 7, revoked: 2, expiring: 0 };
    assert_eq!(counts.tokens.total(), 90_000);
    db.clock.advance(Duration::from_secs(86_400));
    let later = db.store.counts().await.unwrap();
    assert_eq!(later.tokens, TokenCounts { expired: 64_999, ..expected });
}

async fn hours_are_listed_from_a_time_on(db: Fixture) {
    let hour = Period::from_millis(3_600_000);
    let first = db.now();
    let second = hour.after(first);
    for (at, allowed) in [(hour.before(first), 1), (second, 3), (first, 2)] {
        db.sql(&format!("INSERT INTO usage_hours VALUES ({}, {allowed}, 4)", at.as_millisecond())).await;
    }
    let listed = db.store.requests_by_hour(first).await.unwrap();
    let of = |hour, allowed| HourOfRequests { hour, allowed, denied: 4 };
    assert_eq!(listed, [of(first, 2), of(second, 3)]);
}
