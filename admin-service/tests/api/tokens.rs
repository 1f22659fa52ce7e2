//! Tokens: made within the restrictions, shown once, used with their schemes.

use std::time::Duration;

use base64::Engine;
use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestService, text};

#[tokio::test]
async fn a_new_token_is_shown_once_with_the_headers_ready_to_paste() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({
        "name": "ci", "expires_in": "30d", "scopes": ["read", "write"], "allowed_cidrs": ["127.0.0.0/8", "::1"],
        "description": "for the build",
    });
    let answer = service.admin().post("/users/alice/tokens", spec).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    {
      "allowed_cidrs": [
        "127.0.0.0/8",
        "::1/128"
      ],
      "authorization": {
        "basic": "Basic [base64]",
        "bearer": "Bearer [token]"
      },
      "created_at": "2026-01-01T00:00:01Z",
      "description": "for the build",
      "expires_at": "2026-01-31T00:00:01Z",
      "expires_in_seconds": 2592000,
      "hint": "[hint]",
      "id": "[id]",
      "last_used_at": null,
      "made_by": "[id]",
      "name": "ci",
      "revoked_at": null,
      "schemes": [
        "bearer",
        "basic"
      ],
      "scopes": [
        "read",
        "write"
      ],
      "status": "active",
      "token": "[token]",
      "user": "alice"
    }
    "#);
    let made = answer.json();
    assert_eq!(answer.header("location"), [format!("/api/v1/tokens/{}", text(&made["id"]))]);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    let token = text(&made["token"]);
    assert_eq!(made["authorization"]["bearer"], json!(format!("Bearer {token}")));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("alice:{token}"));
    assert_eq!(made["authorization"]["basic"], json!(format!("Basic {basic}")));
    for scheme in ["bearer", "basic"] {
        let me = service.authorized(text(&made["authorization"][scheme])).get("/me").await;
        assert_eq!(me.expect(StatusCode::OK).json()["name"], json!("alice"));
    }
    let mut shown =
        service.admin().get(&format!("/tokens/{}", text(&made["id"]))).await.expect(StatusCode::OK).json();
    assert!(!shown.to_string().contains(&token));
    for field in ["token", "authorization"] {
        shown[field] = made[field].clone();
    }
    assert_eq!(shown, made);
}

#[tokio::test]
async fn a_token_for_one_scheme_shows_and_serves_that_one_alone() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    for (scheme, other) in [("bearer", "basic"), ("basic", "bearer")] {
        let spec = json!({"name": scheme, "schemes": [scheme]});
        let made = service.admin().post("/users/alice/tokens", spec).await.expect(StatusCode::CREATED).json();
        assert_eq!(made["authorization"].as_object().unwrap().len(), 1);
        assert!(made["authorization"][other].is_null());
        service.authorized(text(&made["authorization"][scheme])).get("/me").await.expect(StatusCode::OK);
        let token = text(&made["token"]);
        let wrong = match other {
            "bearer" => format!("Bearer {token}"),
            _ => format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(format!("alice:{token}"))
            ),
        };
        let refused = service.refused(&service.authorized(wrong), Method::GET, "/me", None).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::UNAUTHORIZED, "api_key_invalid"));
    }
}

#[tokio::test]
async fn a_token_expires_when_it_was_asked_to_or_as_late_as_is_allowed() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    for (spec, expires_at, seconds) in [
        (json!({"name": "t"}), "2027-01-01T00:00:01Z", 365 * 86_400),
        (json!({"name": "t", "expires_in": null, "expires_at": null}), "2027-01-01T00:00:01Z", 365 * 86_400),
        (json!({"name": "t", "expires_in": "90m"}), "2026-01-01T01:30:01Z", 5400),
        (json!({"name": "t", "expires_in": "365d"}), "2027-01-01T00:00:01Z", 365 * 86_400),
        (
            json!({"name": "t", "expires_at": "2026-01-02T01:00:00.0015+01:00"}),
            "2026-01-02T00:00:00.001Z",
            86_400,
        ),
    ] {
        let made = service
            .admin()
            .post("/users/alice/tokens", spec.clone())
            .await
            .expect(StatusCode::CREATED)
            .json();
        assert_eq!(
            (&made["expires_at"], &made["expires_in_seconds"]),
            (&json!(expires_at), &json!(seconds)),
            "{spec}"
        );
    }
}

