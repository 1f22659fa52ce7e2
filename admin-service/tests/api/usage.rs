//! `POST /edge/v1/usage`: reports count once, and what is no report changes nothing.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};

use crate::support::{Answer, Client, TestService, text};

const PATH: &str = "/edge/v1/usage";

async fn send(edge: &Client, body: &Value) -> Answer {
    Answer::to(edge.request(Method::POST, PATH).json(body)).await
}

/// A report to which a body is to be added.
fn post(service: &TestService) -> reqwest::RequestBuilder {
    service.edge().request(Method::POST, PATH).header("content-type", "application/json")
}

fn entry(token_id: &str) -> Value {
    json!({"token_id": token_id, "allowed": 2, "denied": 1, "last_used_ms_ago": 1_500})
}

fn report(sequence: u64, token_id: &str) -> Value {
    json!({"edge": "vm_1-a", "sequence": sequence, "usage": [entry(token_id)]})
}

/// All that reports can change, as the database holds it.
pub(crate) async fn kept(service: &TestService) -> Vec<String> {
    sqlx::any::install_default_drivers();
    let mut database = AnyConnection::connect(&service.database_url.to_string()).await.unwrap();
    let mut kept = Vec::new();
    for (select, show) in [
        ("SELECT name, last_sequence, seen_at FROM edges", edge as fn(&AnyRow) -> String),
        ("SELECT hour, allowed, denied FROM usage_hours", numbers),
        ("SELECT last_used_at, 0, 0 FROM tokens WHERE last_used_at IS NOT NULL", numbers),
    ] {
        kept.extend(sqlx::query(select).fetch_all(&mut database).await.unwrap().iter().map(show));
    }
    kept
}

fn edge(row: &AnyRow) -> String {
    let (last, seen): (i64, i64) = (row.get(1), row.get(2));
    format!("{} {last} {seen}", row.get::<String, _>(0))
}

fn numbers(row: &AnyRow) -> String {
    let numbers: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    format!("{numbers:?}")
}

#[tokio::test]
async fn a_report_is_accepted_and_the_token_shows_when_it_was_last_used() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.clock.advance(Duration::from_secs(600));
    let answer = send(&service.edge(), &report(1, &own.id)).await;
    assert_snapshot!(answer.show(), @r#"
    202 Accepted
    {
      "epoch": "[id]",
      "revision": 0
    }
    "#);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    let path = format!("/tokens/{}", own.id);
    let token = service.with(&own.token).get(&path).await.expect(StatusCode::OK).json();
    assert_eq!(token["last_used_at"], "2026-01-01T00:10:00Z");
    let list = service.with(&own.token).get("/users/alice/tokens").await.expect(StatusCode::OK).json();
    assert_eq!(list["items"][0]["last_used_at"], "2026-01-01T00:10:00Z");
    assert_eq!(send(&service.edge().http2(), &report(2, &own.id)).await.text, answer.text);
}

#[tokio::test]
async fn a_report_that_comes_again_is_accepted_and_changes_nothing() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let first = send(&service.edge(), &report(5, &own.id)).await.expect(StatusCode::ACCEPTED);
    let (before, state) = (kept(&service).await, service.state().await);
    assert_eq!(before.len(), 3);
    service.clock.advance(Duration::from_secs(3_600));
    for sequence in [5, 4] {
        let again = send(&service.edge(), &report(sequence, &own.id)).await.expect(StatusCode::ACCEPTED);
        assert_eq!(again.text, first.text);
        assert_eq!((kept(&service).await, service.state().await), (before.clone(), state.clone()));
    }
    send(&service.edge(), &report(6, &own.id)).await.expect(StatusCode::ACCEPTED);
    assert_ne!(kept(&service).await, before);
}

/// What is no report, with the field that the refusal names.
fn no_reports(id: &str) -> Vec<(Value, Option<&'static str>)> {
    let with = |name: &str, value: Value| {
        let mut report = report(1, id);
        report[name] = value;
        report
    };
    let with_entry = |name: &str, value: Value| {
        let mut entries = vec![entry(id), entry(id)];
        entries[1][name] = value;
        with("usage", json!(entries))
    };
    let most = i64::MAX.unsigned_abs();
    vec![
        (json!([]), None),
        (json!({}), None),
        (json!({"edge": "a", "sequence": 1}), None),
        (json!({"edge": "a", "sequence": 1, "usage": [{}]}), Some("usage[0]")),
        (with("more", json!(1)), Some("more")),
        (with("edge", json!(null)), Some("edge")),
        (with("edge", json!("")), Some("edge")),
        (with("edge", json!("a".repeat(65))), Some("edge")),
        (with("edge", json!("a b")), Some("edge")),
        (with("sequence", json!("1")), Some("sequence")),
        (with("sequence", json!(-1)), Some("sequence")),
        (with("sequence", json!(1.5)), Some("sequence")),
        (with("sequence", json!(most + 1)), Some("sequence")),
        (with("usage", json!({})), Some("usage")),
        (with("usage", json!([[id, 1, 1, 1]])), Some("usage[0]")),
        (with("usage", json!(vec![entry(id); 1_001])), Some("usage")),
        (with_entry("more", json!(1)), Some("usage[1].more")),
        (with_entry("token_id", json!("x")), Some("usage[1].token_id")),
        (with_entry("token_id", json!(null)), Some("usage[1].token_id")),
        (with_entry("allowed", json!(-1)), Some("usage[1].allowed")),
        (with_entry("denied", json!(1e30)), Some("usage[1].denied")),
        (with_entry("last_used_ms_ago", json!("1")), Some("usage[1].last_used_ms_ago")),
        (with_entry("allowed", json!(u64::MAX)), Some("usage")),
        (with_entry("denied", json!(most)), Some("usage")),
        (with_entry("denied", json!(most / 4)), Some("usage[1].denied")),
    ]
}

