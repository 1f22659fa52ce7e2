//! Rule 8, exact: limits and the scheduler under concurrency, with one service process and with two.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::service::Settings;
use crate::support::{Admin, Service, postgres, wait};

const CREATES: usize = 64;
const LIMIT: usize = 10;

#[tokio::test]
async fn exact_64_creates_at_once_give_10_tokens_on_sqlite_with_one_process() {
    let service = Service::start().await;
    let admin = service.bootstrap();
    race(&[admin]).await;
}

#[tokio::test]
async fn exact_64_creates_at_once_give_10_tokens_on_sqlite_with_two_processes() {
    race_of_two(&Settings::default().database_url).await;
}

#[tokio::test]
async fn exact_64_creates_at_once_give_10_tokens_on_postgres_with_two_processes() {
    race_of_two(&postgres::shared().database()).await;
}

async fn race_of_two(url: &str) {
    // Both at once, on a database that has no table yet.
    let (one, two) = tokio::join!(Service::on(url), Service::on(url));
    let admin = one.bootstrap();
    let other = two.admin_with(&admin.token);
    race(&[admin, other]).await;
}

/// Makes tokens for one user all at once, in turn by each of the clients.
async fn race(admins: &[Admin]) {
    let admin = &admins[0];
    admin.create_user("alice").await;
    admin.restrict(json!({"max_tokens_per_user": LIMIT})).await;
    let mut creates = tokio::task::JoinSet::new();
    for number in 0..CREATES {
        let admin = admins[number % admins.len()].clone();
        let spec = json!({"name": format!("token {number}")});
        creates.spawn(async move { admin.call(Method::POST, "/users/alice/tokens", Some(spec)).await });
    }
    let (mut made, mut refused) = (BTreeSet::new(), 0);
    for answer in creates.join_all().await {
        let body = answer.json();
        if answer.status == 201 {
            made.insert(body["id"].as_str().expect("an identifier").to_owned());
            continue;
        }
        assert_eq!(answer.status, 409, "{answer:?}");
        let error = &body["error"];
        let facts = (&error["code"], &error["limit"], &error["count"]);
        assert_eq!(facts, (&json!("token_limit_reached"), &json!(LIMIT), &json!(LIMIT)));
        refused += 1;
    }
    assert_eq!((made.len(), refused), (LIMIT, CREATES - LIMIT));
    for admin in admins {
        let tokens = admin.tokens_of("alice").await;
        assert_eq!(tokens.iter().map(id).collect::<BTreeSet<_>>(), made);
    }
    let created = admin.all("/audit?action=token.created&limit=200").await;
    let subjects: Vec<_> = created.iter().filter(|entry| entry["actor"] == "admin").collect();
    assert_eq!(subjects.len(), LIMIT, "the audit log tells of other tokens than were made");
}

fn id(token: &Value) -> String {
    token["id"].as_str().expect("an identifier").to_owned()
}

const DUE: i64 = 20_000;
/// How many of them one batch deletes.
const BATCH: i64 = 100;
const LIVE: i64 = 500;

/// Of those that are not expired, how many never expire and were revoked long ago, so that they are due too.
const REVOKED: i64 = 24;
/// Which tokens are due.
fn due() -> String {
    format!("expires_at <= {} OR (expires_at IS NULL AND revoked_at IS NOT NULL)", 1000 + DUE)
}

/// Tokens of a user: `DUE` that expired long ago, and `LIVE` that did not, some of them expired of late and revoked.
fn tokens() -> String {
    format!(
        "INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at, revoked_at)
         SELECT CAST(gen_random_uuid() AS TEXT), (SELECT id FROM users WHERE name = 'alice'),
             sha256(convert_to('token ' || n, 'UTF8')), 'n' || n, 'lk_0000', 'bearer basic', '', '', 1000,
             CASE WHEN n <= {DUE} THEN 1000 + n WHEN n % 3 = 0 THEN NULL
                  WHEN n % 3 = 1 THEN CAST(extract(epoch FROM now()) * 1000 AS BIGINT) - 60000
                  ELSE CAST(extract(epoch FROM now()) * 1000 AS BIGINT) + 86400000 END,
             CASE WHEN n % 7 = 0 THEN 1001 END
         FROM generate_series(1, {DUE} + {LIVE}) AS n"
    )
}

