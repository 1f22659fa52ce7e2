//! Every operation of the store, by its name in the source.

use std::path::Path;
use std::time::Duration;

use latchkey::wire::{MAX_TOKEN_HASHES, TokenUsage, UsageReport};
use latchkey_admin::domain::audit::{Action, Actor, AuditFilter, Origin, Subject};
use latchkey_admin::domain::import::Import;
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::rotation::Rotation;
use latchkey_admin::domain::token::{Expiry, TokenStatus};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::token_search::TokenFilter;
use latchkey_admin::domain::user::{NewUser, UserPatch};
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use latchkey_admin::jobs::delete_expired;
use latchkey_admin::store::{Holder, Lease, Store, StoreError, Trigger};

use crate::seed::{Seeded, live};
use crate::support::{Fixture, admin_token, by, change_hash, name, new_token, scopes};

/// The names of all methods of the store that ask the database, from its source.
pub fn all() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let methods = text.split("    pub async fn ").skip(1).filter_map(|rest| {
            let (name, parameters) = rest.split_once('(')?;
            parameters.trim_start().starts_with("&self").then(|| name.to_owned())
        });
        names.extend(methods);
    }
    names.sort();
    assert!(names.len() > 30, "only {names:?} were found");
    names
}

/// Runs one on a store of its own, whose connections end with it.
pub async fn run(operation: &str, db: &Fixture, seeded: &Seeded) {
    let store = db.second_store().await;
    let origin = by(&seeded.admin);
    let known = reads(operation, &store, db, seeded).await
        || of_users(operation, &store, &origin).await
        || of_tokens(operation, &store, &origin).await
        || of_jobs(operation, &store).await
        || of_the_service(operation, &store, &origin).await;
    assert!(known, "{operation} is new to this test: have it run it");
    store.close().await;
}

async fn reads(operation: &str, store: &Store, db: &Fixture, seeded: &Seeded) -> bool {
    match operation {
        "administrators" => drop(store.administrators().await.unwrap()),
        "audit" | "audit_after" => audit(store, db).await,
        "check_clock_at_start" => store.check_clock_at_start().await.unwrap(),
        "look_at_clock" => store.look_at_clock().await.unwrap(),
        "changes" => {
            let mut position = store.position().await.unwrap();
            position.revision.0 -= 20_000;
            assert!(store.changes(&position, 1_000).await.unwrap().page.is_some());
        }
        "part_of_changes" => {
            let mut position = store.position().await.unwrap();
            position.revision.0 -= 20_000;
            let part = store.part_of_changes(&position, None, 1_000).await.unwrap();
            let begun = part.changes.last();
            assert!(store.part_of_changes(&position, begun, 1_000).await.unwrap().cut);
        }
        "has_more_changes_than" => {
            let mut position = store.position().await.unwrap();
            position.revision.0 -= 1_000;
            assert!(store.has_more_changes_than(&position, 100).await.unwrap());
        }
        "counts" => drop(store.counts().await.unwrap()),
        "ping" | "position" | "standing" => {
            store.ping().await.unwrap();
            store.standing().await.unwrap();
        }
        "requests_by_hour" => drop(store.requests_by_hour(db.now()).await.unwrap()),
        "restrictions" => drop(store.restrictions().await.unwrap()),
        "scheduler_state" => drop(store.scheduler_state(delete_expired::JOB).await.unwrap()),
        "search_tokens" => search(store, db).await,
        "token" => drop(store.token(live(1)).await.unwrap()),
        "would_shorten" => {
            let mut strict = store.restrictions().await.unwrap();
            strict.max_lifetime = Some(Period::from_days(1));
            let would = store.would_shorten(&strict).await.unwrap();
            assert!(would.counts.tokens > 0);
        }
        "touched_by" => drop(store.touched_by(&store.restrictions().await.unwrap()).await.unwrap()),
        "user" => drop(store.user(&name("user7")).await.unwrap()),
        "user_restrictions" => drop(store.user_restrictions(&name("user7")).await.unwrap()),
        "users" => {
            let first = store.users(PageRequest::default()).await.unwrap();
            let next = PageRequest { cursor: first.next_cursor, ..PageRequest::default() };
            assert_eq!(store.users(next).await.unwrap().items.len(), 50);
        }
        "verify" => drop(store.verify(seeded.admin.hash).await.unwrap()),
        "verify_all" => verify_all(store, seeded).await,
        _ => return false,
    }
    true
}

