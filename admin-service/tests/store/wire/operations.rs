//! Every write of the store as a call that can be prepared, made, and made again.

use std::time::Duration;

use latchkey::wire::{TokenUsage, UsageReport};
use latchkey_admin::domain::audit::Origin;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token::{Expiry, NewToken, Token};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::user::{NewUser, UserName, UserPatch};
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use latchkey_admin::store::{Holder, Lease, Store, StoreError, Trigger};

use crate::import::import;
use crate::rotation::{rotate, rotation};
use crate::support::{Fixture, admin_token, name, new_token, note_changes, origin, scopes};

/// The file and type of each `impl Work`; a test compares them with the sources.
pub const WORKS: [&str; 24] = [
    "bootstrap::Bootstrap",
    "epoch::Rename",
    "import::Run",
    "leases::Acquire",
    "leases::Release",
    "look_ups::TakeIntoUse",
    "restrictions::Put",
    "retention::Forget",
    "retention::ForgetAudit",
    "retention::ForgetUsage",
    "revocation::Revoke",
    "rotation::Rotate",
    "scheduler::DeleteBatch",
    "scheduler::Finish",
    "shorten::Shorten",
    "token_update::Update",
    "tokens::Create",
    "tokens::DeleteExpired",
    "usage::Count",
    "usage::ForgetSurplusEdges",
    "user_restrictions::Put",
    "users::Create",
    "users::Delete",
    "users::Update",
];

/// Those that are made for SQLite alone.
pub const OF_SQLITE: [&str; 1] = ["backup::Stamp"];

/// Those that no caller asks for: a look at the clock makes them, and the next one makes them again where they failed, as the tests of
/// clocks show.
pub const OF_THE_CLOCK: [&str; 2] = ["clock::NoteBoot", "clock::Record"];

/// Whether the same call, made again, does it again: nobody can tell it from another that is to do the same.
pub fn adds(work: &str) -> bool {
    matches!(work, "tokens::Create" | "rotation::Rotate" | "epoch::Rename")
}

/// What a call is about: each has another number.
pub struct Subject {
    number: u32,
    user: UserName,
    /// A token of the user's.
    token: Token,
    new: NewToken,
    lease: Lease,
}

/// Brings the database to where the call has something to do.
pub async fn prepare(work: &str, db: &Fixture, number: u32) -> Subject {
    let user = format!("user-{number}");
    db.user(&user).await;
    let mut token = db.token(&user).await;
    let holder = Holder(format!("holder-{number}"));
    // Of another job each time, so that each run is noted anew.
    let lease = Lease { job: format!("job-{number}").leak(), holder, lasts: Period::from_millis(600_000) };
    if !matches!(work, "leases::Acquire") {
        db.sql("DELETE FROM leases").await;
        db.store.acquire_lease(&lease).await.unwrap();
    } else {
        db.sql("DELETE FROM leases").await;
    }
    let day = |days| Period::from_days(days).before(db.now()).as_millisecond();
    match work {
        "bootstrap::Bootstrap" => {
            drop(db.sql("UPDATE tokens SET revoked_at = 1 WHERE revoked_at IS NULL").await);
        }
        "look_ups::TakeIntoUse" => token = rotate(db, &token, "1h").await.unwrap(),
        "retention::Forget" => {
            let revision = db.revision().await + 1;
            note_changes(db, revision, &[2], Period::from_days(9).before(db.now())).await;
        }
        "retention::ForgetAudit" => {
            let id = format!("00000000-0000-7000-8000-{number:012}");
            let entry = format!(
                "INSERT INTO audit (id, at, actor, action, subject, details) VALUES ('{id}', 0, 'root', \
                'user.created', 'nobody', '{{}}')"
            );
            db.sql(&entry).await;
        }
        "retention::ForgetUsage" => {
            db.sql(&format!(
                "INSERT INTO edges (name, last_sequence, seen_at) VALUES ('old-{number}', 1, {number})"
            ))
            .await;
        }
        "usage::ForgetSurplusEdges" => {
            db.sql(&format!(
                "INSERT INTO edges (name, last_sequence, seen_at) SELECT 'e-{number}-' || i, 1, {number} \
                 FROM generate_series(1, 10005 - (SELECT COUNT(*) FROM edges)) AS i"
            ))
            .await;
        }
        "scheduler::DeleteBatch" | "tokens::DeleteExpired" => {
            db.sql(&format!(
                "UPDATE tokens SET created_at = 0, expires_at = {} WHERE id = '{}'",
                day(60),
                token.id
            ))
            .await;
        }
        "shorten::Shorten" => {
            let end = Period::from_days(4_000).after(db.now()).as_millisecond();
            db.sql(&format!("UPDATE tokens SET expires_at = {end} WHERE id = '{}'", token.id)).await;
        }
        _ => {}
    }
    let new = if work == "bootstrap::Bootstrap" { admin_token() } else { new_token(Expiry::Latest) };
    Subject { number, user: name(&user), token, new, lease }
}

