//! Limits of one user's own: in place of the service's, for whatever is made, however many make it.

use std::time::Duration;

use latchkey_admin::domain::audit::{Action, AuditFilter};
use latchkey_admin::domain::limits::{ExpiryRefusal, Limit, Whose};
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::restrictions::Restrictions;
use latchkey_admin::domain::token::Expiry;
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use latchkey_admin::store::{Store, StoreError};
use serde_json::json;
use tokio::task::JoinSet;

use crate::rotation::rotation;
use crate::support::{Fixture, admin_token, name, new_token, on_both_databases, origin};

on_both_databases![
    a_user_has_the_limits_of_everyone_until_it_gets_its_own,
    own_limits_are_put_in_place_of_those_before_and_audited,
    putting_the_same_own_limits_again_leaves_no_trace,
    own_limits_that_cannot_be_are_refused,
    an_own_limit_of_tokens_holds_in_place_of_the_services,
    an_own_lifetime_holds_for_what_is_made_changed_and_rotated,
    sixty_four_creates_at_once_against_an_own_limit_of_twelve_give_twelve,
    creates_and_changes_of_the_own_limit_at_once_never_pass_it,
    a_dry_run_leaves_out_users_with_a_limit_of_their_own,
    an_own_limit_of_0_does_not_keep_the_first_administrator_out,
];

const DAY: Period = Period::from_days(1);

fn most(tokens: Option<u32>) -> UserRestrictions {
    UserRestrictions { max_tokens_per_user: Some(tokens), ..UserRestrictions::default() }
}

fn longest(lifetime: Option<Period>) -> UserRestrictions {
    UserRestrictions { max_lifetime: Some(lifetime), ..UserRestrictions::default() }
}

async fn put(db: &Fixture, user: &str, own: UserRestrictions) {
    let put = db.store.put_user_restrictions(&origin(), &name(user), &own).await.unwrap();
    assert_eq!(put.own, own);
    assert_eq!(db.store.user_restrictions(&name(user)).await.unwrap(), put);
}

async fn a_user_has_the_limits_of_everyone_until_it_gets_its_own(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let everyones = db.store.restrictions().await.unwrap().limits();
    put(&db, "bob", most(Some(3))).await;
    let alices = db.store.user_restrictions(&name("alice")).await.unwrap();
    assert_eq!((alices.own, alices.effective), (UserRestrictions::default(), everyones));
    let bobs = db.store.user_restrictions(&name("bob")).await.unwrap().effective;
    assert_eq!(bobs.tokens, Limit { most: Some(3), whose: Whose::User });
    assert_eq!(bobs.lifetime, everyones.lifetime);
}

async fn own_limits_are_put_in_place_of_those_before_and_audited(db: Fixture) {
    db.user("alice").await;
    put(&db, "alice", most(None)).await;
    put(&db, "alice", longest(Some(DAY))).await;
    put(&db, "alice", UserRestrictions::default()).await;
    let filter = AuditFilter { action: Some(Action::UserRestrictionsUpdated), ..AuditFilter::default() };
    let entries = db.store.audit(&filter, PageRequest::default()).await.unwrap().items;
    let told: Vec<_> = entries.iter().map(|entry| (entry.subject.as_str(), &entry.details)).collect();
    let (unlimited, day) = (json!({"max_tokens_per_user": null}), json!({"max_lifetime": "1d"}));
    assert_eq!(
        told,
        [
            ("alice", &json!({"before": day, "after": {}})),
            ("alice", &json!({"before": unlimited, "after": day})),
            ("alice", &json!({"before": {}, "after": unlimited})),
        ]
    );
}

async fn putting_the_same_own_limits_again_leaves_no_trace(db: Fixture) {
    db.user("alice").await;
    let before = db.everything().await;
    put(&db, "alice", UserRestrictions::default()).await;
    assert_eq!(db.everything().await, before);
    put(&db, "alice", most(Some(3))).await;
    let before = db.everything().await;
    put(&db, "alice", most(Some(3))).await;
    assert_eq!(db.everything().await, before);
}

async fn own_limits_that_cannot_be_are_refused(db: Fixture) {
    db.user("alice").await;
    let (origin, alice, nobody) = (origin(), name("alice"), name("nobody"));
    let wrong = longest(Some(Period::from_millis(999)));
    let refused = db.refused(db.store.put_user_restrictions(&origin, &alice, &wrong)).await;
    assert!(matches!(refused, StoreError::InvalidRestriction(invalid) if invalid.field == "max_lifetime"));
    let refused = db.refused(db.store.put_user_restrictions(&origin, &nobody, &most(None))).await;
    assert!(matches!(refused, StoreError::UserNotFound(_)), "{refused}");
    assert!(matches!(db.store.user_restrictions(&nobody).await, Err(StoreError::UserNotFound(_))));
    db.store.delete_user(&origin, &alice).await.unwrap();
    let refused = db.refused(db.store.put_user_restrictions(&origin, &alice, &most(None))).await;
    assert!(matches!(refused, StoreError::UserDeleted(_)), "{refused}");
}

