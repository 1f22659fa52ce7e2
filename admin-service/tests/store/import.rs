//! Imports of tokens by their hashes.

use latchkey::token::TokenHash;
use latchkey_admin::domain::audit::{Action, AuditFilter};
use latchkey_admin::domain::import::{Hint, Import, Imported};
use latchkey_admin::domain::limits::ExpiryRefusal;
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::restrictions::Restrictions;
use latchkey_admin::domain::token::{Expiry, NewToken, TokenSpec};
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::StoreError;
use tokio::task::JoinSet;

use crate::support::{Fixture, name, on_both_databases, origin};

on_both_databases!(
    an_import_is_one_revision_that_names_all_its_tokens,
    an_import_that_is_refused_stores_nothing,
    a_token_that_the_user_has_stays_as_it_is,
    imports_that_race_never_go_beyond_a_limit,
    imports_by_two_processes_against_a_limit_of_ten_give_ten,
    a_thousand_tokens_are_one_revision,
    where_none_may_be_made_none_is_imported,
    a_token_is_as_old_as_it_says,
    no_token_is_imported_for_a_disabled_or_deleted_user,
    one_of_two_users_gets_a_token_that_is_imported_for_both_at_once,
);

fn hash(number: u32) -> TokenHash {
    TokenHash::of(&number.to_be_bytes())
}

/// An import of tokens that are told apart by a number.
pub fn import(numbers: impl IntoIterator<Item = u32>) -> Import {
    let token = |number| {
        NewToken::imported(TokenSpec::named(name_of(number)), hash(number), &Hint::default(), None).unwrap()
    };
    Import::new(numbers.into_iter().map(token).collect(), false).unwrap()
}

fn name_of(number: u32) -> latchkey_admin::domain::token::TokenName {
    format!("moved {number}").parse().unwrap()
}

async fn works(db: &Fixture, number: u32) -> bool {
    matches!(db.store.verify(hash(number)).await.unwrap().outcome, Outcome::Valid(_))
}

async fn an_import_is_one_revision_that_names_all_its_tokens(db: Fixture) {
    db.user("alice").await;
    let before = db.store.position().await.unwrap();
    let imported = db.store.import_tokens(&origin(), &name("alice"), &import(0..5)).await.unwrap();
    assert!(imported.iter().all(|one| matches!(one, Imported::New(token) if token.hint == "imported")));
    assert_eq!(db.store.position().await.unwrap().revision.0, before.revision.0 + 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM changes").await, 5);
    for number in 0..5 {
        assert!(works(&db, number).await);
    }
    let filter = AuditFilter { action: Some(Action::TokenImported), ..AuditFilter::default() };
    let entries = db.store.audit(&filter, PageRequest::default()).await.unwrap().items;
    assert_eq!(entries.len(), 5);
    assert!(!format!("{entries:?}").contains(&hash(1).to_string()));
}

async fn an_import_that_is_refused_stores_nothing(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    db.store.import_tokens(&origin(), &name("bob"), &import([7])).await.unwrap();
    let before = db.everything().await;
    let refused = db.store.import_tokens(&origin(), &name("alice"), &import([1, 2, 7, 3])).await.unwrap_err();
    let StoreError::Entry { index: 2, refused } = refused else { panic!("{refused}") };
    assert!(matches!(*refused, StoreError::TokenExists(_)));
    let refused = db.store.import_tokens(&origin(), &name("alice"), &import(20..31)).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::ImportBeyondLimit { limit: 10, count: 0, new: 11, .. }),
        "{refused}"
    );
    let refused = db.store.import_tokens(&origin(), &name("nobody"), &import([1])).await.unwrap_err();
    assert!(matches!(refused, StoreError::UserNotFound(_)));
    assert_eq!(db.everything().await, before);
    assert!(!works(&db, 1).await);
}

async fn a_token_that_the_user_has_stays_as_it_is(db: Fixture) {
    db.user("alice").await;
    db.store.import_tokens(&origin(), &name("alice"), &import(0..10)).await.unwrap();
    let before = db.everything().await;
    let again = db.store.import_tokens(&origin(), &name("alice"), &import(0..10)).await.unwrap();
    assert!(again.iter().all(|one| matches!(one, Imported::Stored(_))));
    assert_eq!(db.everything().await, before);
}

async fn imports_that_race_never_go_beyond_a_limit(db: Fixture) {
    db.user("alice").await;
    let mut racing = JoinSet::new();
    for first in (0..64).step_by(2) {
        let store = db.store.clone();
        racing.spawn(async move {
            store.import_tokens(&origin(), &name("alice"), &import(first..first + 2)).await.is_ok()
        });
    }
    let imported = racing.join_all().await.into_iter().filter(|imported| *imported).count();
    assert_eq!(imported, 5);
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 10);
}