/// The fewest tokens, and the most.
async fn verify_all(store: &Store, seeded: &Seeded) {
    for hashes in [vec![seeded.admin.hash], (0..MAX_TOKEN_HASHES).map(|n| change_hash(1, n)).collect()] {
        store.verify_all(hashes.try_into().unwrap()).await.unwrap();
    }
}

/// Every filter by itself, and each status in the other order and for one user.
async fn search(store: &Store, db: &Fixture) {
    let soon = Some(Period::from_days(2).after(db.now()));
    let text = Some("many 49".parse().unwrap());
    let none = TokenFilter::default;
    let user = Some(name("user7"));
    let mut filters = vec![
        none(),
        TokenFilter { user: user.clone(), ..none() },
        TokenFilter { text: text.clone(), ..none() },
        TokenFilter { expires_before: soon, ..none() },
        TokenFilter { last_used_before: soon, ..none() },
        TokenFilter { user: user.clone(), expires_before: soon, ..none() },
        TokenFilter { text, expires_before: soon, ..none() },
    ];
    for status in [TokenStatus::Active, TokenStatus::Expired, TokenStatus::Revoked].map(Some) {
        filters.push(TokenFilter { status, ..none() });
        filters.push(TokenFilter { status, expires_before: soon, ..none() });
        filters.push(TokenFilter { status, user: user.clone(), ..none() });
    }
    for filter in filters {
        let page = store.search_tokens(&filter, PageRequest::default()).await.unwrap();
        let next = PageRequest { cursor: page.next_cursor, ..PageRequest::default() };
        store.search_tokens(&filter, next).await.unwrap();
    }
}

/// Every filter by itself, and all together, as pages and as an export.
async fn audit(store: &Store, db: &Fixture) {
    let none = AuditFilter::default;
    let actor = Some(Actor::User(name("user7")));
    let filters = [
        none(),
        AuditFilter { actor: actor.clone(), ..none() },
        AuditFilter { action: Some(Action::TokenCreated), ..none() },
        AuditFilter { subject: Some(Subject::restrictions()), ..none() },
        AuditFilter { since: Some(db.now()), ..none() },
        AuditFilter { until: Some(db.now()), ..none() },
        AuditFilter {
            actor,
            action: Some(Action::TokenCreated),
            subject: Some(Subject::restrictions()),
            since: Some(db.now()),
            until: None,
        },
    ];
    for filter in filters {
        let page = store.audit(&filter, PageRequest::default()).await.unwrap();
        let next = PageRequest { cursor: page.next_cursor, ..PageRequest::default() };
        store.audit(&filter, next).await.unwrap();
        let first = store.audit_after(&filter, None, 200).await.unwrap();
        store.audit_after(&filter, first.last().map(|entry| entry.id), 200).await.unwrap();
    }
}

async fn of_users(operation: &str, store: &Store, origin: &Origin) -> bool {
    match operation {
        "create_user" => drop(store.create_user(origin, &NewUser::named(name("new"))).await.unwrap()),
        "delete_user" => drop(store.delete_user(origin, &name("user2")).await.unwrap()),
        "put_user_restrictions" => {
            let own = UserRestrictions { max_tokens_per_user: Some(Some(99)), ..UserRestrictions::default() };
            store.put_user_restrictions(origin, &name("user3"), &own).await.unwrap();
        }
        "update_user" => {
            let patch = UserPatch { active: Some(false), ..UserPatch::default() };
            store.update_user(origin, &name("user4"), &patch).await.unwrap();
        }
        "delete_expired_of_user" => {
            assert!(
                store
                    .delete_expired_of_user(origin, &name("user1"), None, Duration::MAX)
                    .await
                    .unwrap()
                    .deleted
                    > 0
            );
        }
        _ => return false,
    }
    true
}

