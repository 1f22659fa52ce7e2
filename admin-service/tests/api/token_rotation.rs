//! `POST /tokens/{id}/rotate`: a new secret, an overlap, and calls that are repeated.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Made, TestService, text};

async fn rotate(service: &TestService, old: &Made, body: Value) -> Made {
    let answer = service.admin().post(&format!("/tokens/{}/rotate", old.id), body).await;
    let made = answer.expect(StatusCode::CREATED).json();
    Made { id: text(&made["id"]), token: text(&made["token"]) }
}

async fn works(service: &TestService, made: &Made) -> bool {
    service.with(&made.token).get("/me").await.status == StatusCode::OK
}

#[tokio::test]
async fn a_rotated_token_is_shown_once_with_the_headers_ready_to_paste() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({
        "name": "ci", "expires_in": "30d", "scopes": ["read"], "allowed_cidrs": ["127.0.0.0/8"],
        "schemes": ["bearer"], "description": "for the build",
    });
    let old = service.make_token("alice", spec).await;
    service.clock.advance(Duration::from_secs(86_400));
    let request = service.admin().request(Method::POST, &format!("/api/v1/tokens/{}/rotate", old.id));
    let answer = crate::support::Answer::to(request).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    {
      "allowed_cidrs": [
        "127.0.0.0/8"
      ],
      "authorization": {
        "bearer": "Bearer [token]"
      },
      "created_at": "2026-01-02T00:00:02Z",
      "description": "for the build",
      "expires_at": "2026-02-01T00:00:02Z",
      "expires_in_seconds": 2592000,
      "hint": "[hint]",
      "id": "[id]",
      "last_used_at": null,
      "made_by": "[id]",
      "name": "ci",
      "revoked_at": null,
      "schemes": [
        "bearer"
      ],
      "scopes": [
        "read"
      ],
      "status": "active",
      "token": "[token]",
      "user": "alice"
    }
    "#);
    let new = answer.json();
    assert_eq!(answer.header("location"), [format!("/api/v1/tokens/{}", text(&new["id"]))]);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    let new = Made { id: text(&new["id"]), token: text(&new["token"]) };
    assert!(new.id != old.id && new.token != old.token);
    assert!(works(&service, &new).await && !works(&service, &old).await);
    let ended = service.admin().get(&format!("/tokens/{}", old.id)).await.json();
    assert_eq!((&ended["status"], &ended["revoked_at"]), (&json!("revoked"), &json!("2026-01-02T00:00:02Z")));
}

#[tokio::test]
async fn with_an_overlap_both_work_until_it_ends() {
    let service = TestService::start().await;
    let old = service.user_with("alice", &[]).await;
    let new = rotate(&service, &old, json!({"overlap": "1h", "expires_in": "2d"})).await;
    assert!(works(&service, &new).await && works(&service, &old).await);
    let shown = service.admin().get(&format!("/tokens/{}", old.id)).await.json();
    assert_eq!((&shown["status"], &shown["expires_in_seconds"]), (&json!("active"), &json!(3600)));
    service.clock.advance(Duration::from_secs(3600));
    assert!(works(&service, &new).await && !works(&service, &old).await);
    let shown = service.admin().get(&format!("/tokens/{}", new.id)).await.json();
    assert_eq!(shown["expires_in_seconds"], json!(2 * 86_400 - 3600));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_repeated_until_the_successor_is_used() {
    let service = TestService::start().await;
    let old = service.user_with("alice", &[]).await;
    let lost = rotate(&service, &old, json!({})).await;
    let new = rotate(&service, &old, json!({})).await;
    assert!(!works(&service, &lost).await);
    assert!(works(&service, &new).await);
    let path = format!("/tokens/{}/rotate", old.id);
    let answer = service.refused(&service.admin(), Method::POST, &path, Some(json!({}))).await;
    assert_eq!(answer.json()["error"]["successor"], json!(new.id));
    assert_snapshot!(answer.show().replace(&new.id, "[id]"), @r#"
    409 Conflict
    {
      "error": {
        "code": "token_rotated",
        "message": "The token was rotated already, and its successor is in use: rotate [id]",
        "status": "ERROR",
        "successor": "[id]"
      }
    }
    "#);
}

#[tokio::test]
async fn what_has_ended_is_not_rotated() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.clock.advance(Duration::from_secs(60));
    for (made, status) in [(revoked, "revoked"), (expired, "expired")] {
        let path = format!("/tokens/{}/rotate", made.id);
        let answer = service.refused(&service.admin(), Method::POST, &path, Some(json!({}))).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "token_not_active"));
        assert_eq!(answer.json()["error"]["token_status"], json!(status));
    }
    for id in ["01900000-0000-7000-8000-000000000000", "alice", "%00"] {
        let path = format!("/tokens/{id}/rotate");
        let answer = service.refused(&service.admin(), Method::POST, &path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "token_not_found"));
    }
}