/// Makes the call.
pub async fn call(work: &str, store: &Store, of: &Subject) -> Result<(), StoreError> {
    let (by, user, number) = (origin(), &of.user, of.number);
    match work {
        "bootstrap::Bootstrap" => store.bootstrap(&name(&format!("admin-{number}")), &of.new).await.map(drop),
        "epoch::Rename" => store.new_epoch().await.map(drop),
        "import::Run" => store.import_tokens(&by, user, &import(number * 4..number * 4 + 3)).await.map(drop),
        "leases::Acquire" => store.acquire_lease(&of.lease).await,
        "leases::Release" => store.release_lease(&of.lease).await,
        "look_ups::TakeIntoUse" => store.verify(of.token.hash).await.map(drop),
        "restrictions::Put" => {
            let mut restrictions = store.restrictions().await?;
            restrictions.max_tokens_per_user = Some(100 + number);
            store.put_restrictions(&by, &restrictions).await.map(drop)
        }
        "retention::Forget" => store.forget_changes_batch(&of.lease).await.map(drop),
        "retention::ForgetAudit" => {
            store.forget_audit_batch(&of.lease, Period::from_days(365)).await.map(drop)
        }
        "retention::ForgetUsage" => store.forget_usage_batch(&of.lease).await.map(drop),
        "revocation::Revoke" => store.revoke_token(&by, of.token.id).await.map(drop),
        "rotation::Rotate" => {
            // With another secret each time, as each request has.
            store.rotate_token(&by, of.token.id, &rotation("0s", None)).await.map(drop)
        }
        "scheduler::DeleteBatch" => {
            store.delete_expired_batch(&Origin::scheduler(), &of.lease, Trigger::Time).await.map(drop)
        }
        "scheduler::Finish" => store.finish_run(&of.lease, u64::from(number), None).await,
        "shorten::Shorten" => store.shorten_existing_tokens(&by).await.map(drop),
        "token_update::Update" => {
            let patch = TokenPatch { scopes: Some(scopes(&["read"])), ..TokenPatch::default() };
            store.update_token(&by, of.token.id, &patch).await.map(drop)
        }
        "tokens::Create" => store.create_token(&by, user, &new_token(Expiry::Latest)).await.map(drop),
        "tokens::DeleteExpired" => {
            store.delete_expired_of_user(&by, user, None, Duration::MAX).await.map(drop)
        }
        "usage::Count" => {
            let used =
                TokenUsage { token_id: of.token.id.to_string(), allowed: 3, denied: 1, last_used_ms_ago: 0 };
            let report = UsageReport { edge: format!("edge-{number}"), sequence: 1, usage: vec![used] };
            store.count_usage(&report.try_into().unwrap()).await.map(drop)
        }
        "usage::ForgetSurplusEdges" => store.forget_surplus_edges().await.map(drop),
        "user_restrictions::Put" => {
            let own = UserRestrictions { max_tokens_per_user: Some(Some(7)), ..UserRestrictions::default() };
            store.put_user_restrictions(&by, user, &own).await.map(drop)
        }
        "users::Create" => {
            store.create_user(&by, &NewUser::named(name(&format!("made-{number}")))).await.map(drop)
        }
        "users::Delete" => store.delete_user(&by, user).await.map(drop),
        "users::Update" => {
            let patch = UserPatch { active: Some(false), ..UserPatch::default() };
            store.update_user(&by, user, &patch).await.map(drop)
        }
        other => panic!("{other} has no call"),
    }
}
