//! The audit log: an entry with every change, in the same transaction, and lists of them.

use std::time::Duration;

use latchkey_admin::domain::audit::{Action, Actor, AuditEntry, AuditFilter, Origin};
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user::{NewUser, UserPatch};
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use serde_json::json;

use crate::import::import;
use crate::rotation::rotation;
use crate::support::{Fixture, name, on_both_databases, origin};

on_both_databases![
    every_change_is_recorded_with_its_origin,
    every_change_says_what_was_before_and_what_is_after,
    no_entry_holds_a_hash,
    entries_are_found_by_actor_action_subject_and_time,
    entries_come_in_pages_newest_first,
];

async fn all(db: &Fixture, filter: AuditFilter) -> Vec<AuditEntry> {
    db.store.audit(&filter, PageRequest::default()).await.unwrap().items
}

/// What people do by the API; the rest the scheduler does by itself, see `retention`, and commands beside the database.
fn by_people() -> impl Iterator<Item = Action> {
    let others = [Action::AuditDeleted, Action::DatabaseRestored, Action::EpochChanged, Action::UsersPruned];
    Action::ALL.iter().copied().filter(move |action| !others.contains(action))
}

async fn change_everything(db: &Fixture) {
    db.user("alice").await;
    let soon = Period::from_days(1).after(db.now());
    db.token_until("alice", soon).await;
    let token = db.token("alice").await;
    db.store.rotate_token(&origin(), db.token("alice").await.id, &rotation("1h", None)).await.unwrap();
    db.store.import_tokens(&origin(), &name("alice"), &import([1])).await.unwrap();
    let rename = TokenPatch { name: Some("other".parse().unwrap()), ..TokenPatch::default() };
    db.store.update_token(&origin(), token.id, &rename).await.unwrap();
    db.store.revoke_token(&origin(), token.id).await.unwrap();
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_tokens_per_user = Some(7);
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    let own = UserRestrictions { max_tokens_per_user: Some(None), ..UserRestrictions::default() };
    db.store.put_user_restrictions(&origin(), &name("alice"), &own).await.unwrap();
    db.clock.set(soon);
    db.delete_expired("alice").await;
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("alice"), &disable).await.unwrap();
    db.store.delete_user(&origin(), &name("alice")).await.unwrap();
}

async fn every_change_is_recorded_with_its_origin(db: Fixture) {
    change_everything(&db).await;
    let entries = all(&db, AuditFilter::default()).await;
    assert!(entries.iter().all(|entry| entry.origin == origin()));
    for action in by_people() {
        let found = entries.iter().filter(|entry| entry.action == action).count();
        assert_eq!(found, if action == Action::TokenCreated { 4 } else { 1 }, "{action}");
    }
    let limit = entries.iter().find(|entry| entry.action == Action::RestrictionsUpdated).unwrap();
    assert_eq!(limit.details["before"]["max_tokens_per_user"], 10);
    assert_eq!(limit.details["after"]["max_tokens_per_user"], 7);
}

async fn every_change_says_what_was_before_and_what_is_after(db: Fixture) {
    change_everything(&db).await;
    let entries = all(&db, AuditFilter::default()).await;
    let details = |action| entries.iter().find(|entry| entry.action == action).unwrap().details.clone();
    let alice = json!({
        "display_name": "alice", "email_address": null, "time_zone": "UTC", "active": true, "deleted": false,
    });
    assert_eq!(details(Action::UserCreated), json!({"before": null, "after": alice}));
    let disabled = json!({"before": {"active": true}, "after": {"active": false}});
    assert_eq!(details(Action::UserUpdated), disabled);
    let deleted = json!({"before": {"deleted": false}, "after": {"deleted": true}});
    assert_eq!(details(Action::UserDeleted), deleted);
    let made = details(Action::TokenCreated);
    assert_eq!((&made["before"], &made["after"]["name"]), (&json!(null), &json!("test")));
    let revoked = details(Action::TokenRevoked);
    assert_eq!(revoked["before"], json!({"revoked_at": null}));
    assert_eq!(revoked["after"], json!({"revoked_at": "2026-01-01T00:00:00Z"}));
    for action in by_people().filter(|action| *action != Action::TokensDeleted) {
        let details = details(action);
        assert!(details.get("before").is_some() && details.get("after").is_some(), "{action}: {details}");
    }
    assert_eq!(details(Action::TokensDeleted)["count"], 2);
}

async fn no_entry_holds_a_hash(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    db.store.revoke_token(&origin(), token.id).await.unwrap();
    let entries = all(&db, AuditFilter::default()).await;
    assert_eq!(entries.len(), 3);
    assert!(!entries.iter().any(|entry| entry.details.to_string().contains(&token.hash.to_string())));
}

async fn entries_are_found_by_actor_action_subject_and_time(db: Fixture) {
    let by = |actor: &str| Origin { actor: Actor::User(name(actor)), ..origin() };
    db.store.create_user(&by("root"), &NewUser::named(name("alice"))).await.unwrap();
    db.store.create_user(&by("eve"), &NewUser::named(name("bob"))).await.unwrap();
    db.clock.advance(Duration::from_secs(1));
    let later = db.now();
    db.store.delete_user(&by("eve"), &name("alice")).await.unwrap();
    let found = async |filter| {
        let entries = all(&db, filter).await;
        entries.iter().map(|entry| format!("{} {}", entry.action, entry.subject.as_str())).collect::<Vec<_>>()
    };
    let none = AuditFilter::default();
    let by_eve = AuditFilter { actor: Some(Actor::User(name("eve"))), ..none.clone() };
    assert_eq!(found(by_eve.clone()).await, ["user.deleted alice", "user.created bob"]);
    let of_alice = AuditFilter { subject: "alice".parse().ok(), ..none.clone() };
    assert_eq!(found(of_alice.clone()).await, ["user.deleted alice", "user.created alice"]);
    let created = AuditFilter { action: Some(Action::UserCreated), ..by_eve.clone() };
    assert_eq!(found(created).await, ["user.created bob"]);
    assert_eq!(found(AuditFilter { since: Some(later), ..none.clone() }).await, ["user.deleted alice"]);
    let earlier = AuditFilter { until: Some(later), ..none.clone() };
    assert_eq!(found(earlier).await, ["user.created bob", "user.created alice"]);
    let since_then = Period::from_millis(1).after(later);
    assert!(found(AuditFilter { since: Some(since_then), ..none }).await.is_empty());
    let both = AuditFilter { subject: of_alice.subject, since: Some(later), ..by_eve };
    assert_eq!(found(both).await, ["user.deleted alice"]);
}

async fn entries_come_in_pages_newest_first(db: Fixture) {
    for number in 0..5 {
        db.user(&format!("user{number}")).await;
        db.clock.advance(Duration::from_millis(1));
    }
    let mut page = PageRequest { limit: Limit::new(2).unwrap(), cursor: None };
    let mut found = Vec::new();
    loop {
        let next = db.store.audit(&AuditFilter::default(), page).await.unwrap();
        found.extend(next.items.iter().map(|entry| entry.subject.as_str().to_owned()));
        match next.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(found, ["user4", "user3", "user2", "user1", "user0"]);
    let mut onwards = Vec::new();
    loop {
        let after = onwards.last().map(|entry: &AuditEntry| entry.id);
        let next = db.store.audit_after(&AuditFilter::default(), after, 2).await.unwrap();
        if next.is_empty() {
            break;
        }
        onwards.extend(next);
    }
    found.reverse();
    assert_eq!(onwards.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), found);
}
