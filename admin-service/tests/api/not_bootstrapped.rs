//! A service on a database that never had an administrator, as one is that was made by accident: it says nothing of tokens, says
//! what to do, and serves as soon as that is done.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, TestService, bootstrap};

fn edge(service: &TestService, method: Method, path: &str) -> reqwest::RequestBuilder {
    service.edge().request(method, &format!("/edge/v1/{path}"))
}

/// Every call of the edge API but the look-up.
async fn the_edge_api_refuses(service: &TestService, token: &str) {
    for refused in [
        edge(service, Method::GET, "changes"),
        edge(
            service,
            Method::GET,
            "changes?epoch=019ab000-0000-7000-8000-000000000000&after=7&wait_ms=60000",
        ),
        edge(service, Method::POST, "usage").json(&no_usage()),
    ] {
        let answer = Answer::to(refused).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (503, "not_bootstrapped".into()),
            "{}",
            answer.show()
        );
        assert_eq!(answer.header("retry-after"), ["1"]);
    }
    let authz = Answer::to(edge(service, Method::GET, "authz").bearer_auth(token)).await;
    assert_eq!(authz.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(authz.json()["error"]["message"], "Authorization is temporarily unavailable");
    assert!(authz.header("www-authenticate").is_empty());
    let form = edge(service, Method::POST, "introspect")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"));
    let introspect = Answer::to(form).await;
    assert_eq!(introspect.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(introspect.json()["error"], "temporarily_unavailable");
    assert!(introspect.text.contains("not_bootstrapped"), "{}", introspect.text);
}

fn no_usage() -> serde_json::Value {
    json!({"edge": "vm-1", "sequence": 1, "usage": []})
}

#[tokio::test]
async fn nothing_is_said_of_any_token_until_there_is_an_administrator() {
    // A token of another database.
    let elsewhere = &TestService::start().await.admin_token;
    let service = TestService::start_without_administrator().await;
    let hash = TokenHash::of(elsewhere.as_bytes()).to_string();
    let verify = || Answer::to(edge(&service, Method::POST, "verify").json(&json!({"token_hash": hash})));
    let before = service.state().await;
    assert_snapshot!(verify().await.show(), @r#"
    503 Service Unavailable
    {
      "error": {
        "code": "not_bootstrapped",
        "message": "The database has never had an administrator; make the first one with `latchkey bootstrap`",
        "status": "ERROR"
      }
    }
    "#);
    the_edge_api_refuses(&service, elsewhere).await;
    for _ in 0..3 {
        // No failed attempt is counted, either.
        let me = service.with(elsewhere).get("/me").await;
        assert_eq!((me.status.as_u16(), me.code()), (503, "not_bootstrapped".into()));
        assert!(me.header("www-authenticate").is_empty());
    }
    assert_eq!(service.anonymous().get("/me").await.code(), "api_key_missing");
    assert_snapshot!(Answer::to(service.monitoring().request(Method::GET, "/readyz")).await.show(), @r#"
    503 Service Unavailable
    {
      "checks": {
        "database": "is not used: the database has never had an administrator; make the first one with `latchkey bootstrap`",
        "service": "ok"
      },
      "code": "not_bootstrapped",
      "status": "unavailable"
    }
    "#);
    Answer::to(service.monitoring().request(Method::GET, "/livez")).await.expect(StatusCode::OK);
    assert_eq!(service.state().await, before, "something was changed");

    let admin = bootstrap(&service.store).await;
    assert_eq!(verify().await.expect(StatusCode::OK).json()["reason"], "unknown");
    service.with(&admin).get("/me").await.expect(StatusCode::OK);
    assert_eq!(service.with(elsewhere).get("/me").await.code(), "api_key_invalid");
    Answer::to(edge(&service, Method::POST, "usage").json(&no_usage())).await.expect(StatusCode::ACCEPTED);
    Answer::to(service.monitoring().request(Method::GET, "/readyz")).await.expect(StatusCode::OK);
    let fed = tokio::time::timeout(Duration::from_secs(120), async {
        while Answer::to(edge(&service, Method::GET, "changes")).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    });
    fed.await.expect("the feed goes on");
}
