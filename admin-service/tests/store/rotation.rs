//! Tokens that succeed each other: at most one live successor, nothing lost where an answer was, and exact limits.

use std::time::Duration;

use latchkey_admin::domain::audit::{Action, AuditFilter, Origin};
use latchkey_admin::domain::authority::Beyond;
use latchkey_admin::domain::limits::{ExpiryRefusal, TooLong, Whose};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::rotation::Rotation;
use latchkey_admin::domain::token::{Expiry, Token, TokenId, TokenSpec, TokenStatus};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::store::{Store, StoreError};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::history::changes;
use crate::support::{Fixture, by, name, networks, new_token, on_both_databases, origin, scopes, token_of};

on_both_databases![
    a_rotated_token_ends_now_and_its_successor_is_as_it_was,
    with_an_overlap_both_work_until_it_ends,
    an_overlapped_token_is_not_counted_and_its_successor_is,
    repeating_a_rotation_replaces_a_successor_that_was_not_used,
    a_successor_that_is_in_use_is_not_replaced,
    of_tokens_that_succeed_each_other_two_work_at_most,
    a_successor_that_was_revoked_is_followed_by_another_within_the_limit,
    a_token_that_has_ended_otherwise_is_not_rotated,
    nobody_gets_a_secret_for_more_than_they_hold,
    a_successor_lives_no_longer_than_is_allowed,
    an_overlap_is_not_prolonged,
    a_rotation_is_recorded_with_both_tokens,
    many_rotations_at_once_leave_one_live_successor,
    rotations_creates_and_revocations_at_once_never_pass_the_limit,
];

pub fn rotation(overlap: &str, expires_in: Option<Period>) -> Rotation {
    let new = new_token(Expiry::Latest);
    Rotation { overlap: overlap.parse().unwrap(), expires_in, hash: new.hash, hint: new.hint }
}

pub async fn rotate_as(
    store: &Store,
    origin: &Origin,
    id: TokenId,
    overlap: &str,
) -> Result<Token, StoreError> {
    store.rotate_token(origin, id, &rotation(overlap, None)).await
}

pub async fn rotate(db: &Fixture, old: &Token, overlap: &str) -> Result<Token, StoreError> {
    rotate_as(&db.store, &origin(), old.id, overlap).await
}

/// Notes that a token was used, as a report of an edge does.
async fn used(db: &Fixture, token: &Token) {
    let now = db.now().as_millisecond();
    db.sql(&format!("UPDATE tokens SET last_used_at = {now} WHERE id = '{}'", token.id)).await;
}

pub async fn valid(db: &Fixture, tokens: &[&Token]) -> Vec<bool> {
    let mut valid = Vec::new();
    for token in tokens {
        valid.push(db.is_valid(token).await);
    }
    valid
}

pub async fn limit(db: &Fixture, most: u32) {
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_tokens_per_user = Some(most);
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
}

async fn a_rotated_token_ends_now_and_its_successor_is_as_it_was(db: Fixture) {
    db.user("alice").await;
    let spec = TokenSpec {
        description: Some("for the build".parse().unwrap()),
        scopes: scopes(&["read"]),
        allowed_cidrs: networks(&["10.0.0.0/8"]),
        expiry: Expiry::In(Period::from_days(30)),
        ..TokenSpec::named("ci".parse().unwrap())
    };
    let old = db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap();
    db.clock.advance(Duration::from_secs(86_400));
    let new = rotate(&db, &old, "0s").await.unwrap();
    assert_eq!(db.store.token(new.id).await.unwrap(), new);
    let expected = Token {
        id: new.id,
        hash: new.hash,
        hint: new.hint.clone(),
        created_at: db.now(),
        expires_at: Some(Period::from_days(30).after(db.now())),
        rotated_from: Some(old.id),
        ..old.clone()
    };
    assert_eq!(new, expected);
    assert!(new.id > old.id && new.hash != old.hash);
    assert_eq!(valid(&db, &[&old, &new]).await, [false, true]);
    let ended = db.store.token(old.id).await.unwrap();
    assert_eq!((ended.status(db.now()), ended.revoked_at), (TokenStatus::Revoked, Some(db.now())));
    assert_eq!(db.revision().await, 1);
    assert_eq!(changes(&db).await[&1], [old.hash.as_bytes().to_vec()].into());
}