async fn an_own_limit_of_tokens_holds_in_place_of_the_services(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    let (origin, alice, another) = (origin(), name("alice"), new_token(Expiry::Latest));
    put(&db, "alice", most(Some(12))).await;
    for _ in 0..12 {
        db.token("alice").await;
    }
    let refused = db.refused(db.store.create_token(&origin, &alice, &another)).await;
    let own = Whose::User;
    assert!(
        matches!(refused, StoreError::TokenLimitReached { limit: 12, whose, count: 12 } if whose == own),
        "{refused}"
    );
    assert!(refused.to_string().contains("the user's own limit is 12"), "{refused}");
    put(&db, "alice", most(None)).await;
    db.token("alice").await;
    put(&db, "alice", UserRestrictions::default()).await;
    let refused = db.refused(db.store.create_token(&origin, &alice, &another)).await;
    assert!(matches!(refused, StoreError::TokenLimitReached { limit: 10, count: 13, .. }), "{refused}");
    // Those of everyone else are not touched.
    db.token("bob").await;
}

async fn an_own_lifetime_holds_for_what_is_made_changed_and_rotated(db: Fixture) {
    db.user("alice").await;
    let eternal = db.token("alice").await;
    put(&db, "alice", longest(Some(DAY))).await;
    let (origin, alice) = (origin(), name("alice"));
    let asked = Expiry::In(Period::from_days(2));
    let too_long = |error: &StoreError| {
        let own =
            matches!(error, StoreError::Expiry(ExpiryRefusal::TooLong(limit)) if limit.whose == Whose::User);
        assert!(own && error.to_string().contains("1d, which is the user's own limit"), "{error}");
    };
    too_long(&db.refused(db.store.create_token(&origin, &alice, &new_token(asked))).await);
    let patch = TokenPatch { expiry: Some(asked), ..TokenPatch::default() };
    too_long(&db.refused(db.store.update_token(&origin, eternal.id, &patch)).await);
    let rotated = rotation("1h", Some(Period::from_days(2)));
    too_long(&db.refused(db.store.rotate_token(&origin, eternal.id, &rotated)).await);
    assert_eq!(db.token("alice").await.expires_at, Some(DAY.after(db.now())));
    put(&db, "alice", longest(None)).await;
    assert_eq!(db.token("alice").await.expires_at, None);
}

/// Makes one of alice's tokens.
async fn create(store: Store) -> Result<(), StoreError> {
    store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await.map(|_| ())
}

/// How many creates were done; each of the others was refused by her own limit, which was reached.
fn made(results: Vec<Result<(), StoreError>>) -> usize {
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for error in refused.into_iter().filter_map(Result::err) {
        let StoreError::TokenLimitReached { limit, whose, count } = error else { panic!("{error}") };
        assert!(count >= limit && whose == Whose::User, "{count} tokens against a limit of {limit}");
    }
    made.len()
}

async fn sixty_four_creates_at_once_against_an_own_limit_of_twelve_give_twelve(db: Fixture) {
    db.user("alice").await;
    let second = db.second_store().await;
    put(&db, "alice", most(Some(12))).await;
    let stores = (0..64).map(|number| if number % 2 == 0 { db.store.clone() } else { second.clone() });
    let tasks: JoinSet<_> = stores.map(create).collect();
    assert_eq!(made(tasks.join_all().await), 12);
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 12);
}

async fn creates_and_changes_of_the_own_limit_at_once_never_pass_it(db: Fixture) {
    db.user("alice").await;
    let second = db.second_store().await;
    put(&db, "alice", most(Some(2))).await;
    let mut creates = JoinSet::new();
    let mut raises = JoinSet::new();
    for number in 0..48 {
        let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
        creates.spawn(create(store.clone()));
        if number % 8 == 0 {
            let limit = most(Some(3 + number / 8));
            raises.spawn(async move {
                store.put_user_restrictions(&origin(), &name("alice"), &limit).await.unwrap();
            });
        }
    }
    raises.join_all().await;
    let made = made(creates.join_all().await);
    assert!((2..=8).contains(&made), "{made} tokens were made");
    let live = db.number("SELECT COUNT(*) FROM tokens").await;
    assert_eq!(usize::try_from(live).unwrap(), made);
}

async fn a_dry_run_leaves_out_users_with_a_limit_of_their_own(db: Fixture) {
    for user in ["alice", "bob", "carol"] {
        db.user(user).await;
        db.token(user).await;
        db.token(user).await;
    }
    put(&db, "alice", most(Some(2))).await;
    put(&db, "bob", longest(None)).await;
    let service = db.store.restrictions().await.unwrap();
    let strict = Restrictions { max_lifetime: Some(DAY), max_tokens_per_user: Some(1), ..service };
    let before = db.everything().await;
    let touched = db.store.touched_by(&strict).await.unwrap();
    let users = touched.over_max_tokens.examples.iter().map(|user| user.name.as_str());
    assert_eq!(users.collect::<Vec<_>>(), ["bob", "carol"]);
    let tokens = touched.over_max_lifetime.examples.iter().map(|token| token.user.as_str());
    assert_eq!(tokens.collect::<Vec<_>>(), ["alice", "alice", "carol", "carol"]);
    assert_eq!((touched.over_max_lifetime.tokens, touched.over_max_tokens.tokens), (4, 2));
    assert_eq!(db.everything().await, before);
}

async fn an_own_limit_of_0_does_not_keep_the_first_administrator_out(db: Fixture) {
    db.user("admin").await;
    put(&db, "admin", most(Some(0))).await;
    let (origin, admin, another) = (origin(), name("admin"), new_token(Expiry::Latest));
    let refused = db.refused(db.store.create_token(&origin, &admin, &another)).await;
    assert!(refused.to_string().contains("the user's own limit is 0"), "{refused}");
    db.store.bootstrap(&admin, &admin_token()).await.unwrap();
    db.clock.advance(Duration::from_secs(1));
    db.refused(db.store.create_token(&origin, &admin, &another)).await;
}
