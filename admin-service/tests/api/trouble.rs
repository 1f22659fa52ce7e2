//! Databases that can be read and not written, because the disk is full or somebody holds a lock: verdicts go on, changes are
//! refused in clear words, and all goes on by itself afterwards.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use latchkey_admin::store::DatabaseUrl;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use crate::small_disk::SmallDisk;
use crate::support::{Answer, Made, TestService};
use crate::{postgres, usage};

async fn verdict(service: &TestService, own: &Made) -> Value {
    let question = json!({"token_hash": TokenHash::of(own.token.as_bytes())});
    let asked = service.edge().request(Method::POST, "/edge/v1/verify").json(&question);
    Answer::to(asked).await.expect(StatusCode::OK).json()
}

/// The token is good at each place that says so.
async fn assert_usable(service: &TestService, own: &Made) {
    assert_eq!(verdict(service, own).await["token"]["id"], json!(own.id));
    let authz = service.edge().request(Method::GET, "/edge/v1/authz").bearer_auth(&own.token);
    Answer::to(authz).await.expect(StatusCode::OK);
    service.with(&own.token).get("/me").await.expect(StatusCode::OK);
}

async fn readiness(service: &TestService) -> Answer {
    Answer::to(service.monitoring().request(Method::GET, "/readyz")).await
}

async fn metrics(service: &TestService) -> String {
    Answer::to(service.monitoring().request(Method::GET, "/metrics")).await.text
}

#[tokio::test]
async fn a_full_disk_refuses_changes_with_507_and_verdicts_go_on_and_nothing_is_lost_or_half_done() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let url = DatabaseUrl::sqlite_file(disk.path().join("latchkey.db"));
    let service = TestService::start_on(Some(url), None).await;
    let own = service.user_with("alice", &[]).await;
    let report = json!({"edge": "vm-1", "sequence": 1, "usage": [
        {"token_id": own.id, "allowed": 1, "denied": 0, "last_used_ms_ago": 0}]});
    let send = || Answer::to(service.edge().request(Method::POST, "/edge/v1/usage").json(&report));

    disk.fill();
    let (made, refused) = loop_until_full(&service).await;
    assert_snapshot!(refused.show(), @r#"
    507 Insufficient Storage
    {
      "error": {
        "code": "insufficient_storage",
        "message": "The disk of the service's database is full, so nothing was changed; tokens are still verified",
        "status": "ERROR"
      }
    }
    "#);
    let before = service.state().await;
    for _ in 0..20 {
        assert_usable(&service, &own).await;
        let renamed = service.admin().patch(&format!("/tokens/{}", own.id), json!({"name": "other"})).await;
        assert_eq!(renamed.code(), "insufficient_storage");
    }
    assert_eq!(send().await.code(), "insufficient_storage");
    assert!(usage::kept(&service).await.is_empty(), "a report was counted and refused");
    assert_eq!(before, service.state().await);
    assert_snapshot!(readiness(&service).await.show(), @r#"
    200 OK
    {
      "checks": {
        "changes": "cannot be written: the disk is full",
        "database": "ok",
        "service": "ok"
      },
      "status": "ok"
    }
    "#);
    let text = metrics(&service).await;
    for name in [
        r#"latchkey_writes_failed_total{kind="full"}"#,
        r#"latchkey_errors_total{listener="api",code="insufficient_storage"}"#,
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }

    disk.free();
    send().await.expect(StatusCode::ACCEPTED);
    assert_eq!(readiness(&service).await.json()["checks"].get("changes"), None);
    service.admin().delete(&format!("/tokens/{}", own.id)).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(verdict(&service, &own).await["reason"], "revoked");
    for number in 0..made {
        service.admin().get(&format!("/users/user{number}")).await.expect(StatusCode::OK);
    }
    service.admin().get(&format!("/users/user{made}")).await.expect(StatusCode::NOT_FOUND);
}

/// What takes rights away goes on from a reserve, which nothing else can use up, and holds after a restart.
#[tokio::test]
async fn on_a_full_disk_revocations_go_on_and_nothing_else_does_and_all_is_well_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let url = DatabaseUrl::sqlite_file(disk.path().join("latchkey.db"));
    let service = TestService::start_on(Some(url), None).await;
    let mut tokens = Vec::new();
    for user in 0..25 {
        let name = format!("owner{user}");
        service.make_user(&name).await;
        for _ in 0..10 {
            tokens.push(service.make_token(&name, json!({"name": "ci"})).await);
        }
    }
    disk.fill();
    let (made, _) = loop_until_full(&service).await;
    let refused_creation = async || {
        let answer = service.admin().post("/users", json!({"name": format!("user{made}")})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (507, "insufficient_storage".into()));
    };
    for _ in 0..20 {
        refused_creation().await;
    }
    for (n, own) in tokens.iter().take(200).enumerate() {
        // Whatever else fills the disk takes what little is given back.
        disk.fill_up();
        let path = format!("/tokens/{}", own.id);
        service.admin().delete(&path).await.expect(StatusCode::NO_CONTENT);
        if n % 10 == 0 {
            refused_creation().await;
            assert_eq!(verdict(&service, own).await["reason"], "revoked");
        }
    }
    let disabled = service.admin().patch("/users/owner23", json!({"active": false})).await;
    disabled.expect(StatusCode::OK);
    service.admin().delete("/users/owner24").await.expect(StatusCode::NO_CONTENT);
    assert_eq!(
        readiness(&service).await.json()["checks"]["changes"],
        "cannot be written: the disk is full",
        "a revocation hides that nothing else can be written"
    );

    let service = service.restart().await;
    for own in &tokens[..200] {
        assert_eq!(verdict(&service, own).await["reason"], "revoked");
    }
    for own in &tokens[230..] {
        assert_eq!(verdict(&service, own).await["reason"], "user_disabled");
    }
    for own in &tokens[200..230] {
        assert_usable(&service, own).await;
    }
    service.admin().delete(&format!("/tokens/{}", tokens[200].id)).await.expect(StatusCode::NO_CONTENT);
    let entries = service.admin().get("/audit?action=token.revoked&limit=200").await.json();
    assert_eq!(entries["items"].as_array().unwrap().len(), 200, "a revocation is not in the audit log");
    service.admin().get(&format!("/users/user{made}")).await.expect(StatusCode::NOT_FOUND);

    disk.free();
    service.admin().post("/users", json!({"name": "room"})).await.expect(StatusCode::CREATED);
    assert_eq!(readiness(&service).await.json()["checks"].get("changes"), None);
    let reserve = std::fs::metadata(disk.path().join("latchkey.db-reserve")).unwrap().len();
    assert_eq!(reserve, 1024 * 1024, "the reserve is not there again");
}