async fn with_an_overlap_both_work_until_it_ends(db: Fixture) {
    db.user("alice").await;
    let old = db.token("alice").await;
    let new = rotate(&db, &old, "1h").await.unwrap();
    assert_eq!(db.revision().await, 1, "edges hold a verdict that lasts for longer");
    assert_eq!(valid(&db, &[&old, &new]).await, [true, true]);
    db.clock.advance(Duration::from_secs(3_600));
    assert_eq!(valid(&db, &[&old, &new]).await, [false, true]);
    assert_eq!(db.store.token(old.id).await.unwrap().status(db.now()), TokenStatus::Expired);
    assert_eq!(db.delete_expired("alice").await, 1);
    assert_eq!(valid(&db, &[&old, &new]).await, [false, true]);
    // One that would have ended before the overlap ends as it would have: no verdict changes.
    let soon = db.token_until("alice", Period::from_millis(60_000).after(db.now())).await;
    let before = db.revision().await;
    rotate(&db, &soon, "1h").await.unwrap();
    assert_eq!(db.store.token(soon.id).await.unwrap().expires_at, soon.expires_at);
    assert_eq!(db.revision().await, before);
}

async fn an_overlapped_token_is_not_counted_and_its_successor_is(db: Fixture) {
    db.user("alice").await;
    limit(&db, 2).await;
    let (first, second) = (db.token("alice").await, db.token("alice").await);
    rotate(&db, &first, "1h").await.unwrap();
    rotate(&db, &second, "1h").await.unwrap();
    let touched = db.store.touched_by(&db.store.restrictions().await.unwrap()).await.unwrap();
    assert_eq!((touched.over_max_tokens.users, touched.over_max_tokens.tokens), (0, 0));
    let create =
        || async { db.store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await };
    let error = db.refused(create()).await;
    assert!(matches!(error, StoreError::TokenLimitReached { limit: 2, count: 2, .. }), "{error}");
    // Who has more tokens than are allowed since the limit was lowered can still rotate them.
    limit(&db, 1).await;
    let third = db.tokens_of("alice").await;
    rotate(&db, &third[3], "0s").await.unwrap();
    // All of a user's tokens end with the user, overlapped ones too.
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disable).await.unwrap();
    let revision = i64::try_from(db.revision().await).unwrap();
    assert!(changes(&db).await[&revision].contains(first.hash.as_bytes().as_slice()));
}

async fn repeating_a_rotation_replaces_a_successor_that_was_not_used(db: Fixture) {
    db.user("alice").await;
    for overlap in ["0s", "1h"] {
        let old = db.token("alice").await;
        let lost = rotate(&db, &old, overlap).await.unwrap();
        db.clock.advance(Duration::from_secs(60));
        let before = db.revision().await;
        let new = rotate(&db, &old, overlap).await.unwrap();
        assert_eq!(valid(&db, &[&old, &lost, &new]).await, [overlap == "1h", false, true]);
        assert_eq!(new.rotated_from, Some(old.id));
        assert_eq!(
            new.expires_at,
            Some(Period::from_days(365).after(db.now())),
            "not as short as the overlap"
        );
        assert_eq!(db.revision().await, before + 1);
        let touched = &changes(&db).await[&i64::try_from(before + 1).unwrap()];
        assert!(touched.contains(lost.hash.as_bytes().as_slice()));
    }
    // Even after the overlap.
    let old = db.token("alice").await;
    let lost = rotate(&db, &old, "1s").await.unwrap();
    db.clock.advance(Duration::from_secs(60));
    let new = rotate(&db, &old, "1s").await.unwrap();
    assert_eq!(valid(&db, &[&old, &lost, &new]).await, [false, false, true]);
}

async fn a_successor_that_is_in_use_is_not_replaced(db: Fixture) {
    db.user("alice").await;
    for overlap in ["0s", "1h"] {
        let old = db.token("alice").await;
        let new = rotate(&db, &old, overlap).await.unwrap();
        used(&db, &new).await;
        let error = db.refused(rotate(&db, &old, overlap)).await;
        assert!(matches!(error, StoreError::TokenRotated(id) if id == new.id), "{error}");
        let newer = rotate(&db, &new, overlap).await.unwrap();
        let error = db.refused(rotate(&db, &old, overlap)).await;
        assert!(matches!(error, StoreError::TokenRotated(id) if id == new.id), "{error}");
        assert!(db.is_valid(&newer).await);
    }
}

async fn of_tokens_that_succeed_each_other_two_work_at_most(db: Fixture) {
    db.user("alice").await;
    let mut tokens = vec![db.token("alice").await];
    for _ in 0..4 {
        let before = db.revision().await;
        tokens.push(rotate(&db, tokens.last().unwrap(), "30d").await.unwrap());
        assert_eq!(db.revision().await, before + 1);
    }
    let tokens: Vec<&Token> = tokens.iter().collect();
    assert_eq!(valid(&db, &tokens).await, [false, false, false, true, true]);
}

