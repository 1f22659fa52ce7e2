//! Tokens that are changed: what edges are told of, what is recorded, and what is refused.

use std::time::Duration;

use latchkey_admin::domain::audit::{Action, AuditFilter};
use latchkey_admin::domain::authority::Beyond;
use latchkey_admin::domain::limits::{ExpiryRefusal, TooLong, Whose};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token::{Expiry, Token, TokenId, TokenSpec, TokenStatus};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::StoreError;
use serde_json::{Value, json};

use crate::history::changes;
use crate::support::{Fixture, by, name, networks, on_both_databases, origin, scopes, token_of};

on_both_databases![
    a_change_of_what_a_verdict_says_is_told_and_a_change_of_words_is_not,
    a_change_is_recorded_as_it_was_and_as_it_is,
    a_change_that_changes_nothing_writes_nothing,
    an_expiry_beyond_the_longest_lifetime_since_its_making_is_refused,
    a_token_that_is_expired_or_revoked_or_gone_stays_as_it_is,
    who_lacks_what_a_token_has_makes_it_less_and_never_more,
    changes_and_a_revocation_at_once_leave_the_token_revoked,
];

fn described() -> TokenSpec {
    TokenSpec {
        description: Some("for the build".parse().unwrap()),
        scopes: scopes(&["read", "write"]),
        allowed_cidrs: networks(&["10.0.0.0/8"]),
        ..TokenSpec::named("ci".parse().unwrap())
    }
}

async fn make(db: &Fixture, spec: TokenSpec) -> Token {
    db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap()
}

fn expiry(asked: Expiry) -> TokenPatch {
    TokenPatch { expiry: Some(asked), ..TokenPatch::default() }
}

async fn a_change_of_what_a_verdict_says_is_told_and_a_change_of_words_is_not(db: Fixture) {
    db.user("alice").await;
    let token = make(&db, described()).await;
    let words =
        TokenPatch { name: Some("other".parse().unwrap()), description: Some(None), ..TokenPatch::default() };
    let renamed = db.store.update_token(&origin(), token.id, &words).await.unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.description), ("other", &None));
    assert_eq!(db.store.token(token.id).await.unwrap(), renamed);
    assert_eq!(db.revision().await, 0);
    let sooner = Period::from_days(1).after(db.now());
    for (revision, patch) in [
        TokenPatch { scopes: Some(scopes(&["read"])), ..TokenPatch::default() },
        TokenPatch { allowed_cidrs: Some(networks(&[])), ..TokenPatch::default() },
        expiry(Expiry::At(sooner)),
        expiry(Expiry::Latest),
    ]
    .into_iter()
    .enumerate()
    {
        let changed = db.store.update_token(&origin(), token.id, &patch).await.unwrap();
        assert_eq!(db.outcome(&token).await, Outcome::Valid(Box::new(changed)));
        assert_eq!(db.revision().await, revision as u64 + 1);
    }
    let hash = token.hash.as_bytes().to_vec();
    assert!(changes(&db).await.into_values().all(|touched| touched == [hash.clone()].into()));
    let now = db.store.token(token.id).await.unwrap();
    assert_eq!(now, Token { expires_at: token.expires_at, ..now.clone() }, "null is as late as is allowed");
}

async fn entries(db: &Fixture, action: Action) -> Vec<Value> {
    let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
    let page = db.store.audit(&filter, PageRequest::default()).await.unwrap();
    page.items.into_iter().map(|entry| entry.details).collect()
}

async fn a_change_is_recorded_as_it_was_and_as_it_is(db: Fixture) {
    db.user("alice").await;
    let token = make(&db, described()).await;
    let patch = TokenPatch {
        name: Some("ci".parse().unwrap()),
        description: Some(None),
        scopes: Some(scopes(&["read"])),
        ..expiry(Expiry::At(Period::from_days(1).after(db.now())))
    };
    db.store.update_token(&origin(), token.id, &patch).await.unwrap();
    assert_eq!(
        entries(&db, Action::TokenUpdated).await,
        [json!({
            "user": "alice", "hint": token.hint,
            "before": {"description": "for the build", "scopes": ["read", "write"], "expires_at": "2027-01-01T00:00:00Z"},
            "after": {"description": null, "scopes": ["read"], "expires_at": "2026-01-02T00:00:00Z"},
        })]
    );
}

async fn a_change_that_changes_nothing_writes_nothing(db: Fixture) {
    db.user("alice").await;
    let token = make(&db, described()).await;
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = Some(Period::from_days(1));
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let before = db.everything().await;
    let same = TokenPatch {
        name: Some(token.name.clone()),
        description: Some(token.description.clone()),
        scopes: Some(token.scopes.clone()),
        allowed_cidrs: Some(token.allowed_cidrs.clone()),
        // Which the restrictions would not allow any more.
        expiry: token.expires_at.map(Expiry::At),
    };
    for patch in [TokenPatch::default(), same] {
        assert_eq!(db.store.update_token(&origin(), token.id, &patch).await.unwrap(), token);
        assert_eq!(db.everything().await, before);
    }
}

