//! Which token made which: none makes one with more than it has, and a token is revoked with all that it made.

use std::collections::BTreeSet;
use std::time::Duration;

use latchkey::wire::Scheme;
use latchkey_admin::domain::audit::{Action, AuditFilter};
use latchkey_admin::domain::authority::Beyond;
use latchkey_admin::domain::limits::ExpiryRefusal;
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token::{Expiry, Schemes, Token, TokenId, TokenSpec};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::store::{Store, StoreError};
use serde_json::json;

use crate::history::changes;
use crate::import::import;
use crate::rotation::{rotate_as, rotation};
use crate::support::{
    Fixture, admin_token, by, name, new_token, on_both_databases, origin, scopes, token_of,
};

on_both_databases![
    a_token_makes_none_that_outlives_it_or_takes_a_scheme_that_it_has_not,
    where_tokens_may_outlive_their_maker_and_for_administrators_only_the_lifetime_counts,
    a_token_gives_no_more_to_one_that_outlives_it,
    a_token_that_rotates_itself_gets_a_successor_within_its_own_end,
    a_token_names_the_one_that_it_was_made_with,
    a_token_is_revoked_with_all_that_it_made_and_nothing_else,
    what_a_deleted_token_made_is_as_if_made_by_its_maker,
    a_revocation_of_more_than_one_transaction_leaves_none,
    tokens_made_by_descendants_while_they_are_revoked_do_not_survive,
];

/// Makes a token of a user with another one.
async fn make(store: &Store, maker: &Token, user: &str, expiry: Expiry) -> Result<Token, StoreError> {
    store.create_token(&by(maker), &name(user), &new_token(expiry)).await
}

async fn admin(db: &Fixture) -> Token {
    db.store.create_token(&origin(), &name("admin"), &admin_token()).await.unwrap()
}

async fn is_active(db: &Fixture, token: &Token) -> bool {
    db.store.token(token.id).await.unwrap().revoked_at.is_none()
}

async fn a_token_makes_none_that_outlives_it_or_takes_a_scheme_that_it_has_not(db: Fixture) {
    db.user("alice").await;
    let end = Period::from_days(1).after(db.now());
    let only = |scheme| Schemes::new([scheme]).unwrap();
    let spec = TokenSpec { schemes: only(Scheme::Bearer), ..new_token(Expiry::At(end)).spec };
    let maker = db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap();
    let of = |schemes, expiry| token_of(TokenSpec { schemes, ..new_token(expiry).spec });
    let create = async |new| db.store.create_token(&by(&maker), &name("alice"), &new).await;
    for asked in [Expiry::Latest, Expiry::At(end), Expiry::In(Period::from_days(1))] {
        let made = create(of(only(Scheme::Bearer), asked)).await.unwrap();
        assert_eq!((made.expires_at, made.made_by), (Some(end), Some(maker.id)));
    }
    let later = Expiry::At(Period::from_millis(1).after(end));
    let refused = db.refused(create(of(only(Scheme::Bearer), later))).await;
    let expected = ExpiryRefusal::OutlivesMaker { latest: end, asked: later };
    assert!(matches!(refused, StoreError::Expiry(refusal) if refusal == expected), "{refused}");
    for wider in [Schemes::default(), only(Scheme::Basic)] {
        let refused = db.refused(create(of(wider, Expiry::Latest))).await;
        assert!(
            matches!(&refused, StoreError::Beyond(Beyond::Schemes(held)) if *held == only(Scheme::Bearer)),
            "{refused}"
        );
    }
    // Handing out a secret anew is making one.
    let basic = db.token("alice").await;
    let refused = db.refused(db.store.rotate_token(&by(&maker), basic.id, &rotation("0s", None))).await;
    assert!(matches!(refused, StoreError::Beyond(Beyond::Schemes(_))), "{refused}");
}

async fn where_tokens_may_outlive_their_maker_and_for_administrators_only_the_lifetime_counts(db: Fixture) {
    for user in ["alice", "admin"] {
        db.user(user).await;
    }
    let soon = Period::from_millis(3_000).after(db.now());
    let longest = Some(Period::from_days(365).after(db.now()));
    let admin = token_of(TokenSpec { expiry: Expiry::At(soon), ..admin_token().spec });
    let admin = db.store.create_token(&origin(), &name("admin"), &admin).await.unwrap();
    assert_eq!(make(&db.store, &admin, "alice", Expiry::Latest).await.unwrap().expires_at, longest);
    let maker = db.token_until("alice", soon).await;
    assert_eq!(make(&db.store, &maker, "alice", Expiry::Latest).await.unwrap().expires_at, Some(soon));
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.outlive_maker = true;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    assert_eq!(make(&db.store, &maker, "alice", Expiry::Latest).await.unwrap().expires_at, longest);
}