async fn one_of_two_users_gets_a_token_that_is_imported_for_both_at_once(db: Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    for number in 0..9 {
        let [alices, bobs] = ["alice", "bob"].map(name);
        let (import, origin) = (import([number]), origin());
        let (one, other) = tokio::join!(
            db.store.import_tokens(&origin, &alices, &import),
            db.store.import_tokens(&origin, &bobs, &import),
        );
        let ((Err(refused), Ok(_)) | (Ok(_), Err(refused))) = (one, other) else { panic!("both, or none") };
        let StoreError::Entry { index: 0, refused } = refused else { panic!("{refused}") };
        assert!(matches!(*refused, StoreError::TokenExists(_)), "{refused}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 9);
}

async fn imports_by_two_processes_against_a_limit_of_ten_give_ten(db: Fixture) {
    db.user("alice").await;
    let second = db.second_store().await;
    let mut racing = JoinSet::new();
    for number in 0..32 {
        let store = if number % 2 == 0 { db.store.clone() } else { second.clone() };
        racing.spawn(async move { store.import_tokens(&origin(), &name("alice"), &import([number])).await });
    }
    let results = racing.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    for error in results.into_iter().filter_map(Result::err) {
        let beyond = matches!(error, StoreError::ImportBeyondLimit { limit: 10, count: 10, new: 1, .. });
        assert!(beyond, "{error:?}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 10);
    assert_eq!(db.number("SELECT COUNT(*) FROM audit WHERE action = 'token.imported'").await, 10);
    assert_eq!(db.revision().await, 10);
}

async fn a_thousand_tokens_are_one_revision(db: Fixture) {
    db.user("alice").await;
    let all = Import { ignore_restrictions: true, ..import(0..1_000) };
    let imported = db.store.import_tokens(&origin(), &name("alice"), &all).await.unwrap();
    let hashes: Vec<TokenHash> = imported
        .iter()
        .map(|one| match one {
            Imported::New(token) => token.hash,
            Imported::Stored(token) => panic!("{token:?} was there"),
        })
        .collect();
    assert_eq!(hashes, (0..1_000).map(hash).collect::<Vec<_>>());
    assert_eq!(db.revision().await, 1);
    for table in ["tokens", "changes", "audit WHERE action = 'token.imported'"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")).await, 1_000, "{table}");
    }
    assert!(works(&db, 0).await && works(&db, 999).await);
}

async fn where_none_may_be_made_none_is_imported(db: Fixture) {
    db.user("alice").await;
    let none = Restrictions { max_tokens_per_user: Some(0), ..db.store.restrictions().await.unwrap() };
    db.store.put_restrictions(&origin(), &none).await.unwrap();
    let one = import([1]);
    let refused = db.refused(db.store.import_tokens(&origin(), &name("alice"), &one)).await;
    assert!(matches!(refused, StoreError::ImportBeyondLimit { limit: 0, count: 0, new: 1, .. }), "{refused}");
    let one = Import { ignore_restrictions: true, ..one };
    db.store.import_tokens(&origin(), &name("alice"), &one).await.unwrap();
    assert!(works(&db, 1).await);
}

async fn a_token_is_as_old_as_it_says(db: Fixture) {
    db.user("alice").await;
    let aged = |days: u32, expiry: Expiry| {
        let mut import = import([1]);
        import.tokens[0].created_at = Some(Period::from_days(days).before(db.now()));
        import.tokens[0].spec.expiry = expiry;
        import
    };
    let alice = name("alice");
    for too_old in [aged(365, Expiry::Latest), aged(100, Expiry::In(Period::from_days(266)))] {
        let refused = db.refused(db.store.import_tokens(&origin(), &alice, &too_old)).await;
        let StoreError::Entry { index: 0, refused } = refused else { panic!("{refused}") };
        assert!(matches!(*refused, StoreError::Expiry(ExpiryRefusal::TooLong(_))), "{refused}");
    }
    let imported = db.store.import_tokens(&origin(), &alice, &aged(100, Expiry::Latest)).await.unwrap();
    let [Imported::New(token)] = imported.as_slice() else { panic!("{imported:?}") };
    assert_eq!(token.created_at, Period::from_days(100).before(db.now()));
    assert_eq!(token.expires_at, Some(Period::from_days(265).after(db.now())));
    assert_eq!(db.store.token(token.id).await.unwrap(), *token);
}

async fn no_token_is_imported_for_a_disabled_or_deleted_user(db: Fixture) {
    let alice = db.user("alice").await.name;
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &alice, &disable).await.unwrap();
    let refused = db.refused(db.store.import_tokens(&origin(), &alice, &import([1]))).await;
    assert!(matches!(refused, StoreError::UserDisabled(_)), "{refused}");
    db.store.delete_user(&origin(), &alice).await.unwrap();
    let refused = db.refused(db.store.import_tokens(&origin(), &alice, &import([1]))).await;
    assert!(matches!(refused, StoreError::UserDeleted(_)), "{refused}");
}