async fn an_expiry_beyond_the_longest_lifetime_since_its_making_is_refused(db: Fixture) {
    db.user("alice").await;
    let made = db.now();
    let token = db.token_until("alice", Period::from_days(9).after(made)).await;
    db.clock.advance(Duration::from_secs(5 * 86_400));
    let longest = Period::from_days(365);
    let latest = longest.after(made);
    let late = db.store.update_token(&origin(), token.id, &expiry(Expiry::At(latest))).await.unwrap();
    assert_eq!(late.expires_at, Some(latest));
    let asked = Expiry::At(Period::from_millis(1).after(latest));
    let later = expiry(asked);
    let error = db.refused(db.store.update_token(&origin(), token.id, &later)).await;
    let StoreError::Expiry(refusal) = error else { panic!("{error}") };
    let limit = TooLong { longest, whose: Whose::Service, latest, asked };
    assert_eq!(refusal, ExpiryRefusal::TooLong(limit));
    let over = expiry(Expiry::At(db.now()));
    let error = db.refused(db.store.update_token(&origin(), token.id, &over)).await;
    assert!(matches!(error, StoreError::Expiry(ExpiryRefusal::NotInFuture { .. })), "{error}");
}

async fn a_token_that_is_expired_or_revoked_or_gone_stays_as_it_is(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let soon = Period::from_days(1).after(db.now());
    let (expired, revoked) = (db.token_until("alice", soon).await, db.token("alice").await);
    let (of_disabled, of_deleted) = (db.token("alice").await, db.token("bob").await);
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    db.store.delete_user(&origin(), &name("bob")).await.unwrap();
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disable).await.unwrap();
    db.clock.set(soon);
    let patch = TokenPatch { name: Some("other".parse().unwrap()), ..expiry(Expiry::Latest) };
    for (token, status) in [(expired, TokenStatus::Expired), (revoked, TokenStatus::Revoked)] {
        let error = db.refused(db.store.update_token(&origin(), token.id, &patch)).await;
        assert!(matches!(error, StoreError::TokenNotActive(found) if found == status), "{error}");
    }
    let error = db.refused(db.store.update_token(&origin(), of_deleted.id, &patch)).await;
    assert!(matches!(error, StoreError::UserDeleted(_)), "{error}");
    let nothing = TokenId(uuid::Uuid::from_u128(7));
    let error = db.refused(db.store.update_token(&origin(), nothing, &patch)).await;
    assert!(matches!(error, StoreError::TokenNotFound), "{error}");
    db.store.update_token(&origin(), of_disabled.id, &patch).await.unwrap();
}

async fn who_lacks_what_a_token_has_makes_it_less_and_never_more(db: Fixture) {
    db.user("alice").await;
    let reader =
        make(&db, TokenSpec { scopes: scopes(&["read"]), ..TokenSpec::named("r".parse().unwrap()) }).await;
    let token = make(&db, described()).await;
    let sooner = expiry(Expiry::At(Period::from_days(1).after(db.now())));
    db.store.update_token(&by(&reader), token.id, &sooner).await.unwrap();
    for more in [
        expiry(Expiry::Latest),
        TokenPatch { allowed_cidrs: Some(networks(&[])), ..TokenPatch::default() },
        TokenPatch { scopes: Some(scopes(&["write", "delete"])), ..TokenPatch::default() },
    ] {
        let error = db.refused(db.store.update_token(&by(&reader), token.id, &more)).await;
        assert!(matches!(error, StoreError::Beyond(Beyond::Scopes(_))), "{error}");
    }
    let less = TokenPatch { scopes: Some(scopes(&["read"])), ..expiry(Expiry::Latest) };
    let changed = db.store.update_token(&by(&reader), token.id, &less).await.unwrap();
    assert_eq!(changed.expires_at, token.expires_at, "it could make this one itself");
}

async fn changes_and_a_revocation_at_once_leave_the_token_revoked(db: Fixture) {
    let other = db.second_store().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    let updates: Vec<_> = (0..16)
        .map(|number| {
            let store = if number % 2 == 0 { db.store.clone() } else { other.clone() };
            let patch =
                TokenPatch { scopes: Some(scopes(&[&format!("s{number}")])), ..TokenPatch::default() };
            tokio::spawn(async move { store.update_token(&origin(), token.id, &patch).await })
        })
        .collect();
    let revoked = db.store.revoke_token(&origin(), token.id).await.unwrap().token;
    let mut changed = 0;
    for update in updates {
        match update.await.unwrap() {
            Ok(_) => changed += 1,
            Err(StoreError::TokenNotActive(TokenStatus::Revoked)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(db.store.token(token.id).await.unwrap(), revoked, "nothing came after the revocation");
    assert_eq!(db.revision().await, changed + 1);
    assert_eq!(entries(&db, Action::TokenUpdated).await.len() as u64, changed);
}
