//! Tokens that are there: listed, revoked, and deleted once expired.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestService, text};

#[tokio::test]
async fn a_user_sees_its_tokens_and_those_of_nobody_else() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.make_token("alice", json!({"name": "second", "expires_in": "1m"})).await;
    service.user_with("bob", &[]).await;
    service.clock.advance(Duration::from_secs(120));
    let alice = service.with(&own.token);
    assert_snapshot!(alice.get("/users/alice/tokens").await.show(), @r#"
    200 OK
    {
      "items": [
        {
          "allowed_cidrs": [],
          "created_at": "2026-01-01T00:00:02Z",
          "description": null,
          "expires_at": "2027-01-01T00:00:02Z",
          "expires_in_seconds": 31535877,
          "hint": "[hint]",
          "id": "[id]",
          "last_used_at": null,
          "made_by": "[id]",
          "name": "own",
          "revoked_at": null,
          "schemes": [
            "bearer",
            "basic"
          ],
          "scopes": [
            "latchkey:tokens"
          ],
          "status": "active",
          "user": "alice"
        },
        {
          "allowed_cidrs": [],
          "created_at": "2026-01-01T00:00:03Z",
          "description": null,
          "expires_at": "2026-01-01T00:01:03Z",
          "expires_in_seconds": 0,
          "hint": "[hint]",
          "id": "[id]",
          "last_used_at": null,
          "made_by": "[id]",
          "name": "second",
          "revoked_at": null,
          "schemes": [
            "bearer",
            "basic"
          ],
          "scopes": [],
          "status": "expired",
          "user": "alice"
        }
      ],
      "next_cursor": null
    }
    "#);
}

#[tokio::test]
async fn a_users_tokens_are_listed_in_pages() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.make_token("alice", json!({"name": "second"})).await;
    let alice = service.with(&own.token);
    let first = alice.get("/users/alice/tokens?limit=1").await.json();
    let cursor = text(&first["next_cursor"]);
    let second = alice.get(&format!("/users/alice/tokens?limit=1&cursor={cursor}")).await.json();
    assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("second"), &Value::Null));
}

#[tokio::test]
async fn a_user_that_never_was_has_no_list() {
    let service = TestService::start().await;
    let answer = service.refused(&service.admin(), Method::GET, "/users/nobody/tokens", None).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "user_not_found"));
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_revoking_is_repeatable() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let path = format!("/tokens/{}", own.id);
    for _ in ["once", "twice"] {
        let answer = service.admin().delete(&path).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(answer.text, "");
        let refused = service.refused(&service.with(&own.token), Method::GET, "/me", None).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::UNAUTHORIZED, "api_key_invalid"));
        service.clock.advance(Duration::from_secs(1));
    }
    let shown = service.admin().get(&path).await.json();
    assert_eq!((&shown["status"], &shown["revoked_at"]), (&json!("revoked"), &json!("2026-01-01T00:00:02Z")));
}

#[tokio::test]
async fn a_token_that_never_was_is_not_found() {
    let service = TestService::start().await;
    for id in ["01900000-0000-7000-8000-000000000000", "x", "%00", "lk_secret"] {
        for method in [Method::GET, Method::DELETE] {
            let answer = service.refused(&service.admin(), method, &format!("/tokens/{id}"), None).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::NOT_FOUND, "token_not_found"),
                "{id}"
            );
            assert!(!answer.text.contains(id), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn all_of_a_users_expired_tokens_are_deleted_and_no_others() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let mut short = Vec::new();
    for _ in 0..3 {
        short.push(service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await.id);
    }
    let bobs = service.user_with("bob", &[]).await;
    service.make_token("bob", json!({"name": "short", "expires_in": "1m"})).await;
    service.clock.advance(Duration::from_secs(120));
    let alice = service.with(&own.token);
    for query in [
        "",
        "?status=active",
        "?status=revoked",
        "?status=",
        "?status=expired&user=bob",
        "?status=expired&limit=0",
        "?status=expired&limit=10001",
        "?status=expired&limit=all",
    ] {
        let path = format!("/users/alice/tokens{query}");
        let answer = service.refused(&alice, Method::DELETE, &path, None).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_query"),
            "{query}"
        );
    }
    assert_snapshot!(alice.delete("/users/alice/tokens").await.show(), @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_query",
        "message": "Only expired tokens can be deleted together: add `?status=expired`",
        "parameter": "status",
        "status": "ERROR"
      }
    }
    "#);
    assert_snapshot!(alice.delete("/users/alice/tokens?status=expired").await.show(), @r#"
    200 OK
    {
      "deleted": 3,
      "more": false
    }
    "#);
    for id in short {
        alice.get(&format!("/tokens/{id}")).await.expect(StatusCode::NOT_FOUND);
    }
    service.with(&bobs.token).get("/me").await.expect(StatusCode::OK);
    let bobs = service.admin().get("/users/bob/tokens").await.json();
    assert_eq!(bobs["items"].as_array().unwrap().len(), 2);
    let again = alice.delete("/users/alice/tokens?status=expired").await.expect(StatusCode::OK);
    assert_eq!(again.json(), json!({"deleted": 0, "more": false}));
}