#[tokio::test]
async fn what_is_no_report_is_refused_and_changes_nothing() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let before = (kept(&service).await, service.state().await);
    for (body, field) in no_reports(&own.id) {
        let shown = body.to_string().chars().take(200).collect::<String>();
        let answer = send(&service.edge(), &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{shown}: {}", answer.show());
        assert_eq!(answer.code(), "invalid_body", "{shown}");
        if let Some(field) = field {
            assert_eq!(answer.json()["error"]["field"], field, "{shown}: {}", answer.show());
        }
        assert_eq!((kept(&service).await, service.state().await), before, "{shown}");
    }
    let broken = Answer::to(post(&service).body("{")).await;
    assert_eq!((broken.status, broken.code().as_str()), (StatusCode::BAD_REQUEST, "malformed_json"));
    let huge = Answer::to(post(&service).body(" ".repeat(300_000))).await;
    assert_eq!((huge.status, huge.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    let get = Answer::to(service.edge().request(Method::GET, PATH)).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, vec!["POST".to_owned()]));
    assert_eq!((kept(&service).await, service.state().await), before);
    send(&service.edge(), &report(1, &own.id)).await.expect(StatusCode::ACCEPTED);
    assert_ne!(kept(&service).await, before.0);
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong_and_repeats_nothing_that_may_be_a_token() {
    let service = TestService::start().await;
    let token = service.admin_token.clone();
    let wrong = json!({"edge": "vm", "sequence": 1, "usage": [entry("x")]});
    assert_snapshot!(send(&service.edge(), &wrong).await.show(), @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_body",
        "field": "usage[0].token_id",
        "message": "Field `usage[0].token_id` must be a UUID",
        "status": "ERROR"
      }
    }
    "#);
    let mut named = report(1, &token);
    named[&token] = json!(1);
    let mut field = entry("x");
    field[&token] = json!(1);
    for body in [
        report(1, &token),
        named,
        json!({"edge": format!("{token} {token}"), "sequence": 1, "usage": []}),
        json!({"edge": "a", "sequence": token, "usage": []}),
        json!({"edge": "a", "sequence": 1, "usage": token}),
        json!({"edge": "a", "sequence": 1, "usage": [token]}),
        json!({"edge": "a", "sequence": 1, "usage": [field]}),
    ] {
        let answer = send(&service.edge(), &body).await.expect(StatusCode::BAD_REQUEST);
        assert!(!answer.text.contains(&token), "{}", answer.text);
    }
}

#[tokio::test]
async fn the_largest_report_is_counted() {
    let service = TestService::start().await;
    let entries = (0..1_000).map(|n| {
        let id = format!("ffffffff-ffff-7fff-bfff-{n:012x}");
        json!({"token_id": id, "allowed": 1_800_000, "denied": 1_800_000, "last_used_ms_ago": u64::MAX})
    });
    let edge = "e".repeat(64);
    let body = json!({"edge": edge, "sequence": i64::MAX, "usage": entries.collect::<Vec<_>>()});
    send(&service.edge(), &body).await.expect(StatusCode::ACCEPTED);
    assert_eq!(kept(&service).await, [format!("{edge} {} 1767225600000", i64::MAX)]);
}

#[tokio::test]
async fn with_a_secret_nobody_else_reports() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let own = service.user_with("alice", &[]).await;
    let before = (kept(&service).await, service.state().await);
    let with = |value: String| {
        let request = service.edge().request(Method::POST, PATH).header("authorization", value);
        Answer::to(request.json(&report(1, &own.id)))
    };
    for bad in ["Bearer wrong".to_owned(), format!("Bearer {}", service.admin_token)] {
        let answer = with(bad).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(answer.code(), "edge_secret_invalid");
    }
    let missing = send(&service.edge(), &report(1, &own.id)).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(missing.code(), "edge_secret_invalid");
    assert_eq!((kept(&service).await, service.state().await), before);
    with("Bearer correct-edge-secret".to_owned()).await.expect(StatusCode::ACCEPTED);
    assert_ne!(kept(&service).await, before.0);
}

#[tokio::test]
async fn while_the_database_is_away_no_report_is_accepted() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = send(&service.edge(), &report(1, "ffffffff-ffff-7fff-bfff-000000000001")).await;
    assert_snapshot!(answer.show(), @r#"
    503 Service Unavailable
    {
      "error": {
        "code": "unavailable",
        "message": "The service cannot count usage now; send the same report again",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(answer.header("retry-after"), ["1"]);
}

#[tokio::test]
async fn reports_are_counted_by_what_became_of_them() {
    let service = TestService::start().await;
    let id = "ffffffff-ffff-7fff-bfff-000000000001";
    for _ in 0..2 {
        send(&service.edge(), &report(1, id)).await.expect(StatusCode::ACCEPTED);
    }
    send(&service.edge(), &json!({})).await.expect(StatusCode::BAD_REQUEST);
    service.store.close().await;
    send(&service.edge(), &report(2, id)).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    let metrics = Answer::to(service.monitoring().request(Method::GET, "/metrics")).await;
    for outcome in ["counted", "repeated", "refused", "unavailable"] {
        let line = format!("latchkey_usage_reports_total{{outcome=\"{outcome}\"}}");
        assert!(metrics.text.contains(&line), "{line} is not in\n{}", metrics.text);
    }
}

#[tokio::test]
async fn the_management_listener_takes_no_reports() {
    let service = TestService::start().await;
    let elsewhere = service.admin().request(Method::POST, PATH).json(&report(1, "x"));
    assert_eq!(text(&Answer::to(elsewhere).await.json()["error"]["code"]), "not_found");
}