#[tokio::test]
async fn without_a_longest_lifetime_a_token_lives_for_ever() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let free = json!({
        "max_lifetime": null, "max_tokens_per_user": null,
        "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
    });
    service.admin().put("/restrictions", free).await.expect(StatusCode::OK);
    let made = service.make_token("alice", json!({"name": "t"})).await;
    let shown = service.admin().get(&format!("/tokens/{}", made.id)).await.json();
    assert_eq!((&shown["expires_at"], &shown["expires_in_seconds"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn tokens_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let mut shown = String::new();
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("a\u{7}b")),
        ("name", json!("a".repeat(101))),
        ("description", json!("a".repeat(501))),
        ("expires_in", json!("soon")),
        ("expires_in", json!("0s")),
        ("expires_in", json!("-1d")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", json!("2025-12-31T00:00:00Z")),
        ("schemes", json!([])),
        ("schemes", json!(["digest"])),
        ("scopes", json!(["a b"])),
        ("scopes", json!([""])),
        ("scopes", (0..33).map(|n| json!(format!("s{n}"))).collect()),
        ("allowed_cidrs", json!(["10.0.0.0/40"])),
        ("allowed_cidrs", json!(["10.1.2.3/8"])),
    ] {
        let mut spec = json!({"name": "t"});
        spec[field] = value;
        let answer = service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(spec)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value")
        );
        let error = &answer.json()["error"];
        shown += &format!("{}: {}\n", error["field"].as_str().unwrap(), error["message"].as_str().unwrap());
    }
    let both = json!({"name": "t", "expires_in": "1d", "expires_at": "2026-06-01T00:00:00Z"});
    let answer = service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(both)).await;
    shown += answer.json()["error"]["message"].as_str().unwrap();
    assert_snapshot!(shown, @r#"
    name: `name` must have 1 to 100 characters, and has 0
    name: `name` must not contain characters that are not seen, and has U+0007 a control character at column 2
    name: `name` must have 1 to 100 characters, and has 101
    description: `description` must have 0 to 500 characters, and has 501
    expires_in: `expires_in` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    expires_in: `expires_in` must be longer than none
    expires_in: `expires_in` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    expires_at: `expires_at` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    expires_at: A token must expire in the future: it is 2026-01-01T00:00:01Z, and 2025-12-31T00:00:00Z was asked for
    schemes: `schemes` must hold at least one of "bearer" and "basic"
    schemes: `schemes` must hold only "bearer" and "basic"
    scopes: `scopes` must be 1 to 64 printable ASCII characters without space, '"' and '\' (RFC 6749)
    scopes: `scopes` must be 1 to 64 printable ASCII characters without space, '"' and '\' (RFC 6749)
    scopes: `scopes` must hold at most 32 scopes, and 33 are given
    allowed_cidrs: `allowed_cidrs` must hold networks such as "10.0.0.0/8" or addresses such as "2001:db8::1"
    allowed_cidrs: `allowed_cidrs` must hold networks without bits after their prefix: 10.0.0.0/8 and not 10.1.2.3/8
    `expires_in` and `expires_at` cannot both be given: choose one
    "#);
}