/// Imports are the largest changes: what they leave to be done in the database's file takes nothing from the reserve.
#[tokio::test]
async fn on_a_disk_that_imports_have_filled_revocations_go_on() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let url = DatabaseUrl::sqlite_file(disk.path().join("latchkey.db"));
    let service = TestService::start_on(Some(url), None).await;
    service.make_user("owner").await;
    let mut tokens: Vec<String> = Vec::new();
    let refused = loop {
        let hash = |n: usize| format!("{:064x}", tokens.len() + n);
        let batch: Vec<_> =
            (0..500).map(|n| json!({"token_hash": hash(n), "name": "old", "expires_in": "30d"})).collect();
        let body = json!({"tokens": batch, "ignore_restrictions": true});
        let answer = service.admin().post("/users/owner/tokens:import", body).await;
        if answer.status.is_client_error() || answer.status.is_server_error() {
            break answer;
        }
        let items = answer.json()["items"].as_array().unwrap().clone();
        tokens.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
    };
    assert_eq!(refused.code(), "insufficient_storage");
    assert!(tokens.len() >= 2000, "{} tokens fit", tokens.len());
    disk.fill();
    loop_until_full(&service).await;
    for id in tokens.iter().rev().take(200) {
        disk.fill_up();
        service.admin().delete(&format!("/tokens/{id}")).await.expect(StatusCode::NO_CONTENT);
    }
}

