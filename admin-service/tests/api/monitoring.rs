//! `/metrics`, `/livez` and `/readyz`.

use insta::assert_snapshot;
use latchkey_admin::telemetry;
use reqwest::{Method, StatusCode};

use crate::support::{Answer, TestService};

async fn ask(service: &TestService, path: &str) -> Answer {
    Answer::to(service.monitoring().request(Method::GET, path)).await
}

#[tokio::test]
async fn a_service_that_can_answer_is_live_and_ready() {
    let service = TestService::start().await;
    assert_snapshot!(ask(&service, "/livez").await.show(), @r#"
    200 OK
    {
      "status": "ok"
    }
    "#);
    assert_snapshot!(ask(&service, "/readyz").await.show(), @r#"
    200 OK
    {
      "checks": {
        "database": "ok",
        "service": "ok"
      },
      "status": "ok"
    }
    "#);
}

#[tokio::test]
async fn a_service_without_its_database_is_live_and_says_why_it_is_not_ready() {
    let service = TestService::start().await;
    service.store.close().await;
    ask(&service, "/livez").await.expect(StatusCode::OK);
    assert_snapshot!(ask(&service, "/readyz").await.show(), @r#"
    503 Service Unavailable
    {
      "checks": {
        "database": "does not answer; the log says more",
        "service": "ok"
      },
      "status": "unavailable"
    }
    "#);
}

#[tokio::test]
async fn metrics_count_requests_and_refusals_and_hold_no_secret() {
    let service = TestService::start().await;
    service.admin().get("/users/marked-name").await.expect(StatusCode::NOT_FOUND);
    service.anonymous().get("/me").await.expect(StatusCode::UNAUTHORIZED);
    let edge =
        service.edge().request(Method::POST, "/edge/v1/verify").header("content-type", "application/json");
    Answer::to(edge.body(format!(r#"{{"token_hash": "{}"}}"#, "0".repeat(64)))).await.expect(StatusCode::OK);
    let answer = ask(&service, "/metrics").await.expect(StatusCode::OK);
    assert!(answer.header("content-type")[0].starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"latchkey_http_requests_total{listener="api",method="GET",path="/api/v1/users/{name}",status="404"}"#,
        r#"latchkey_api_refused_total{reason="missing"}"#,
        r#"latchkey_verdicts_total{outcome="unknown"}"#,
        r#"latchkey_http_request_duration_seconds_bucket{listener="edge",path="/edge/v1/verify",le="0.001"}"#,
        r#"latchkey_build_info{version=""#,
    ] {
        assert!(answer.text.contains(line), "{line} is not in\n{}", answer.text);
    }
    for name in [telemetry::CONNECTIONS, telemetry::REQUESTS_UNDER_WAY] {
        assert!(answer.text.contains(&format!("# HELP {name} ")), "{name} has no help text");
    }
    assert!(!answer.text.contains("marked-name") && !answer.text.contains(&service.admin_token));
}
