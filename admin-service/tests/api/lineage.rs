//! Tokens that make tokens, tokens that look at themselves, and revocations with all that a token made.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Made, TestService, text};

/// Makes a token of alice's with another one.
async fn make(service: &TestService, maker: &Made, spec: Value) -> Made {
    let made = service.with(&maker.token).post("/users/alice/tokens", spec).await;
    let made = made.expect(StatusCode::CREATED).json();
    Made { id: text(&made["id"]), token: text(&made["token"]) }
}

/// Lifts the limits, but for the one of a token's maker.
async fn unlimited(service: &TestService, outlive_maker: bool) {
    let limits = json!({
        "max_lifetime": null, "max_tokens_per_user": null, "outlive_maker": outlive_maker,
        "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
    });
    service.admin().put("/restrictions", limits).await.expect(StatusCode::OK);
}

/// The revision that a revocation tells.
async fn revoke(service: &TestService, path: &str) -> u64 {
    let answer = service.admin().delete(path).await.expect(StatusCode::NO_CONTENT);
    answer.header("latchkey-revision")[0].parse().unwrap()
}

#[tokio::test]
async fn a_token_of_three_seconds_and_one_scheme_makes_none_that_is_more() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec =
        json!({"name": "ci", "scopes": ["latchkey:tokens"], "schemes": ["bearer"], "expires_in": "3s"});
    let maker = service.make_token("alice", spec).await;
    let client = service.with(&maker.token);
    let path = "/users/alice/tokens";
    let far = json!({"name": "far", "expires_at": "2099-01-01T00:00:00Z"});
    unlimited(&service, false).await;
    let refused = service.refused(&client, Method::POST, path, Some(far.clone())).await;
    assert_snapshot!(refused.show(), @r#"
    422 Unprocessable Entity
    {
      "error": {
        "asked_for": "2099-01-01T00:00:00Z",
        "code": "outlives_maker",
        "latest_expires_at": "2026-01-01T00:00:05Z",
        "message": "A token cannot give an expiry later than its own, which is 2026-01-01T00:00:05Z; 2099-01-01T00:00:00Z was asked for. Use a token that expires later, or have an administrator set `outlive_maker`",
        "status": "ERROR"
      }
    }
    "#);
    let both = json!({"name": "both", "schemes": ["bearer", "basic"]});
    let refused = service.refused(&client, Method::POST, path, Some(both)).await;
    assert_snapshot!(refused.show(), @r#"
    403 Forbidden
    {
      "error": {
        "code": "schemes_too_wide",
        "message": "A token cannot give schemes that it lacks itself: `schemes` must be among bearer",
        "schemes": [
          "bearer"
        ],
        "status": "ERROR"
      }
    }
    "#);
    let made = client.post(path, json!({"name": "same"})).await.expect(StatusCode::CREATED).json();
    let facts = (&made["expires_at"], &made["schemes"], &made["made_by"]);
    assert_eq!(facts, (&json!("2026-01-01T00:00:05Z"), &json!(["bearer"]), &json!(maker.id)));
    unlimited(&service, true).await;
    client.post(path, far).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_revocation_takes_what_the_token_made_if_it_is_asked_to_and_tells_its_revision() {
    let service = TestService::start().await;
    let root = service.user_with("alice", &["latchkey:tokens"]).await;
    let spec = json!({"name": "child", "scopes": ["latchkey:tokens"]});
    let child = make(&service, &root, spec).await;
    let grandchild = make(&service, &child, json!({"name": "grandchild"})).await;
    let other = service.make_token("alice", json!({"name": "other"})).await;
    let me = async |made: &Made| service.with(&made.token).get("/me").await.status.as_u16();
    let first = revoke(&service, &format!("/tokens/{}", root.id)).await;
    assert_eq!((me(&root).await, me(&child).await, me(&grandchild).await), (401, 200, 200));
    let second = revoke(&service, &format!("/tokens/{}?with_descendants=true", root.id)).await;
    assert_eq!((me(&child).await, me(&grandchild).await, me(&other).await), (401, 401, 200));
    let position = service.store.position().await.unwrap().revision.0;
    assert_eq!((first, second), (position - 1, position));
    assert_eq!(revoke(&service, &format!("/tokens/{}", root.id)).await, position, "repeated");
    let path = format!("/tokens/{}?with_descendants=yes", other.id);
    let refused = service.refused(&service.admin(), Method::DELETE, &path, None).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_query"));
}

#[tokio::test]
async fn a_plain_token_sees_itself_and_its_user_and_revokes_itself() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let bobs = service.user_with("bob", &[]).await;
    let client = service.with(&own.token);
    let shown = client.get("/tokens/self").await.expect(StatusCode::OK);
    assert_eq!(shown.json(), service.admin().get(&format!("/tokens/{}", own.id)).await.json());
    let me = client.get("/me").await.json();
    let path = text(&me["self"]).split_once("/api/v1").unwrap().1.to_owned();
    assert_eq!(client.get(&path).await.expect(StatusCode::OK).json(), me);
    for other in ["/users/bob", "/users/nobody"] {
        let refused = service.refused(&client, Method::GET, other, None).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    }
    service.clock.advance(Duration::from_secs(1));
    let revoked = client.delete("/tokens/self").await.expect(StatusCode::NO_CONTENT);
    let position = service.store.position().await.unwrap().revision.0;
    assert_eq!(revoked.header("latchkey-revision"), [position.to_string()]);
    client.get("/me").await.expect(StatusCode::UNAUTHORIZED);
    let ended = service.admin().get(&format!("/tokens/{}", own.id)).await.json();
    assert_eq!(ended["status"], "revoked");
    service.with(&bobs.token).get("/me").await.expect(StatusCode::OK);
}
