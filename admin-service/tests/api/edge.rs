//! `POST /edge/v1/verify`: verdicts, and who gets them.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Client, TestService, text};

pub async fn verify(edge: &Client, token: &str) -> Answer {
    let question = json!({"token_hash": TokenHash::of(token.as_bytes()).to_string()});
    Answer::to(edge.request(Method::POST, "/edge/v1/verify").json(&question)).await
}

#[tokio::test]
async fn a_usable_token_is_described_to_the_edge() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({"name": "ci", "expires_in": "1h", "scopes": ["read"], "schemes": ["bearer"], "allowed_cidrs": ["10.0.0.0/8"]});
    let own = service.make_token("alice", spec).await;
    let answer = verify(&service.edge(), &own.token).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    {
      "epoch": "[id]",
      "revision": 0,
      "token": {
        "allowed_cidrs": [
          "10.0.0.0/8"
        ],
        "expires_in_ms": 3600000,
        "id": "[id]",
        "name": "ci",
        "schemes": [
          "bearer"
        ],
        "scopes": [
          "read"
        ],
        "user": "alice"
      },
      "token_hash": "[hash]"
    }
    "#);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    assert_eq!(verify(&service.edge().http2(), &own.token).await.text, answer.text);
}

#[tokio::test]
async fn what_may_not_be_used_is_refused_with_its_reason() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    let disabled = service.user_with("bob", &[]).await;
    service.clock.advance(Duration::from_secs(60));
    let revision = |answer: &Answer| answer.json()["revision"].as_u64().unwrap();
    let before = revision(&verify(&service.edge(), &revoked.token).await);
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
    for (token, reason, denied) in [
        (revoked.token.as_str(), "revoked", json!({"id": revoked.id, "user": "alice"})),
        (&expired.token, "expired", json!({"id": expired.id, "user": "alice"})),
        (&disabled.token, "user_disabled", json!({"id": disabled.id, "user": "bob"})),
        ("lk_never_made", "unknown", Value::Null),
    ] {
        let answer = verify(&service.edge(), token).await.expect(StatusCode::OK);
        let body = answer.json();
        assert_eq!((&body["reason"], &body["token"]), (&json!(reason), &Value::Null));
        assert_eq!(body["denied_token"], denied, "{reason}");
        assert_eq!(body["token_hash"], json!(TokenHash::of(token.as_bytes()).to_string()));
        assert!(body["epoch"].is_string());
        assert_eq!(revision(&answer), before + 2, "{reason}");
    }
}

#[tokio::test]
async fn with_a_secret_nobody_else_gets_a_verdict() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let token = service.admin_token.clone();
    let with = |value: &str| {
        let question = json!({"token_hash": TokenHash::of(token.as_bytes()).to_string()});
        Answer::to(
            service
                .edge()
                .request(Method::POST, "/edge/v1/verify")
                .header("authorization", value)
                .json(&question),
        )
    };
    for good in ["Bearer correct-edge-secret", "bearer correct-edge-secret"] {
        with(good).await.expect(StatusCode::OK);
    }
    let missing = verify(&service.edge(), &token).await;
    assert_snapshot!(missing.show(), @r#"
    401 Unauthorized
    {
      "error": {
        "code": "edge_secret_invalid",
        "message": "The edge secret is missing or wrong: send `Authorization: Bearer <edge secret>`",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(missing.header("www-authenticate"), [r#"Bearer realm="edge""#]);
    for bad in [
        "Bearer wrong",
        "Bearer correct-edge-secre",
        "Bearer correct-edge-secret2",
        "Bearer",
        "Basic correct-edge-secret",
        "correct-edge-secret",
        &format!("Bearer {token}"),
    ] {
        let answer = with(bad).await;
        assert_eq!((answer.status, &answer.text), (StatusCode::UNAUTHORIZED, &missing.text), "{bad}");
    }
    let twice = service
        .edge()
        .request(Method::POST, "/edge/v1/verify")
        .header("authorization", "Bearer correct-edge-secret");
    let twice = Answer::to(twice.header("authorization", "Bearer correct-edge-secret")).await;
    assert_eq!(twice.status, StatusCode::UNAUTHORIZED);
}

/// A question to which a body is to be added.
fn question(service: &TestService) -> reqwest::RequestBuilder {
    service.edge().request(Method::POST, "/edge/v1/verify").header("content-type", "application/json")
}

#[tokio::test]
async fn what_is_no_question_gets_no_verdict() {
    let service = TestService::start().await;
    let hash = TokenHash::of(b"x").to_string();
    for body in [
        String::new(),
        "x".to_owned(),
        "{}".to_owned(),
        json!({"token_hash": ""}).to_string(),
        json!({"token_hash": &hash[1..]}).to_string(),
        json!({"token_hash": format!("{hash}0")}).to_string(),
        json!({"token_hash": hash, "more": 1}).to_string(),
        json!([hash]).to_string(),
    ] {
        let answer = Answer::to(question(&service).body(body.clone())).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.json().get("token").is_none());
    }
    let huge = question(&service).body(" ".repeat(70_000));
    assert_eq!(Answer::to(huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let get = Answer::to(service.edge().request(Method::GET, "/edge/v1/verify")).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, vec!["POST".to_owned()]));
}

#[tokio::test]
async fn while_the_database_is_away_there_is_no_verdict() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = verify(&service.edge(), &service.admin_token).await;
    assert_snapshot!(answer.show(), @r#"
    503 Service Unavailable
    {
      "error": {
        "code": "unavailable",
        "message": "The service cannot look tokens up now; try again",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(answer.header("retry-after"), ["1"]);
}

#[tokio::test]
async fn the_edge_listener_answers_edges_alone() {
    let service = TestService::start().await;
    let me = service.edge().request(Method::GET, "/api/v1/me").bearer_auth(&service.admin_token);
    assert_eq!(Answer::to(me).await.status, StatusCode::NOT_FOUND);
    let question = json!({"token_hash": TokenHash::of(b"x").to_string()});
    let elsewhere = service.admin().request(Method::POST, "/edge/v1/verify").json(&question);
    assert_eq!(text(&Answer::to(elsewhere).await.json()["error"]["code"]), "not_found");
}
