//! Who changes too much is slowed, and nobody's revocation is.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey_admin::changes::DEFAULT_LIMIT;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, Client, Made, TestService, text};

const TOKENS: &str = "/users/alice/tokens";

/// Makes a token and revokes it.
async fn churn(client: &Client) -> Answer {
    let made = client.post(TOKENS, json!({"name": "churn"})).await;
    if made.status.is_success() {
        let path = format!("/tokens/{}", text(&made.json()["id"]));
        client.delete(&path).await.expect(StatusCode::NO_CONTENT);
    }
    made
}

async fn exhausted(service: &TestService) -> (Made, Client) {
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let client = service.with(&own.token);
    for _ in 0..DEFAULT_LIMIT {
        churn(&client).await.expect(StatusCode::CREATED);
    }
    (own, client)
}

#[tokio::test]
async fn who_makes_and_revokes_in_a_loop_is_told_when_to_come_again() {
    let service = TestService::start().await;
    let (own, client) = exhausted(&service).await;
    let refused = service.refused(&client, Method::POST, TOKENS, Some(json!({"name": "more"}))).await;
    assert_snapshot!(refused.show(), @r#"
    429 Too Many Requests
    {
      "error": {
        "code": "too_many_changes",
        "limit": 120,
        "message": "The user alice has changed too much: 120 are allowed at once, then 2 a second; the next in 1 s. Revocations are not counted",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(refused.header("retry-after"), ["1"]);
    let path = format!("/tokens/{}", own.id);
    for (method, path, body) in [
        (Method::PATCH, path.clone(), Some(json!({"name": "renamed"}))),
        (Method::POST, format!("{path}/rotate"), None),
    ] {
        let refused = service.refused(&client, method, &path, body).await;
        assert_eq!(refused.code(), "too_many_changes", "{path}");
    }
    service.clock.advance(Duration::from_millis(500));
    churn(&client).await.expect(StatusCode::CREATED);
    assert_eq!(churn(&client).await.code(), "too_many_changes");
}

#[tokio::test]
async fn reads_revocations_other_users_and_administrators_are_not_slowed() {
    let service = TestService::start().await;
    let spare = service.user_with("alice", &[]).await;
    service.admin().delete(&format!("/tokens/{}", spare.id)).await.expect(StatusCode::NO_CONTENT);
    service.make_user("bob").await;
    let bob = service.make_token("bob", json!({"name": "own", "scopes": ["latchkey:tokens"]})).await;
    let own = service.make_token("alice", json!({"name": "own", "scopes": ["latchkey:tokens"]})).await;
    let client = service.with(&own.token);
    // A body that is refused costs nothing.
    for _ in 0..=DEFAULT_LIMIT {
        client.post(TOKENS, json!({"name": ""})).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    for _ in 0..DEFAULT_LIMIT {
        churn(&client).await.expect(StatusCode::CREATED);
    }
    assert_eq!(churn(&client).await.code(), "too_many_changes");
    client.get(TOKENS).await.expect(StatusCode::OK);
    service
        .with(&bob.token)
        .post("/users/bob/tokens", json!({"name": "b"}))
        .await
        .expect(StatusCode::CREATED);
    service.admin().post(TOKENS, json!({"name": "for alice"})).await.expect(StatusCode::CREATED);
    client.delete(&format!("{TOKENS}?status=expired")).await.expect(StatusCode::OK);
    client.delete(&format!("/tokens/{}", own.id)).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_limit_is_a_setting_and_0_is_none() {
    for (limit, expected) in [(1, StatusCode::TOO_MANY_REQUESTS), (0, StatusCode::CREATED)] {
        let service = TestService::configured(|config| config.max_changes = limit).await;
        let own = service.user_with("alice", &["latchkey:tokens"]).await;
        let client = service.with(&own.token);
        churn(&client).await.expect(StatusCode::CREATED);
        churn(&client).await.expect(expected);
    }
}
