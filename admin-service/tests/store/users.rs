//! Users: made, read, changed, deleted.

use std::time::Duration;

use latchkey::wire::RefusalReason;
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::token_search::TokenFilter;
use latchkey_admin::domain::user::{NewUser, UserPatch};
use latchkey_admin::store::StoreError;

use crate::support::{Fixture, name, on_both_databases, origin};

on_both_databases![
    a_user_is_read_as_it_was_made,
    a_user_without_details_gets_defaults,
    a_name_is_taken_once_and_for_all,
    an_unknown_user_is_not_found,
    a_patch_changes_what_it_names_and_nothing_else,
    a_patch_that_changes_nothing_leaves_no_trace,
    disabling_a_user_refuses_its_tokens_until_it_is_enabled,
    a_deleted_user_stays_known_and_is_never_active_again,
    users_come_in_pages_in_the_order_of_their_making,
];

async fn a_user_is_read_as_it_was_made(db: Fixture) {
    let new = NewUser {
        name: name("alice"),
        display_name: Some("Alice Ödegård".parse().unwrap()),
        email_address: Some("alice@example.com".parse().unwrap()),
        time_zone: Some("Europe/Berlin".parse().unwrap()),
    };
    let made = db.store.create_user(&origin(), &new).await.unwrap();
    assert_eq!(db.store.user(&name("alice")).await.unwrap(), made);
    assert_eq!(Some(made.display_name), new.display_name);
    assert_eq!((made.email_address, Some(made.time_zone)), (new.email_address, new.time_zone));
    assert_eq!((made.active, made.deleted, made.created_at), (true, false, db.now()));
}

async fn a_user_without_details_gets_defaults(db: Fixture) {
    let made = db.user("bob").await;
    assert_eq!((made.display_name.as_str(), made.time_zone.as_str()), ("bob", "UTC"));
    assert_eq!(made.email_address, None);
}

async fn a_name_is_taken_once_and_for_all(db: Fixture) {
    db.user("alice").await;
    let (origin, again) = (origin(), NewUser::named(name("alice")));
    let refusal = db.refused(db.store.create_user(&origin, &again)).await;
    assert!(matches!(refusal, StoreError::UserExists(taken) if taken == again.name));
    db.store.delete_user(&origin, &again.name).await.unwrap();
    let refusal = db.refused(db.store.create_user(&origin, &again)).await;
    assert!(matches!(refusal, StoreError::UserExists(_)));
}

async fn an_unknown_user_is_not_found(db: Fixture) {
    let nobody = name("nobody");
    let patch = UserPatch { active: Some(false), ..UserPatch::default() };
    assert!(matches!(db.refused(db.store.user(&nobody)).await, StoreError::UserNotFound(_)));
    let update = db.refused(db.store.update_user(&origin(), &nobody, &patch)).await;
    assert!(matches!(update, StoreError::UserNotFound(_)));
    let delete = db.refused(db.store.delete_user(&origin(), &nobody)).await;
    assert!(matches!(delete, StoreError::UserNotFound(_)));
    let of_nobody = TokenFilter { user: Some(nobody.clone()), ..TokenFilter::default() };
    let list = db.refused(db.store.search_tokens(&of_nobody, PageRequest::default())).await;
    assert!(matches!(list, StoreError::UserNotFound(_)));
    let expired = db.refused(db.store.delete_expired_of_user(&origin(), &nobody, None, Duration::MAX)).await;
    assert!(matches!(expired, StoreError::UserNotFound(_)));
}

async fn a_patch_changes_what_it_names_and_nothing_else(db: Fixture) {
    let before = db.user("alice").await;
    let patch = UserPatch {
        display_name: Some("Al".parse().unwrap()),
        email_address: Some(Some("al@example.com".parse().unwrap())),
        ..UserPatch::default()
    };
    let after = db.store.update_user(&origin(), &before.name, &patch).await.unwrap();
    assert_eq!(after, patch.apply(before.clone()));
    assert_eq!(db.store.user(&before.name).await.unwrap(), after);
    let without_mail = UserPatch { email_address: Some(None), ..UserPatch::default() };
    let after = db.store.update_user(&origin(), &before.name, &without_mail).await.unwrap();
    assert_eq!((after.email_address, after.display_name.as_str()), (None, "Al"));
}

async fn a_patch_that_changes_nothing_leaves_no_trace(db: Fixture) {
    let user = db.user("alice").await;
    let before = db.everything().await;
    let patch =
        UserPatch { active: Some(true), time_zone: Some(user.time_zone.clone()), ..UserPatch::default() };
    assert_eq!(db.store.update_user(&origin(), &user.name, &patch).await.unwrap(), user);
    assert_eq!(db.everything().await, before);
}

async fn disabling_a_user_refuses_its_tokens_until_it_is_enabled(db: Fixture) {
    let alice = db.user("alice").await;
    db.user("bob").await;
    let (hers, his) = (db.token("alice").await, db.token("bob").await);
    let set = |active| UserPatch { active: Some(active), ..UserPatch::default() };
    db.store.update_user(&origin(), &alice.name, &set(false)).await.unwrap();
    assert_eq!(db.denial(&hers).await, RefusalReason::UserDisabled);
    assert!(db.is_valid(&his).await);
    db.store.update_user(&origin(), &alice.name, &set(true)).await.unwrap();
    assert!(db.is_valid(&hers).await);
    assert_eq!(db.revision().await, 2);
}

async fn a_deleted_user_stays_known_and_is_never_active_again(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let deleted = db.store.delete_user(&origin(), &name("alice")).await.unwrap();
    assert_eq!((deleted.active, deleted.deleted), (false, true));
    assert_eq!(db.denial(&token).await, RefusalReason::UserDisabled);
    let before = db.everything().await;
    assert_eq!(db.store.delete_user(&origin(), &name("alice")).await.unwrap(), deleted);
    assert_eq!(db.everything().await, before);
    let enable = UserPatch { active: Some(true), ..UserPatch::default() };
    let alice = name("alice");
    let refusal = db.refused(db.store.update_user(&origin(), &alice, &enable)).await;
    assert!(matches!(refusal, StoreError::UserDeleted(_)));
    assert_eq!(db.store.user(&alice).await.unwrap(), deleted);
}

async fn users_come_in_pages_in_the_order_of_their_making(db: Fixture) {
    let mut names = Vec::new();
    for number in 0..5 {
        names.push(db.user(&format!("user{}", 9 - number)).await.name);
        db.clock.advance(Duration::from_millis(1));
    }
    let mut page = PageRequest { limit: Limit::new(2).unwrap(), cursor: None };
    let mut found = Vec::new();
    loop {
        let next = db.store.users(page).await.unwrap();
        assert!(next.items.len() <= 2);
        found.extend(next.items.into_iter().map(|user| user.name));
        match next.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(found, names);
}