/// How often each token is named by what the audit log says of the batches.
fn times_deleted(batches: &[String]) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    for batch in batches {
        let batch: Value = serde_json::from_str(batch).expect("details in JSON");
        for id in batch["token_ids"].as_array().expect("identifiers") {
            *times.entry(id.as_str().expect("an identifier").to_owned()).or_insert(0) += 1;
        }
    }
    times
}

/// Two replicas and 20,000 tokens that are due. The holder of the lease is stopped in the middle by a row that this test
/// has locked, and killed there; the other has to do the rest.
#[tokio::test]
async fn exact_two_schedulers_delete_each_due_token_once_and_one_takes_over_when_the_other_is_killed() {
    let url = postgres::shared().database();
    let (mut one, mut two) = tokio::join!(Service::on(&url), Service::on(&url));
    let admin = one.bootstrap();
    admin.create_user("alice").await;
    let schedule =
        |enabled: bool| json!({"delete_expired": {"enabled": enabled, "after": "1d", "every": "1s"}});
    admin.restrict(schedule(false)).await;
    let mut database = Database::open(&url).await;
    database.run(&tokens()).await;
    let due_ids = format!("SELECT id FROM tokens WHERE {}", due());
    let due = database.set(&due_ids).await;
    let all = "SELECT id FROM tokens";
    let others: BTreeSet<_> = database.set(all).await.difference(&due).cloned().collect();
    assert_eq!(i64::try_from(due.len()), Ok(DUE + REVOKED));

    let mut obstacle = Database::open(&url).await;
    obstacle
        .run(&format!("BEGIN; UPDATE tokens SET name = name WHERE expires_at = {}", 1000 + DUE / 2))
        .await;
    admin.restrict(schedule(true)).await;
    let deleted = "SELECT COUNT(*) FROM audit WHERE action = 'tokens.deleted'";
    wait::until("the scheduler is held up in the middle", async || {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM tokens%'";
        let (batches, waiting) = (database.number(deleted).await, database.number(waiting).await);
        (batches >= DUE / 2 / BATCH - 1 && waiting > 0).then_some(())
    })
    .await;
    let holder = database.column("SELECT holder FROM leases WHERE name = 'delete_expired'").await.remove(0);
    let before = database.number(deleted).await;

    let is_held_by = |service: &mut Service| holder.contains(&format!(":{}:", service.process().id()));
    let (dying, survivor) = if is_held_by(&mut one) { (&mut one, &mut two) } else { (&mut two, &mut one) };
    assert!(is_held_by(dying), "{holder} is neither");
    dying.kill().await;
    obstacle.run("COMMIT").await;

    let left = format!("SELECT COUNT(*) FROM ({due_ids}) AS due");
    wait::until_within(wait::PATIENCE * 2, "the other has taken over and deleted the rest", async || {
        (database.number(&left).await == 0).then_some(())
    })
    .await;
    let admin = survivor.admin_with(&admin.token);
    wait::until("the other has noted its run", async || {
        let state = admin.expect(200, Method::GET, "/scheduler", None).await;
        (state["last_error"].is_null() && state["last_deleted"].as_i64() > Some(0)).then_some(())
    })
    .await;
    assert!(before * BATCH < DUE, "nothing was left for the other to do");
    let batches = database.column("SELECT details FROM audit WHERE action = 'tokens.deleted'").await;
    let times = times_deleted(&batches);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "deleted more than once: {twice:?}");
    assert!(times.into_keys().collect::<BTreeSet<_>>() == due, "other tokens were deleted than were due");
    assert!(database.set(all).await == others, "other tokens are left than should be");
}
