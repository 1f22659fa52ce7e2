//! A page of another site cannot use the credentials that a browser remembers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, Client, TestService};

/// What a browser sends with a request of another site, or with one of the service's own pages.
type Lines = &'static [(&'static str, &'static str)];

async fn send(client: &Client, method: Method, path: &str, lines: Lines) -> Answer {
    let request = client.request(method, &format!("/api/v1{path}"));
    Answer::to(lines.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn remembered(service: &TestService) -> Client {
    service.authorized(format!("Basic {}", STANDARD.encode(format!("admin:{}", service.admin_token))))
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_whatever_the_browser_remembers() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let (admin, before) = (remembered(&service), service.state().await);
    let rotate = format!("/tokens/{}/rotate", own.id);
    let others: [Lines; 5] = [
        &[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://other.example.com")],
    ];
    for lines in others {
        for (method, path) in [
            (Method::POST, rotate.as_str()),
            (Method::POST, "/scheduler/run"),
            (Method::DELETE, "/users/alice"),
            (Method::PATCH, "/users/alice"),
            (Method::PUT, "/restrictions"),
        ] {
            let refused = send(&admin, method, path, lines).await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (StatusCode::FORBIDDEN, "cross_site"),
                "{path} {lines:?}"
            );
            assert_eq!(service.state().await, before, "{path} {lines:?}");
        }
    }
    // Before anybody looks at the credential, and so without a challenge.
    let anonymous = send(&service.anonymous(), Method::POST, &rotate, others[1]).await;
    assert!(anonymous.header("www-authenticate").is_empty());
    assert_snapshot!(anonymous.show(), @r#"
    403 Forbidden
    {
      "error": {
        "code": "cross_site",
        "message": "A page of another site may not change anything here. Where this is the service's own page, name how users reach it as --public-url",
        "status": "ERROR"
      }
    }
    "#);
}

#[tokio::test]
async fn the_services_own_pages_and_whoever_only_reads_are_answered() {
    let service = TestService::start().await;
    let admin = remembered(&service);
    let own: [Lines; 3] = [
        &[("origin", "https://tokens.example.com"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[],
    ];
    for lines in own {
        let answer = send(&admin, Method::POST, "/scheduler/run", lines).await;
        assert!(answer.status.is_success(), "{lines:?}: {}", answer.show());
    }
    let lines: Lines = &[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(send(&admin, Method::GET, "/me", lines).await.status, StatusCode::OK);
    let here = format!("http://{}", service.addresses.api);
    let request =
        admin.request(Method::POST, "/api/v1/users").header("origin", here).json(&json!({"name": "bob"}));
    Answer::to(request).await.expect(StatusCode::CREATED);
    let http2 = admin.http2().request(Method::POST, "/api/v1/users");
    let here = format!("http://{}", service.addresses.api);
    Answer::to(http2.header("origin", here).json(&json!({"name": "carol"})))
        .await
        .expect(StatusCode::CREATED);
}