/// Makes users until one cannot be written; gives how many were acknowledged, and the refusal.
async fn loop_until_full(service: &TestService) -> (u32, Answer) {
    for number in 0..5000 {
        let answer = service.admin().post("/users", json!({"name": format!("user{number}")})).await;
        if answer.status != StatusCode::CREATED {
            return (number, answer);
        }
    }
    panic!("the disk is not full");
}

/// Holds a lock that every change of a verdict needs for 10 seconds.
async fn a_lock_of_ten_seconds(service: TestService, url: &str, lock: &'static str) {
    let own = service.user_with("alice", &[]).await;
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(url).await.unwrap();
    for statement in lock.split(';') {
        other.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "a lock is held for real time")]
    let begun = Instant::now();
    let (mut changes, mut verdicts) = (Vec::new(), 0);
    for _ in 0..3 {
        let (client, path) = (service.admin(), format!("/tokens/{}", own.id));
        changes.push(tokio::spawn(async move { client.delete(&path).await }));
    }
    while begun.elapsed() < Duration::from_secs(10) {
        assert_usable(&service, &own).await;
        verdicts += 1;
    }
    assert!(verdicts > 50, "{verdicts} verdicts in 10 s");
    for change in changes {
        assert!(change.is_finished(), "a caller waits for longer than 10 s");
        let refused = change.await.unwrap();
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable".to_owned())
        );
        assert_eq!(refused.header("retry-after"), ["1"]);
    }
    assert_eq!(readiness(&service).await.status, StatusCode::OK);
    assert!(metrics(&service).await.contains(r#"latchkey_writes_failed_total{kind="unavailable"}"#));
    other.execute("COMMIT").await.unwrap();
    assert_usable(&service, &own).await;
    service.admin().delete(&format!("/tokens/{}", own.id)).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(verdict(&service, &own).await["reason"], "revoked");
}

#[tokio::test]
async fn a_sqlite_file_that_is_locked_for_ten_seconds_gives_verdicts_and_refuses_changes() {
    let service = TestService::impatient(None).await;
    let url = service.database_url.to_string();
    a_lock_of_ten_seconds(service, &url, "BEGIN IMMEDIATE").await;
}

#[tokio::test]
async fn a_postgres_history_that_is_locked_for_ten_seconds_gives_verdicts_and_refuses_changes() {
    let url = postgres::shared().database();
    let service = TestService::impatient(Some(url.parse().unwrap())).await;
    a_lock_of_ten_seconds(service, &url, "BEGIN;UPDATE history SET revision = revision").await;
}

/// `/readyz` asks what look-ups ask.
#[tokio::test]
async fn a_postgres_table_of_tokens_that_is_locked_makes_the_service_not_ready() {
    let url = postgres::shared().database();
    let service = TestService::impatient(Some(url.parse().unwrap())).await;
    readiness(&service).await.expect(StatusCode::OK);
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(&url).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    other.execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..2 {
        let answer = readiness(&service).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        let says = answer.json()["checks"]["database"].as_str().unwrap().to_owned();
        assert!(says.starts_with("does not answer"), "{says}");
    }
    other.execute("COMMIT").await.unwrap();
    eventually("it is ready again", async || readiness(&service).await.status == StatusCode::OK).await;
}

/// While somebody reads an old state of the database, its log grows with each change; afterwards the disk gets that back.
#[tokio::test]
async fn a_log_that_has_grown_under_a_long_reader_shrinks_when_the_reader_is_gone() {
    const LARGE: u64 = 16 * 1024 * 1024;
    let service = TestService::start().await;
    service.make_user("owner").await;
    let path = service.database_url.to_string();
    let path = path.strip_prefix("sqlite://").unwrap().to_owned();
    let log = format!("{path}-wal");
    sqlx::any::install_default_drivers();
    let mut reader = AnyConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    reader.execute("BEGIN").await.unwrap();
    let users = "SELECT COUNT(*) FROM users";
    let before: i64 = sqlx::query_scalar(users).fetch_one(&mut reader).await.unwrap();
    let mut imported = 0;
    while std::fs::metadata(&log).unwrap().len() < 2 * LARGE {
        let hash = |n: usize| format!("{:064x}", imported + n);
        let batch: Vec<_> =
            (0..500).map(|n| json!({"token_hash": hash(n), "name": "old", "expires_in": "30d"})).collect();
        let body = json!({"tokens": batch, "ignore_restrictions": true});
        #[expect(clippy::disallowed_methods, reason = "nobody waits for the reader")]
        let begun = Instant::now();
        service.admin().post("/users/owner/tokens:import", body).await.expect(StatusCode::OK);
        assert!(begun.elapsed() < Duration::from_secs(60), "a change waits for the reader");
        imported += 500;
    }
    service.store.shrink_log().await.unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() >= 2 * LARGE, "it was cut under a reader");
    let still: i64 = sqlx::query_scalar(users).fetch_one(&mut reader).await.unwrap();
    assert_eq!(still, before, "the reader sees another state");

    reader.execute("COMMIT").await.unwrap();
    eventually("the log shrinks", async || std::fs::metadata(&log).unwrap().len() <= LARGE).await;
    service.make_user("another").await;
}