async fn a_successor_that_was_revoked_is_followed_by_another_within_the_limit(db: Fixture) {
    db.user("alice").await;
    limit(&db, 1).await;
    let old = db.token("alice").await;
    let new = rotate(&db, &old, "1h").await.unwrap();
    db.store.revoke_token(&origin(), new.id).await.unwrap();
    let other = db.token("alice").await;
    let error = db.refused(rotate(&db, &old, "1h")).await;
    assert!(matches!(error, StoreError::TokenLimitReached { limit: 1, count: 1, .. }), "{error}");
    db.store.revoke_token(&origin(), other.id).await.unwrap();
    let again = rotate(&db, &old, "1h").await.unwrap();
    assert_eq!(valid(&db, &[&old, &new, &again]).await, [true, false, true]);
    db.store.revoke_token(&origin(), again.id).await.unwrap();
    db.store.revoke_token(&origin(), old.id).await.unwrap();
    let error = db.refused(rotate(&db, &old, "1h")).await;
    assert!(matches!(error, StoreError::TokenNotActive(TokenStatus::Revoked)), "{error}");
}

async fn a_token_that_has_ended_otherwise_is_not_rotated(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let soon = Period::from_days(1).after(db.now());
    let (expired, revoked) = (db.token_until("alice", soon).await, db.token("alice").await);
    let (of_disabled, of_deleted) = (db.token("alice").await, db.token("bob").await);
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    db.store.delete_user(&origin(), &name("bob")).await.unwrap();
    db.clock.set(soon);
    for (token, status) in [(&expired, TokenStatus::Expired), (&revoked, TokenStatus::Revoked)] {
        let error = db.refused(rotate(&db, token, "1h")).await;
        assert!(matches!(error, StoreError::TokenNotActive(found) if found == status), "{error}");
    }
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disable).await.unwrap();
    assert!(matches!(db.refused(rotate(&db, &of_disabled, "1h")).await, StoreError::UserDisabled(_)));
    assert!(matches!(db.refused(rotate(&db, &of_deleted, "1h")).await, StoreError::UserDeleted(_)));
    let nothing = Token { id: TokenId(uuid::Uuid::from_u128(7)), ..of_disabled };
    assert!(matches!(db.refused(rotate(&db, &nothing, "1h")).await, StoreError::TokenNotFound));
}

async fn nobody_gets_a_secret_for_more_than_they_hold(db: Fixture) {
    db.user("alice").await;
    let make = async |held: &[&str], bound: &[&str]| {
        let spec = TokenSpec {
            scopes: scopes(held),
            allowed_cidrs: networks(bound),
            ..new_token(Expiry::Latest).spec
        };
        db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap()
    };
    let caller = make(&["read"], &["192.0.2.0/24"]).await;
    let stronger = make(&["read", "latchkey:admin"], &["192.0.2.7"]).await;
    let wider = make(&["read"], &[]).await;
    let weaker = make(&[], &["192.0.2.7"]).await;
    let error = db.refused(rotate_as(&db.store, &by(&caller), stronger.id, "1h")).await;
    assert!(matches!(error, StoreError::Beyond(Beyond::Scopes(_))), "{error}");
    let error = db.refused(rotate_as(&db.store, &by(&caller), wider.id, "1h")).await;
    assert!(matches!(error, StoreError::Beyond(Beyond::Networks(_))), "{error}");
    for token in [&weaker, &caller] {
        rotate_as(&db.store, &by(&caller), token.id, "1h").await.unwrap();
    }
    rotate_as(&db.store, &by(&stronger), wider.id, "1h").await.unwrap();
}

async fn a_successor_lives_no_longer_than_is_allowed(db: Fixture) {
    db.user("alice").await;
    let old = db.token("alice").await;
    let mut restrictions = db.store.restrictions().await.unwrap();
    let longest = Period::from_days(7);
    restrictions.max_lifetime = Some(longest);
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let asked = rotation("1h", Some(Period::from_days(8)));
    let error = db.refused(db.store.rotate_token(&origin(), old.id, &asked)).await;
    let StoreError::Expiry(refusal) = error else { panic!("{error}") };
    let (latest, asked) = (longest.after(db.now()), Expiry::In(Period::from_days(8)));
    assert_eq!(refusal, ExpiryRefusal::TooLong(TooLong { longest, whose: Whose::Service, latest, asked }));
    assert_eq!(rotate(&db, &old, "1h").await.unwrap().expires_at, Some(longest.after(db.now())));
    let asked = rotation("1h", Some(Period::from_days(2)));
    let new = db.store.rotate_token(&origin(), old.id, &asked).await.unwrap();
    assert_eq!(new.expires_at, Some(Period::from_days(2).after(db.now())));
}

