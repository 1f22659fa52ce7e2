//! `POST /edge/v1/introspect`: RFC 7662, for services that check a token themselves.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, TestService, text};

const PATH: &str = "/edge/v1/introspect";
const SECRET: &str = "correct-edge-secret";

fn ask(service: &TestService, parameters: &[(&str, &str)]) -> RequestBuilder {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect::<String>()
    };
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    service
        .edge()
        .request(Method::POST, PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(pairs.collect::<Vec<_>>().join("&"))
}

async fn answer(service: &TestService, parameters: &[(&str, &str)]) -> Value {
    Answer::to(ask(service, parameters)).await.expect(StatusCode::OK).json()
}

fn inactive() -> Value {
    json!({"active": false})
}

#[tokio::test]
async fn a_token_that_may_be_used_is_active_and_described() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({"name": "ci", "scopes": ["read", "write"], "expires_in": "1h"});
    let own = service.make_token("alice", spec).await;
    let asked =
        Answer::to(ask(&service, &[("token", &own.token), ("token_type_hint", "refresh_token")])).await;
    assert_snapshot!(asked.show(), @r#"
    200 OK
    {
      "active": true,
      "exp": 1767229202,
      "iat": 1767225602,
      "jti": "[id]",
      "scope": "read write",
      "sub": "[id]",
      "token_type": "Bearer",
      "username": "alice"
    }
    "#);
    assert_eq!(asked.header("content-type"), ["application/json"]);
    assert_eq!(asked.header("cache-control"), ["no-store"]);
    let user = service.admin().get("/users/alice").await.json();
    assert_eq!((&asked.json()["jti"], &asked.json()["sub"]), (&json!(own.id), &user["key"]));
    let hash = TokenHash::of(own.token.as_bytes()).to_string();
    assert_eq!(answer(&service, &[("token_hash", &hash)]).await, asked.json());
}

#[tokio::test]
async fn what_may_not_be_used_is_inactive_and_nothing_else_is_said() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await.token;
    let disabled = service.user_with("bob", &[]).await.token;
    service.clock.advance(Duration::from_secs(60));
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
    let state = service.state().await;
    let huge = "x".repeat(20_000);
    for token in [revoked.token.as_str(), &expired, &disabled, "lk_never_made", "a b\0ü", &huge] {
        assert_eq!(answer(&service, &[("token", token)]).await, inactive(), "{token}");
    }
    assert_eq!(state, service.state().await);
}

#[tokio::test]
async fn a_token_that_is_bound_to_networks_is_active_for_a_client_there_alone() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({"name": "bound", "allowed_cidrs": ["192.0.2.0/24"], "schemes": ["basic"]});
    let bound = service.make_token("alice", spec).await.token;
    let here = answer(&service, &[("token", &bound), ("client_address", "192.0.2.9")]).await;
    assert_eq!((&here["active"], &here["token_type"]), (&json!(true), &json!("Basic")));
    assert_eq!(here.get("scope"), None, "no scope is no empty one");
    assert_eq!(answer(&service, &[("token", &bound)]).await, inactive());
    assert_eq!(answer(&service, &[("token", &bound), ("client_address", "203.0.113.1")]).await, inactive());
}

#[tokio::test]
async fn what_is_no_question_is_refused_in_oauths_words_and_no_token_is_repeated() {
    let service = TestService::start().await;
    let token = service.admin_token.clone();
    let hash = TokenHash::of(token.as_bytes()).to_string();
    let json = service.edge().request(Method::POST, PATH).json(&json!({"token": token}));
    for request in [
        ask(&service, &[]),
        ask(&service, &[("token", "")]),
        ask(&service, &[("token", &token), ("token", &token)]),
        ask(&service, &[("token", &token), ("token_hash", &hash)]),
        ask(&service, &[("token_hash", &token)]),
        ask(&service, &[("token", &token), ("client_address", &token)]),
        json,
    ] {
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.show());
        assert_eq!(answer.json()["error"], "invalid_request");
        assert!(answer.json().get("active").is_none() && !answer.text.contains(&token));
    }
    let huge = Answer::to(ask(&service, &[("token", &"x".repeat(70_000))])).await;
    assert_eq!(
        (huge.status, &huge.json()["error"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("invalid_request"))
    );
    let get = service.edge().request(Method::GET, &format!("{PATH}?token={token}"));
    assert_eq!(Answer::to(get).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn nobody_asks_without_the_edge_secret() {
    let service = TestService::start_with(Some(SECRET)).await;
    let token = &service.admin_token;
    let asking = || ask(&service, &[("token", token)]);
    for good in [asking().bearer_auth(SECRET), asking().basic_auth("orders", Some(SECRET))] {
        assert_eq!(Answer::to(good).await.json()["active"], true);
    }
    for bad in [
        asking(),
        asking().bearer_auth("wrong"),
        asking().basic_auth(SECRET, Some("wrong")),
        asking().basic_auth("orders", None::<&str>),
        asking().basic_auth("orders", Some(SECRET)).bearer_auth(SECRET),
        asking().header("authorization", "Basic x"),
        asking().bearer_auth(token),
    ] {
        let answer = Answer::to(bad).await;
        assert_eq!(
            (answer.status, text(&answer.json()["error"])),
            (StatusCode::UNAUTHORIZED, "invalid_client".into())
        );
        assert_eq!(
            answer.header("www-authenticate"),
            [r#"Bearer realm="edge""#, r#"Basic realm="edge", charset="UTF-8""#]
        );
    }
}

#[tokio::test]
async fn while_the_database_is_away_no_token_is_inactive() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = Answer::to(ask(&service, &[("token", &service.admin_token)])).await;
    assert_snapshot!(answer.show(), @r#"
    503 Service Unavailable
    {
      "error": "temporarily_unavailable",
      "error_description": "The service cannot look tokens up now; try again"
    }
    "#);
    assert_eq!(answer.header("retry-after"), ["1"]);
}
