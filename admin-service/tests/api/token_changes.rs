//! `PATCH /tokens/{id}`, and what a caller whose own token is limited may give to others.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Made, TestService, text};

async fn patch(service: &TestService, made: &Made, patch: Value) -> Value {
    let path = format!("/tokens/{}", made.id);
    service.admin().patch(&path, patch).await.expect(StatusCode::OK).json()
}

#[tokio::test]
async fn a_change_touches_the_given_fields_and_null_gives_the_default_back() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({"name": "ci", "description": "for the build", "expires_in": "1d"});
    let made = service.make_token("alice", spec).await;
    let before = service.admin().get(&format!("/tokens/{}", made.id)).await.json();
    assert_eq!(patch(&service, &made, json!({})).await, before);
    let change = json!({
        "name": "deploy", "scopes": ["read", "write"], "allowed_cidrs": ["127.0.0.1"],
        "expires_at": "2026-03-01T01:00:00.0009+01:00",
    });
    let changed = patch(&service, &made, change).await;
    assert_eq!(changed["name"], json!("deploy"));
    assert_eq!(changed["description"], json!("for the build"));
    assert_eq!(changed["scopes"], json!(["read", "write"]));
    assert_eq!(changed["allowed_cidrs"], json!(["127.0.0.1/32"]));
    assert_eq!(changed["expires_at"], json!("2026-03-01T00:00:00Z"));
    assert_eq!(service.admin().get(&format!("/tokens/{}", made.id)).await.json(), changed);
    let change = json!({"description": null, "scopes": [], "allowed_cidrs": [], "expires_at": null});
    let changed = patch(&service, &made, change).await;
    assert_eq!(changed["description"], Value::Null);
    assert_eq!((&changed["scopes"], &changed["allowed_cidrs"]), (&json!([]), &json!([])));
    assert_eq!(changed["expires_at"], json!("2027-01-01T00:00:02Z"), "a year after it was made");
}

#[tokio::test]
async fn a_change_holds_for_the_next_request() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let alice = service.with(&own.token);
    alice.get("/users/alice/tokens").await.expect(StatusCode::OK);
    patch(&service, &own, json!({"scopes": []})).await;
    let answer = service.refused(&alice, Method::GET, "/users/alice/tokens", None).await;
    assert_eq!(answer.code(), "insufficient_scope");
    patch(&service, &own, json!({"allowed_cidrs": ["192.0.2.0/24"]})).await;
    let answer = service.refused(&alice, Method::GET, "/me", None).await;
    assert_eq!(answer.code(), "address_not_permitted");
}