async fn a_token_gives_no_more_to_one_that_outlives_it(db: Fixture) {
    db.user("alice").await;
    let day = |days| Period::from_days(days).after(db.now());
    let spec = TokenSpec { scopes: scopes(&["read"]), ..new_token(Expiry::At(day(2))).spec };
    let maker = db.store.create_token(&origin(), &name("alice"), &token_of(spec)).await.unwrap();
    let (sooner, later) = (db.token_until("alice", day(1)).await, db.token_until("alice", day(3)).await);
    let update =
        async |token: &Token, patch: &TokenPatch| db.store.update_token(&by(&maker), token.id, patch).await;
    let until = |end| TokenPatch { expiry: Some(Expiry::At(end)), ..TokenPatch::default() };
    let read = TokenPatch { scopes: Some(scopes(&["read"])), ..TokenPatch::default() };
    let refused = db.refused(update(&later, &read)).await;
    assert!(matches!(refused, StoreError::Beyond(Beyond::Expiry(end)) if end == day(2)), "{refused}");
    for (token, end) in [(&sooner, day(3)), (&later, day(4)), (&maker, day(3))] {
        let refused = db.refused(update(token, &until(end))).await;
        assert!(matches!(refused, StoreError::Expiry(ExpiryRefusal::OutlivesMaker { .. })), "{refused}");
    }
    assert_eq!(update(&sooner, &until(day(2))).await.unwrap().expires_at, Some(day(2)));
    update(&sooner, &read).await.unwrap();
    assert_eq!(update(&later, &until(day(2))).await.unwrap().expires_at, Some(day(2)), "it may be cut");
}

async fn a_token_that_rotates_itself_gets_a_successor_within_its_own_end(db: Fixture) {
    db.user("alice").await;
    let day = Period::from_days(1);
    let end = day.after(db.now());
    let own = db.token_until("alice", end).await;
    db.clock.advance(Duration::from_secs(3_600));
    let error = db.refused(db.store.rotate_token(&by(&own), own.id, &rotation("1m", Some(day)))).await;
    let asked = Expiry::In(day);
    let expected = ExpiryRefusal::OutlivesMaker { latest: end, asked };
    assert!(matches!(error, StoreError::Expiry(refusal) if refusal == expected), "{error}");
    let lost = rotate_as(&db.store, &by(&own), own.id, "1m").await.unwrap();
    assert_eq!((lost.expires_at, lost.made_by), (Some(end), Some(own.id)));
    // Its own time is cut to the overlap by then, which is no measure for a repetition.
    db.clock.advance(Duration::from_secs(30));
    let next = rotate_as(&db.store, &by(&own), own.id, "1m").await.unwrap();
    assert_eq!(next.expires_at, Some(end));
    // Another token's end is one.
    let error = db.refused(db.store.rotate_token(&by(&next), next.id, &rotation("1m", Some(day)))).await;
    assert!(matches!(error, StoreError::Expiry(ExpiryRefusal::OutlivesMaker { .. })), "{error}");
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.outlive_maker = true;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let renewed = db.store.rotate_token(&by(&next), next.id, &rotation("1m", Some(day))).await.unwrap();
    assert_eq!(renewed.expires_at, Some(day.after(db.now())));
}

async fn a_token_names_the_one_that_it_was_made_with(db: Fixture) {
    for user in ["admin", "alice"] {
        db.user(user).await;
    }
    let admin = admin(&db).await;
    assert_eq!(admin.made_by, None);
    let made = make(&db.store, &admin, "alice", Expiry::Latest).await.unwrap();
    let rotated = db.store.rotate_token(&by(&made), made.id, &rotation("1h", None)).await.unwrap();
    db.store.import_tokens(&by(&admin), &name("alice"), &import(0..1)).await.unwrap();
    let makers: Vec<Option<TokenId>> =
        db.tokens_of("alice").await.into_iter().map(|token| token.made_by).collect();
    assert_eq!(makers, [Some(admin.id), Some(made.id), Some(admin.id)]);
    assert_eq!(db.store.token(rotated.id).await.unwrap(), rotated);
}

async fn a_token_is_revoked_with_all_that_it_made_and_nothing_else(db: Fixture) {
    for user in ["admin", "alice", "bob"] {
        db.user(user).await;
    }
    let root = admin(&db).await;
    let other = admin(&db).await;
    let child = make(&db.store, &root, "alice", Expiry::Latest).await.unwrap();
    let grandchild = make(&db.store, &child, "bob", Expiry::Latest).await.unwrap();
    let successor =
        db.store.rotate_token(&by(&grandchild), grandchild.id, &rotation("1h", None)).await.unwrap();
    let elsewhere = make(&db.store, &other, "alice", Expiry::Latest).await.unwrap();
    // One in between was revoked before.
    db.store.revoke_token(&origin(), child.id).await.unwrap();
    db.clock.advance(Duration::from_secs(1));
    let before = db.revision().await;
    let refused = db.refused(db.store.revoke_token_with_descendants(&by(&child), root.id)).await;
    assert!(matches!(refused, StoreError::CallerRefused), "{refused}");
    let done = db.store.revoke_token_with_descendants(&origin(), root.id).await.unwrap();
    assert_eq!((done.count, done.revision.0, done.token.id), (3, before + 1, root.id));
    assert_eq!(db.revision().await, before + 1);
    let revoked = [&root, &grandchild, &successor];
    for token in revoked {
        assert_eq!(db.store.token(token.id).await.unwrap().revoked_at, Some(db.now()));
    }
    let hashes: BTreeSet<Vec<u8>> = revoked.iter().map(|token| token.hash.as_bytes().to_vec()).collect();
    assert_eq!(changes(&db).await[&i64::try_from(before + 1).unwrap()], hashes);
    assert!(db.is_valid(&other).await && db.is_valid(&elsewhere).await);
    let filter = AuditFilter { action: Some(Action::TokenRevoked), ..AuditFilter::default() };
    let entries = db.store.audit(&filter, PageRequest::default()).await.unwrap().items;
    let of = |token: &Token| entries.iter().find(|entry| entry.subject == token.id.into()).unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(of(&root).details["with_descendants"], json!(true));
    for token in [&grandchild, &successor] {
        assert_eq!(of(token).details["descendant_of"], json!(root.id));
        assert_eq!(of(token).details["user"], json!("bob"));
    }
    // Repeated, it changes nothing.
    let everything = db.everything().await;
    let again = db.store.revoke_token_with_descendants(&origin(), root.id).await.unwrap();
    assert_eq!((again.count, again.revision), (0, done.revision));
    assert_eq!(db.everything().await, everything);
}