#[tokio::test]
async fn rotations_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    let made = service.user_with("alice", &[]).await;
    let path = format!("/tokens/{}/rotate", made.id);
    let mut shown = String::new();
    for body in [
        json!({"overlap": "31d"}),
        json!({"overlap": "-1h"}),
        json!({"overlap": 3600}),
        json!({"overlap": "a".repeat(10_000)}),
        json!({"expires_in": "0s"}),
        json!({"expires_in": "soon"}),
        json!({"expires_in": "366d"}),
        json!({"expires_at": "2026-06-01T00:00:00Z"}),
        json!({"scopes": ["latchkey:admin"]}),
        json!(null),
    ] {
        let answer = service.refused(&service.admin(), Method::POST, &path, Some(body)).await;
        let error = &answer.json()["error"];
        shown += &format!("{} {}\n", answer.status.as_u16(), error["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    422 `overlap` must be at most "30d", and is "31d"
    422 `overlap` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    400 Field `overlap`: invalid type: integer `3600`, expected a string
    422 `overlap` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    422 `expires_in` must be longer than none
    422 `expires_in` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    422 A token may live for at most 365d: until 2027-01-01T00:00:02Z; 366d was asked for
    400 Unknown field `expires_at`, expected `overlap` or `expires_in`
    400 Unknown field `scopes`, expected `overlap` or `expires_in`
    400 The body must be a JSON object
    "#);
}

#[tokio::test]
async fn a_user_rotates_its_own_tokens_within_what_it_holds() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens", "read"]).await;
    let weaker = service.make_token("alice", json!({"name": "w", "scopes": ["read"]})).await;
    let stronger =
        service.make_token("alice", json!({"name": "s", "scopes": ["read", "latchkey:admin"]})).await;
    let bobs = service.user_with("bob", &[]).await;
    let alice = service.with(&own.token);
    alice.post(&format!("/tokens/{}/rotate", weaker.id), json!({})).await.expect(StatusCode::CREATED);
    let path = format!("/tokens/{}/rotate", stronger.id);
    let answer = service.refused(&alice, Method::POST, &path, Some(json!({}))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    let path = format!("/tokens/{}/rotate", bobs.id);
    let answer = service.refused(&alice, Method::POST, &path, Some(json!({}))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "token_not_found"));
    // The token that it calls with, too.
    alice.post(&format!("/tokens/{}/rotate", own.id), json!({})).await.expect(StatusCode::CREATED);
    alice.get("/me").await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_looks_a_successor_up_takes_it_into_use() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    for (place, path) in ["verify", "authz", "introspect", "management"].into_iter().enumerate() {
        let old = service.make_token("alice", json!({"name": format!("token {place}")})).await;
        let new = rotate(&service, &old, json!({"overlap": "1h"})).await;
        let edge = |path: &str| service.edge().request(Method::POST, &format!("/edge/v1/{path}"));
        let request = match path {
            "verify" => edge(path).json(&json!({"token_hash": TokenHash::of(new.token.as_bytes())})),
            "authz" => edge(path).bearer_auth(&new.token),
            "introspect" => edge(path)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!("token={}", new.token)),
            _ => service.with(&new.token).request(Method::GET, "/api/v1/me"),
        };
        crate::support::Answer::to(request).await.expect(StatusCode::OK);
        let again = format!("/tokens/{}/rotate", old.id);
        let refused = service.refused(&service.admin(), Method::POST, &again, Some(json!({}))).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::CONFLICT, "token_rotated"),
            "{path}"
        );
        assert!(works(&service, &new).await, "{path}");
    }
}