#[tokio::test]
async fn changes_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    let made = service.user_with("alice", &[]).await;
    let path = format!("/tokens/{}", made.id);
    let mut shown = String::new();
    for change in [
        json!({"name": ""}),
        json!({"name": null}),
        json!({"name": "a".repeat(10_000)}),
        json!({"name": "<b>"}),
        json!({"name": "a\u{202e}b"}),
        json!({"description": "a\u{0}b"}),
        json!({"description": 7}),
        json!({"scopes": null}),
        json!({"scopes": ["a b"]}),
        json!({"scopes": "read"}),
        json!({"allowed_cidrs": null}),
        json!({"allowed_cidrs": ["10.1.2.3/8"]}),
        json!({"expires_at": "soon"}),
        json!({"expires_at": "2026-01-01T00:00:02Z"}),
        json!({"expires_in": "1d"}),
        json!({"schemes": ["basic"]}),
        json!({"user": "bob"}),
    ] {
        let answer = service.refused(&service.admin(), Method::PATCH, &path, Some(change)).await;
        let error = &answer.json()["error"];
        shown += &format!("{} {}\n", answer.status.as_u16(), error["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    422 `name` must have 1 to 100 characters, and has 0
    400 Field `name`: invalid type: null, expected a string
    422 `name` must have 1 to 100 characters, and has 10000
    422 `name` must not contain '<' or '>'
    422 `name` must not contain characters that are not seen, and has U+202E RIGHT-TO-LEFT OVERRIDE at column 2
    422 `description` must not contain characters that are not seen, and has U+0000 a control character at column 2
    400 Field `description`: invalid type: integer `7`, expected a string
    400 Field `scopes`: invalid type: null, expected an array
    422 `scopes` must be 1 to 64 printable ASCII characters without space, '"' and '\' (RFC 6749)
    400 Field `scopes`: invalid type: string, expected an array
    400 Field `allowed_cidrs`: invalid type: null, expected an array
    422 `allowed_cidrs` must hold networks without bits after their prefix: 10.0.0.0/8 and not 10.1.2.3/8
    422 `expires_at` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    422 A token must expire in the future: it is 2026-01-01T00:00:02Z, and 2026-01-01T00:00:02Z was asked for
    400 Unknown field `expires_in`, expected one of `name`, `description`, `scopes`, `allowed_cidrs`, `expires_at`
    400 Unknown field `schemes`, expected one of `name`, `description`, `scopes`, `allowed_cidrs`, `expires_at`
    400 Unknown field `user`, expected one of `name`, `description`, `scopes`, `allowed_cidrs`, `expires_at`
    "#);
}

#[tokio::test]
async fn an_expiry_beyond_the_longest_lifetime_is_refused_with_that_lifetime() {
    let service = TestService::start().await;
    let made = service.user_with("alice", &[]).await;
    service.clock.advance(Duration::from_secs(86_400));
    let path = format!("/tokens/{}", made.id);
    let change = json!({"name": "other", "expires_at": "2027-01-02T00:00:00Z"});
    let answer = service.refused(&service.admin(), Method::PATCH, &path, Some(change)).await;
    assert_snapshot!(answer.show(), @r#"
    422 Unprocessable Entity
    {
      "error": {
        "asked_for": "2027-01-02T00:00:00Z",
        "code": "expiry_too_long",
        "latest_expires_at": "2027-01-01T00:00:02Z",
        "limit_of": "service",
        "max_lifetime": "365d",
        "message": "A token may live for at most 365d: until 2027-01-01T00:00:02Z; 2027-01-02T00:00:00Z was asked for",
        "status": "ERROR"
      }
    }
    "#);
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_not_changed() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.clock.advance(Duration::from_secs(60));
    let mut shown = String::new();
    for id in [revoked.id, expired.id] {
        let change = Some(json!({"name": "other", "expires_at": null}));
        let answer = service.refused(&service.admin(), Method::PATCH, &format!("/tokens/{id}"), change).await;
        shown += &format!("{}\n", answer.show());
    }
    assert_snapshot!(shown, @r#"
    409 Conflict
    {
      "error": {
        "code": "token_not_active",
        "message": "The token is revoked, and stays so; make another",
        "status": "ERROR",
        "token_status": "revoked"
      }
    }
    409 Conflict
    {
      "error": {
        "code": "token_not_active",
        "message": "The token is expired, and stays so; make another",
        "status": "ERROR",
        "token_status": "expired"
      }
    }
    "#);
}

#[tokio::test]
async fn a_user_changes_its_own_tokens_within_what_it_holds() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens", "read"]).await;
    let stronger = service.make_token("alice", json!({"name": "s", "scopes": ["read", "write"]})).await;
    let bobs = service.user_with("bob", &[]).await;
    let alice = service.with(&own.token);
    alice.patch(&format!("/tokens/{}", own.id), json!({"name": "laptop"})).await.expect(StatusCode::OK);
    let path = format!("/tokens/{}", stronger.id);
    for more in [json!({"scopes": ["read", "write", "delete"]}), json!({"scopes": ["latchkey:admin"]})] {
        let answer = service.refused(&alice, Method::PATCH, &path, Some(more)).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    }
    let less =
        json!({"scopes": ["write"], "allowed_cidrs": ["127.0.0.0/8"], "expires_at": "2026-02-01T00:00:00Z"});
    alice.patch(&path, less).await.expect(StatusCode::OK);
    let answer = service.refused(&alice, Method::PATCH, &path, Some(json!({"expires_at": null}))).await;
    assert_snapshot!(answer.show(), @r#"
    403 Forbidden
    {
      "error": {
        "code": "insufficient_scope",
        "lacking_scopes": [
          "write"
        ],
        "message": "A token cannot give scopes that it lacks itself: write",
        "status": "ERROR"
      }
    }
    "#);
    let path = format!("/tokens/{}", bobs.id);
    let answer = service.refused(&alice, Method::PATCH, &path, Some(json!({"name": "mine"}))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "token_not_found"));
}

#[tokio::test]
async fn a_token_that_is_bound_to_networks_gives_no_others() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let bound = json!({"name": "b", "scopes": ["latchkey:tokens"], "allowed_cidrs": ["127.0.0.0/8"]});
    let own = service.make_token("alice", bound).await;
    let alice = service.with(&own.token);
    let made =
        alice.post("/users/alice/tokens", json!({"name": "t"})).await.expect(StatusCode::CREATED).json();
    assert_eq!(made["allowed_cidrs"], json!(["127.0.0.0/8"]), "as the caller's, where nothing is said");
    for networks in [json!([]), json!(["127.0.0.1", "192.0.2.1"]), json!(["0.0.0.0/0"])] {
        let spec = Some(json!({"name": "t", "allowed_cidrs": networks}));
        let answer = service.refused(&alice, Method::POST, "/users/alice/tokens", spec).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "networks_too_wide"));
    }
    for id in [&text(&made["id"]), &own.id] {
        let change = Some(json!({"allowed_cidrs": []}));
        let answer = service.refused(&alice, Method::PATCH, &format!("/tokens/{id}"), change).await;
        insta::allow_duplicates! { assert_snapshot!(answer.show(), @r#"
        403 Forbidden
        {
          "error": {
            "code": "networks_too_wide",
            "message": "A token that is bound to networks cannot give others: `allowed_cidrs` must lie within 127.0.0.0/8",
            "networks": [
              "127.0.0.0/8"
            ],
            "status": "ERROR"
          }
        }
        "#); }
    }
    let narrower = json!({"name": "t", "allowed_cidrs": ["127.0.0.1"]});
    alice.post("/users/alice/tokens", narrower).await.expect(StatusCode::CREATED);
    // An administrator makes tokens for elsewhere from its desk.
    let bound = json!({"name": "b", "scopes": ["latchkey:admin"], "allowed_cidrs": ["127.0.0.0/8"]});
    let admin = service.with(&service.make_token("alice", bound).await.token);
    let made =
        admin.post("/users/alice/tokens", json!({"name": "t"})).await.expect(StatusCode::CREATED).json();
    assert_eq!(made["allowed_cidrs"], json!([]));
}