async fn what_a_deleted_token_made_is_as_if_made_by_its_maker(db: Fixture) {
    db.user("alice").await;
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.outlive_maker = true;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let root = db.token("alice").await;
    let brief = Expiry::In(Period::from_millis(1_000));
    let first = make(&db.store, &root, "alice", brief).await.unwrap();
    let second = make(&db.store, &first, "alice", brief).await.unwrap();
    let last = make(&db.store, &second, "alice", Expiry::Latest).await.unwrap();
    let orphan = db.token_until("alice", Period::from_millis(1_000).after(db.now())).await;
    let of_orphan = make(&db.store, &orphan, "alice", Expiry::Latest).await.unwrap();
    db.clock.advance(Duration::from_secs(1));
    assert_eq!(
        db.store
            .delete_expired_of_user(&by(&last), &name("alice"), None, Duration::MAX)
            .await
            .unwrap()
            .deleted,
        3
    );
    assert_eq!(db.store.token(last.id).await.unwrap().made_by, Some(root.id));
    assert_eq!(db.store.token(of_orphan.id).await.unwrap().made_by, None);
    assert_eq!(db.store.revoke_token_with_descendants(&origin(), root.id).await.unwrap().count, 2);
    assert!(!is_active(&db, &last).await && is_active(&db, &of_orphan).await);
}

async fn a_revocation_of_more_than_one_transaction_leaves_none(db: Fixture) {
    let alice = db.user("alice").await;
    let root = db.token("alice").await;
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    let id = |number: &str| format!("'00000000-0000-7000-8000-' || CAST(100000000000 + {number} AS TEXT)");
    // A tree: each has made ten others.
    db.sql(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 2345) INSERT INTO tokens \
         (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, made_by) SELECT {}, '{}', \
         CAST('descendant number ' || CAST(10000000000000 + i AS TEXT) AS {bytes}), 'd', 'lk_abcd', 'bearer', '', '', 0, \
         CASE WHEN i = 0 THEN '{}' ELSE {} END FROM n",
        id("i"),
        alice.id,
        root.id,
        id("(i - 1) / 10")
    ))
    .await;
    db.settle().await;
    let before = db.revision().await;
    // By the token itself, which is among the first to be revoked.
    let done = db.store.revoke_token_with_descendants(&by(&root), root.id).await.unwrap();
    assert_eq!((done.count, done.revision.0), (2_346, before + 3));
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL").await, 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM audit WHERE action = 'token.revoked'").await, 2_346);
    assert_eq!(db.number("SELECT COUNT(*) FROM changes").await, 2_346);
    let page = PageRequest { limit: Limit::new(1).unwrap(), cursor: None };
    assert_eq!(db.store.audit(&AuditFilter::default(), page).await.unwrap().items[0].origin, by(&root));
}

async fn tokens_made_by_descendants_while_they_are_revoked_do_not_survive(db: Fixture) {
    let other = db.second_store().await;
    db.user("admin").await;
    for round in 0..15 {
        // Made for other users, so that no user's lock keeps them apart.
        let users: Vec<String> = (0..4).map(|number| format!("user{round}-{number}")).collect();
        for user in &users {
            db.user(user).await;
        }
        let root = admin(&db).await;
        let child = db.store.create_token(&by(&root), &name(&users[0]), &admin_token()).await.unwrap();
        let creates: Vec<_> = (0..12)
            .map(|number| {
                let (store, user) = (other.clone(), users[number % 4].clone());
                let maker = if number % 2 == 0 { root.clone() } else { child.clone() };
                tokio::spawn(async move { make(&store, &maker, &user, Expiry::Latest).await })
            })
            .collect();
        db.store.revoke_token_with_descendants(&origin(), root.id).await.unwrap();
        for create in creates {
            match create.await.unwrap() {
                Ok(made) => assert!(!is_active(&db, &made).await, "made and not revoked"),
                Err(StoreError::CallerRefused) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL").await, 0);
    }
}