/// Waits until a condition holds, for at most two minutes: a busy machine is no failure.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let held = tokio::time::timeout(Duration::from_secs(120), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    });
    held.await.unwrap_or_else(|_| panic!("{what}: not within two minutes"));
}

/// The file of the database is moved away and back under the service.
#[tokio::test]
async fn a_sqlite_file_that_has_moved_refuses_changes_and_look_ups_and_readyz_says_so_until_it_is_back() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let file = service.database_url.to_string();
    let file = file.strip_prefix("sqlite://").unwrap().to_owned();
    let away = format!("{file}.away");
    let before = service.state().await;
    std::fs::rename(&file, &away).unwrap();
    for _ in 0..3 {
        let made = service.admin().post("/users", json!({"name": "lost"})).await;
        assert_eq!((made.status.as_u16(), made.code()), (503, "unavailable".into()));
        let question = json!({"token_hash": TokenHash::of(own.token.as_bytes())});
        let asked = service.edge().request(Method::POST, "/edge/v1/verify").json(&question);
        assert_eq!(Answer::to(asked).await.status, StatusCode::SERVICE_UNAVAILABLE);
        let ready = readiness(&service).await.expect(StatusCode::SERVICE_UNAVAILABLE).json();
        let says = ready["checks"]["database"].as_str().unwrap().to_owned();
        assert!(says.starts_with("is not used: the database file") && says.contains(" is gone"), "{says}");
    }
    std::fs::rename(&away, &file).unwrap();
    readiness(&service).await.expect(StatusCode::OK);
    assert_eq!(service.state().await, before, "a refused change was made");
    assert_usable(&service, &own).await;
    service.admin().post("/users", json!({"name": "found"})).await.expect(StatusCode::CREATED);
}

/// What `/readyz` says of the database, once it answers so.
async fn readiness_until(service: &TestService, status: StatusCode) -> Value {
    eventually("another readiness", async || readiness(service).await.status == status).await;
    readiness(service).await.expect(status).json()["checks"]["database"].clone()
}

#[tokio::test]
async fn a_postgres_that_turns_read_only_is_named_by_readyz_and_is_no_source_of_verdicts() {
    let cluster = postgres::Cluster::start(false);
    let url = cluster.database();
    let service = TestService::start_on(Some(url.parse().unwrap()), None).await;
    let own = service.user_with("alice", &[]).await;
    let before = service.state().await;
    let set = |value: &str| {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        cluster.sql("postgres", "SELECT pg_reload_conf()");
    };
    set("on");
    let said = readiness_until(&service, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(said, json!("is read-only; the log names it"));
    let question = json!({"token_hash": TokenHash::of(own.token.as_bytes())});
    let asked = service.edge().request(Method::POST, "/edge/v1/verify").json(&question);
    assert_eq!(Answer::to(asked).await.status, StatusCode::SERVICE_UNAVAILABLE);
    set("off");
    assert_eq!(readiness_until(&service, StatusCode::OK).await, json!("ok"));
    assert_usable(&service, &own).await;
    assert_eq!(before, service.state().await);
}