async fn of_tokens(operation: &str, store: &Store, origin: &Origin) -> bool {
    match operation {
        "create_token" => {
            drop(store.create_token(origin, &name("user7"), &new_token(Expiry::Latest)).await.unwrap());
        }
        "import_tokens" => {
            let tokens = (0..3).map(|_| new_token(Expiry::Latest)).collect();
            let import = Import::new(tokens, true).unwrap();
            store.import_tokens(origin, &name("user8"), &import).await.unwrap();
        }
        "revoke_token" => drop(store.revoke_token(origin, live(2)).await.unwrap()),
        "revoke_token_with_descendants" => {
            // Those that it made, and what those made; see the seed.
            let done = store.revoke_token_with_descendants(origin, live(20)).await.unwrap();
            assert!(done.count > 10, "{} were revoked", done.count);
        }
        "rotate_token" => {
            // Twice, so that the second replaces the successor of the first.
            for _ in 0..2 {
                let new = new_token(Expiry::Latest);
                let rotation = Rotation {
                    overlap: "1h".parse().unwrap(),
                    expires_in: None,
                    hash: new.hash,
                    hint: new.hint,
                };
                store.rotate_token(origin, live(3), &rotation).await.unwrap();
            }
            // The first look-up of a successor writes.
            let successor = store.token(live(3)).await.unwrap().rotated_to.unwrap();
            let successor = store.token(successor).await.unwrap();
            assert!(successor.is_unused_successor());
            store.verify(successor.hash).await.unwrap();
            assert!(!store.token(successor.id).await.unwrap().is_unused_successor());
        }
        "update_token" => {
            let patch = TokenPatch { scopes: Some(scopes(&["read"])), ..TokenPatch::default() };
            store.update_token(origin, live(4), &patch).await.unwrap();
        }
        "count_usage" => {
            let used = |number| TokenUsage {
                token_id: live(number).to_string(),
                allowed: 1,
                denied: 0,
                last_used_ms_ago: 0,
            };
            let report =
                UsageReport { edge: "edge".to_owned(), sequence: 1, usage: (100..300).map(used).collect() };
            assert!(store.count_usage(&report.try_into().unwrap()).await.unwrap().counted);
        }
        _ => return false,
    }
    true
}

async fn of_jobs(operation: &str, store: &Store) -> bool {
    let lease = Lease {
        job: delete_expired::JOB,
        holder: Holder("plans".to_owned()),
        lasts: Period::from_millis(10_000),
    };
    store.acquire_lease(&lease).await.unwrap();
    match operation {
        "acquire_lease" => {}
        "delete_expired_batch" => {
            let origin = Origin::scheduler();
            // All that is due of each kind; the last ones are users.
            let (mut batches, mut more) = (0, true);
            while more {
                let batch = store.delete_expired_batch(&origin, &lease, Trigger::Time).await.unwrap();
                (batches, more) = (batches + usize::from(batch.deleted > 0), batch.more);
            }
            assert!(batches > 100, "only {batches} batches");
            assert!(matches!(store.user(&name("user990")).await, Err(StoreError::UserNotFound(_))));
        }
        "finish_run" => store.finish_run(&lease, 7, None).await.unwrap(),
        "forget_audit_batch" => {
            let batch = store.forget_audit_batch(&lease, Period::from_days(30)).await.unwrap();
            assert!(batch.deleted > 0);
        }
        "forget_changes_batch" => assert!(store.forget_changes_batch(&lease).await.unwrap().deleted > 0),
        "forget_surplus_edges" => drop(store.forget_surplus_edges().await.unwrap()),
        "forget_usage_batch" => assert!(store.forget_usage_batch(&lease).await.unwrap().deleted > 0),
        "release_lease" => store.release_lease(&lease).await.unwrap(),
        _ => return false,
    }
    true
}

async fn of_the_service(operation: &str, store: &Store, origin: &Origin) -> bool {
    match operation {
        "bootstrap" => {
            let refused = store.bootstrap(&name("admin"), &admin_token()).await;
            assert!(matches!(refused, Err(StoreError::AdminExists)));
        }
        "new_epoch" => drop(store.new_epoch().await.unwrap()),
        "put_restrictions_for_existing_tokens" => {
            let mut restrictions = store.restrictions().await.unwrap();
            restrictions.max_tokens_per_user = Some(998);
            store.put_restrictions_for_existing_tokens(origin, &restrictions).await.unwrap();
        }
        "shorten_existing_tokens" => {
            let done = store.shorten_existing_tokens(origin).await.unwrap();
            assert!(done.tokens > 0, "nothing was shortened");
        }
        "put_restrictions" => {
            let mut restrictions = store.restrictions().await.unwrap();
            restrictions.max_tokens_per_user = Some(999);
            store.put_restrictions(origin, &restrictions).await.unwrap();
        }
        "replace_epoch" => {
            let epoch = store.position().await.unwrap().epoch;
            store.replace_epoch(&epoch).await.unwrap();
        }
        // What closes the connections asks nothing, nor does what writes the log back.
        "close" | "shrink_log" => {}
        _ => return false,
    }
    true
}