#[tokio::test]
async fn texts_that_mislead_those_who_read_them_are_refused() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let mut shown = String::new();
    for (field, value) in [
        ("name", "<script>alert(1)</script>".to_owned()),
        ("name", "a\u{202e}b".to_owned()),
        ("name", "a".repeat(10_000)),
        ("description", "a\u{200f}b".to_owned()),
        ("description", "a\nb".to_owned()),
    ] {
        let mut spec = json!({"name": "t"});
        spec[field] = json!(value);
        let answer = service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(spec)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        shown += &format!("{}\n", answer.json()["error"]["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    `name` must not contain '<' or '>'
    `name` must not contain characters that are not seen, and has U+202E RIGHT-TO-LEFT OVERRIDE at column 2
    `name` must have 1 to 100 characters, and has 10000
    `description` must not contain characters that are not seen, and has U+200F RIGHT-TO-LEFT MARK at column 2
    `description` must not contain characters that are not seen, and has U+000A a control character at column 2
    "#);
}

#[tokio::test]
async fn an_expiry_beyond_the_longest_lifetime_is_refused_with_that_lifetime_and_what_was_asked_for() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    for (field, asked) in [("expires_in", "366d"), ("expires_at", "2027-01-01T00:00:01.001Z")] {
        let spec = json!({"name": "t", field: asked});
        let answer = service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(spec)).await;
        let shown = answer.show().replace(asked, "[asked for]");
        insta::allow_duplicates! { assert_snapshot!(shown, @r#"
        422 Unprocessable Entity
        {
          "error": {
            "asked_for": "[asked for]",
            "code": "expiry_too_long",
            "latest_expires_at": "2027-01-01T00:00:01Z",
            "limit_of": "service",
            "max_lifetime": "365d",
            "message": "A token may live for at most 365d: until 2027-01-01T00:00:01Z; [asked for] was asked for",
            "status": "ERROR"
          }
        }
        "#); }
    }
}

#[tokio::test]
async fn at_the_limit_no_token_is_made_until_one_is_revoked_or_expired() {
    let service = TestService::start().await;
    let first = service.user_with("alice", &[]).await;
    for _ in 0..8 {
        service.make_token("alice", json!({"name": "t"})).await;
    }
    service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    let spec = json!({"name": "one too many"});
    let answer =
        service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(spec.clone())).await;
    assert_snapshot!(answer.show(), @r#"
    409 Conflict
    {
      "error": {
        "code": "token_limit_reached",
        "count": 10,
        "limit": 10,
        "limit_of": "service",
        "message": "The user has 10 live tokens, and the limit is 10; revoke one before making another",
        "status": "ERROR"
      }
    }
    "#);
    service.clock.advance(Duration::from_secs(60));
    service.make_token("alice", spec.clone()).await;
    service.refused(&service.admin(), Method::POST, "/users/alice/tokens", Some(spec.clone())).await;
    service.admin().delete(&format!("/tokens/{}", first.id)).await.expect(StatusCode::NO_CONTENT);
    service.make_token("alice", spec).await;
}

#[tokio::test]
async fn a_user_manages_its_own_tokens_with_scopes_that_it_has() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens", "read"]).await;
    let alice = service.with(&own.token);
    let made = alice.post("/users/alice/tokens", json!({"name": "ci", "scopes": ["read"]})).await;
    let id = text(&made.expect(StatusCode::CREATED).json()["id"]);
    alice.get(&format!("/tokens/{id}")).await.expect(StatusCode::OK);
    alice.delete(&format!("/tokens/{id}")).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(alice.get(&format!("/tokens/{id}")).await.json()["status"], json!("revoked"));
    for scopes in [json!(["write"]), json!(["read", "latchkey:admin"])] {
        let spec = Some(json!({"name": "more", "scopes": scopes}));
        let answer = service.refused(&alice, Method::POST, "/users/alice/tokens", spec).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    }
    let spec = Some(json!({"name": "more", "scopes": ["read", "write", "latchkey:admin"]}));
    let answer = service.refused(&alice, Method::POST, "/users/alice/tokens", spec).await;
    let challenge = r#"Bearer realm="api", error="insufficient_scope", scope="write latchkey:admin""#;
    assert_eq!(answer.header("www-authenticate"), [challenge]);
    assert_snapshot!(answer.show(), @r#"
    403 Forbidden
    {
      "error": {
        "code": "insufficient_scope",
        "lacking_scopes": [
          "write",
          "latchkey:admin"
        ],
        "message": "A token cannot give scopes that it lacks itself: write latchkey:admin",
        "status": "ERROR"
      }
    }
    "#);
}
