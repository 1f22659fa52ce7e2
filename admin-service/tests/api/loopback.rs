//! Listeners that ask for no secret answer no web page that reaches them under a name of its own.

use std::net::SocketAddr;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, TestService};
use crate::usage::kept;

/// Sends a request for a host, whatever the address is.
async fn ask(address: SocketAddr, method: Method, path: &str, host: &str, body: Option<&Value>) -> Answer {
    let request = Client::new().request(method, format!("http://{address}{path}")).header("host", host);
    Answer::to(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

fn questions() -> [(Method, &'static str, Option<Value>); 3] {
    let report = json!({"edge": "forged", "sequence": 1, "usage": []});
    [
        (Method::GET, "/edge/v1/changes", None),
        (Method::POST, "/edge/v1/verify", Some(json!({"token_hash": "0".repeat(64)}))),
        (Method::POST, "/edge/v1/usage", Some(report)),
    ]
}

#[tokio::test]
async fn without_a_secret_the_edge_api_answers_loopback_hosts_alone() {
    let service = TestService::start().await;
    let (edge, before) = (service.addresses.edge, kept(&service).await);
    for (method, path, body) in questions() {
        for host in ["evil.example", "evil.example:8101", "127.0.0.1.evil.example", "192.0.2.1"] {
            let refused = ask(edge, method.clone(), path, host, body.as_ref()).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path} {host}");
            assert_eq!(refused.code(), "host_not_allowed");
        }
    }
    assert_eq!(kept(&service).await, before);
    for (method, path, body) in questions() {
        for host in ["127.0.0.1:8101", "localhost", "[::1]:8101", "latchkey", "latchkey_feed"] {
            let answer = ask(edge, method.clone(), path, host, body.as_ref()).await;
            assert!(answer.status.is_success(), "{path} {host}: {}", answer.show());
        }
    }
}

#[tokio::test]
async fn with_a_secret_any_host_will_do() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let path = format!("http://{}/edge/v1/changes", service.addresses.edge);
    let request =
        Client::new().get(path).header("host", "latchkey.example").bearer_auth("correct-edge-secret");
    Answer::to(request).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn metrics_on_loopback_are_answered_to_loopback_hosts_alone() {
    let service = TestService::start().await;
    for path in ["/metrics", "/livez", "/readyz"] {
        let refused = ask(service.addresses.metrics, Method::GET, path, "evil.example:8102", None).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "host_not_allowed"));
        let answer = ask(service.addresses.metrics, Method::GET, path, "localhost:8102", None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_body_for_the_edge_api_is_declared_as_json_with_a_secret_and_without() {
    for secret in [None, Some("correct-edge-secret")] {
        let service = TestService::start_with(secret).await;
        let before = kept(&service).await;
        for (method, path, body) in questions().into_iter().filter(|(_, _, body)| body.is_some()) {
            let send = |content_type: Option<&'static str>| {
                let request =
                    service.edge().request(method.clone(), path).body(body.clone().unwrap().to_string());
                let request = content_type
                    .into_iter()
                    .fold(request, |request, kind| request.header("content-type", kind));
                Answer::to(request.bearer_auth("correct-edge-secret"))
            };
            for bad in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
                let refused = send(bad).await;
                let given = (refused.status, refused.code());
                assert_eq!(
                    given,
                    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type".to_owned()),
                    "{path}"
                );
            }
            assert_eq!(kept(&service).await, before);
            let taken = send(Some("application/json; charset=utf-8")).await;
            assert!(taken.status.is_success(), "{path}: {}", taken.show());
        }
    }
}