async fn an_overlap_is_not_prolonged(db: Fixture) {
    db.user("alice").await;
    let old = db.token("alice").await;
    rotate(&db, &old, "1h").await.unwrap();
    let ends_at = Some(Period::from_millis(3_600_000).after(db.now()));
    rotate(&db, &old, "2h").await.unwrap();
    let later = TokenPatch { expiry: Some(Expiry::Latest), ..TokenPatch::default() };
    let error = db.refused(db.store.update_token(&origin(), old.id, &later)).await;
    assert!(matches!(error, StoreError::Expiry(ExpiryRefusal::Rotated { .. })), "{error}");
    assert_eq!(db.store.token(old.id).await.unwrap().expires_at, ends_at);
    rotate(&db, &old, "0s").await.unwrap();
    rotate(&db, &old, "2h").await.unwrap();
    assert!(!db.is_valid(&old).await);
}

async fn a_rotation_is_recorded_with_both_tokens(db: Fixture) {
    db.user("alice").await;
    let old = db.token("alice").await;
    let lost = rotate(&db, &old, "1h").await.unwrap();
    let new = rotate(&db, &old, "0s").await.unwrap();
    let page = db.store.audit(&AuditFilter::default(), PageRequest::default()).await.unwrap();
    let of = |token: &Token, action| -> Vec<Value> {
        let subject = token.id.to_string();
        let found =
            page.items.iter().filter(|entry| entry.subject.as_str() == subject && entry.action == action);
        found.map(|entry| entry.details.clone()).collect()
    };
    let (now, soon) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    let rotated = |successor: &Token, overlap, ends_at, before, after| {
        json!({
            "user": "alice", "name": "test", "hint": old.hint, "successor": successor.id, "overlap": overlap,
            "ends_at": ends_at, "before": before, "after": after,
        })
    };
    let first =
        rotated(&lost, "1h", soon, json!({"expires_at": old.expires_at}), json!({"expires_at": soon}));
    let second = rotated(&new, "0s", now, json!({"revoked_at": null}), json!({"revoked_at": now}));
    assert_eq!(of(&old, Action::TokenRotated), [second, first]);
    assert_eq!(of(&new, Action::TokenCreated)[0]["rotated_from"], json!(old.id));
    let replaced = json!({
        "user": "alice", "name": "test", "hint": lost.hint, "replaced_by": new.id,
        "before": {"revoked_at": null}, "after": {"revoked_at": now},
    });
    assert_eq!(of(&lost, Action::TokenRevoked), [replaced]);
}

async fn many_rotations_at_once_leave_one_live_successor(db: Fixture) {
    let second = db.second_store().await;
    for overlap in ["0s", "1h"] {
        db.user(&format!("user{overlap}")).await;
        let old = db.token(&format!("user{overlap}")).await;
        let mut tasks = JoinSet::new();
        for number in 0..32 {
            let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
            tasks.spawn(async move { rotate_as(&store, &origin(), old.id, overlap).await });
        }
        let made: Vec<Token> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
        let all: Vec<&Token> = made.iter().collect();
        assert_eq!(valid(&db, &all).await.into_iter().filter(|valid| *valid).count(), 1);
        assert_eq!(db.is_valid(&old).await, overlap == "1h");
    }
    let revision = i64::try_from(db.revision().await).unwrap();
    assert_eq!(changes(&db).await.into_keys().collect::<Vec<_>>(), (1..=revision).collect::<Vec<_>>());
    assert_eq!(db.number("SELECT COUNT(*) FROM audit WHERE action = 'token.rotated'").await, 64);
}

async fn rotations_creates_and_revocations_at_once_never_pass_the_limit(db: Fixture) {
    db.user("alice").await;
    limit(&db, 4).await;
    let second = db.second_store().await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(db.token("alice").await);
    }
    let mut tasks = JoinSet::new();
    for number in 0..48_usize {
        let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
        let old = tokens[number % 4].clone();
        tasks.spawn(async move {
            match number % 6 {
                0 => store.revoke_token(&origin(), old.id).await.map(|done| done.token),
                1 | 2 => store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await,
                _ => rotate_as(&store, &origin(), old.id, "1h").await,
            }
        });
    }
    for result in tasks.join_all().await {
        match result {
            Ok(_) | Err(StoreError::TokenLimitReached { .. } | StoreError::TokenNotActive(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let counted = "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL AND rotated_to IS NULL";
    assert!(db.number(counted).await <= 4);
    let heads = "SELECT COALESCE(MAX(n), 0) FROM (SELECT COUNT(*) AS n FROM tokens WHERE rotated_from IS NOT NULL \
                 AND revoked_at IS NULL GROUP BY rotated_from) AS successors";
    assert!(db.number(heads).await <= 1);
}
