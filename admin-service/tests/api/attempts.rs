//! Failed authentications are limited for each source, and cost nobody else anything: not even a valid token from there.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey_admin::attempts::MOST as MOST_FAILED;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, Client, TestService};

const UNKNOWN: &str = "lk_0000000000000000000000000000000000000000000000000";

/// Asks the management API with a token that is none, as often as the limit allows and once more; gives the last answer.
async fn fail_too_often(service: &TestService) -> Answer {
    let client = service.with(UNKNOWN);
    for _ in 0..MOST_FAILED {
        client.get("/me").await.expect(StatusCode::UNAUTHORIZED);
    }
    client.get("/me").await
}

/// Asks for a gateway whose client is at an address.
async fn gateway(edge: &Client, path: &str, token: &str, address: &str) -> Answer {
    let request = edge.request(Method::GET, path).bearer_auth(token).header("x-forwarded-for", address);
    Answer::to(request).await
}

#[tokio::test]
async fn who_fails_too_often_is_told_when_to_come_again_and_a_valid_token_passes_meanwhile() {
    let service = TestService::start().await;
    let refused = fail_too_often(&service).await;
    assert_snapshot!(refused.show(), @r#"
    429 Too Many Requests
    {
      "error": {
        "code": "too_many_failures",
        "limit": 300,
        "message": "Too many authentications from this address have failed: 300 are allowed at once, then 5 a second; the next in 1 s",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(refused.header("retry-after"), ["1"]);
    assert!(refused.header("www-authenticate").is_empty());
    service.admin().get("/me").await.expect(StatusCode::OK);
    service.anonymous().get("/me").await.expect(StatusCode::UNAUTHORIZED);
    let before = service.state().await;
    let create = service.with(UNKNOWN).post("/users", json!({"name": "mallory"})).await;
    assert_eq!((create.status, before), (StatusCode::TOO_MANY_REQUESTS, service.state().await));
    service.clock.advance(Duration::from_millis(200));
    service.with(UNKNOWN).get("/me").await.expect(StatusCode::UNAUTHORIZED);
    service.with(UNKNOWN).get("/me").await.expect(StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn missing_credentials_and_good_ones_without_a_scope_are_no_failures() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    for _ in 0..=MOST_FAILED {
        service.anonymous().get("/me").await.expect(StatusCode::UNAUTHORIZED);
        service.with(&own.token).get("/users").await.expect(StatusCode::FORBIDDEN);
    }
    service.with(UNKNOWN).get("/me").await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn clients_of_a_gateway_are_limited_each_by_itself() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let (edge, path) = (service.edge(), "/edge/v1/authz");
    for _ in 0..MOST_FAILED {
        let answer = gateway(&edge, path, UNKNOWN, "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    for path in [path, "/edge/v1/authz-refusal"] {
        let answer = gateway(&edge, path, UNKNOWN, "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(
            answer.json(),
            json!({"error": {"status": "ERROR", "message": "Too many failed attempts"}})
        );
        assert_eq!(answer.header("content-type"), ["application/json"]);
        assert_eq!(answer.header("retry-after"), ["1"]);
    }
    let passes = gateway(&edge, path, &own.token, "192.0.2.1").await;
    assert_eq!(passes.status, StatusCode::OK, "a valid token is locked out by others' failures");
    for other in ["192.0.2.2", "2001:db8::1"] {
        assert_eq!(gateway(&edge, path, UNKNOWN, other).await.status, StatusCode::UNAUTHORIZED, "{other}");
    }
    let metrics = Answer::to(service.monitoring().request(Method::GET, "/metrics")).await.text;
    assert!(metrics.contains(r#"latchkey_authz_total{outcome="too_many_failures"}"#), "{metrics}");
}

#[tokio::test]
async fn asking_in_which_words_to_refuse_counts_no_failure() {
    let service = TestService::start().await;
    for _ in 0..=MOST_FAILED {
        let answer = gateway(&service.edge(), "/edge/v1/authz-refusal", UNKNOWN, "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}
