//! What every listener does with requests that are not as they should be, and the description and its page.

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{Answer, TestService};

async fn post_users(
    service: &TestService,
    content_type: Option<&str>,
    body: impl Into<reqwest::Body>,
) -> Answer {
    let before = service.state().await;
    let request = service.admin().request(Method::POST, "/api/v1/users");
    let request = match content_type {
        Some(value) => request.header("content-type", value),
        None => request,
    };
    let answer = Answer::to(request.body(body)).await;
    assert_eq!(before, service.state().await);
    answer
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_answered_in_the_errors_format() {
    let service = TestService::start().await;
    assert_snapshot!(service.admin().get("/nothing").await.show(), @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "There is nothing at this path; /api/v1/openapi.json lists what there is",
        "status": "ERROR"
      }
    }
    "#);
    let wrong = service.admin().delete("/restrictions").await;
    assert_snapshot!(wrong.show(), @r#"
    405 Method Not Allowed
    {
      "error": {
        "code": "method_not_allowed",
        "message": "This path does not answer this method; the `Allow` header lists those it does",
        "status": "ERROR"
      }
    }
    "#);
    let mut allowed: Vec<String> =
        wrong.header("allow").join(",").split(',').map(|one| one.trim().to_owned()).collect();
    allowed.sort();
    assert_eq!(allowed, ["GET", "HEAD", "PUT"]);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let service = TestService::start().await;
    let mut shown = String::new();
    for body in ["", "{", "{\"name\": \"alice\"} x", "name=alice", "{\"name\": \"\u{1}\"}"] {
        let answer = post_users(&service, Some("application/json"), body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "malformed_json"),
            "{body}"
        );
        shown += &format!("{}\n", answer.json()["error"]["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    The body is no JSON: EOF while parsing a value at line 1 column 0
    The body is no JSON: EOF while parsing an object at line 1 column 1
    The body is no JSON: trailing characters at line 1 column 19
    The body is no JSON: expected ident at line 1 column 2
    The body is no JSON: control character (\u0000-\u001F) found while parsing a string at line 1 column 11
    "#);
    let invalid_utf8 =
        post_users(&service, Some("application/json"), b"{\"name\": \"\xff\"}".as_slice()).await;
    assert_eq!(invalid_utf8.code(), "malformed_json");
    let deep =
        post_users(&service, Some("application/json"), format!("{{\"name\": {}", "[".repeat(1000))).await;
    assert_eq!(deep.status, StatusCode::BAD_REQUEST);
    let twice = post_users(&service, Some("application/json"), r#"{"name": "a", "name": "b"}"#).await;
    assert_eq!(twice.code(), "invalid_body");
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() {
    let service = TestService::start().await;
    for content_type in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")]
    {
        let answer = post_users(&service, content_type, r#"{"name": "alice"}"#).await;
        let expected = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
        assert_eq!((answer.status, answer.code().as_str()), expected, "{content_type:?}");
    }
    let request = service.admin().request(Method::POST, "/api/v1/users");
    let request =
        request.header("content-type", "Application/JSON; charset=utf-8").body(r#"{"name": "alice"}"#);
    Answer::to(request).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let service = TestService::start().await;
    let large = format!(r#"{{"name": "{}"}}"#, "a".repeat(70_000));
    let answer = post_users(&service, Some("application/json"), large).await;
    assert_snapshot!(answer.show(), @r#"
    413 Payload Too Large
    {
      "error": {
        "code": "body_too_large",
        "limit": 65536,
        "message": "The body is larger than 65536 bytes: it has 70012",
        "status": "ERROR"
      }
    }
    "#);
}

#[tokio::test]
async fn a_request_has_the_services_identifier_and_its_callers_stands_beside_it() {
    let service = TestService::start().await;
    for (number, (given, kept)) in
        [("a-Z_0.9", "a-Z_0.9"), ("<a b>", "_a_b_"), (&"x".repeat(200), &"x".repeat(128))]
            .into_iter()
            .enumerate()
    {
        service.clock.advance(std::time::Duration::from_secs(1));
        let request = service.admin().request(Method::POST, "/api/v1/users").header("x-request-id", given);
        let made = Answer::to(request.json(&serde_json::json!({"name": format!("user-{number}")}))).await;
        let own = made.expect(StatusCode::CREATED).header("x-request-id");
        let entry = service.admin().get("/audit?limit=1").await.json()["items"][0].clone();
        assert_eq!(own, [entry["request_id"].as_str().unwrap()], "{given}");
        assert_eq!((own[0].len(), entry["client_request_id"].as_str()), (36, Some(kept)));
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_with_the_name_of_the_header() {
    let service = TestService::start().await;
    let before = service.state().await;
    for coding in ["gzip", "br", "identity, gzip"] {
        let request =
            service.admin().request(Method::POST, "/api/v1/users").header("content-encoding", coding);
        let request = request.header("content-type", "application/json");
        let refused = Answer::to(request.body(b"\x1f\x8b\x08".as_slice())).await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coding}");
        assert!(refused.text.contains("Content-Encoding"), "{}", refused.text);
    }
    assert_eq!(before, service.state().await);
    let plain = service.admin().request(Method::POST, "/api/v1/users").header("content-encoding", "identity");
    Answer::to(plain.json(&serde_json::json!({"name": "alice"}))).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn links_lead_to_the_host_that_was_asked_where_the_service_listens_on_any_address() {
    let service = TestService::configured(|config| {
        config.public_url = None;
        config.listen = "0.0.0.0:0".parse().unwrap();
    })
    .await;
    let here = format!("http://127.0.0.1:{}", service.addresses.api.port());
    let me = service.admin().request(Method::GET, "/api/v1/me");
    let url = format!("{here}/api/v1/me");
    let (client, request) = me.build_split();
    let mut request = request.unwrap();
    *request.url_mut() = url.parse().unwrap();
    let body: Value = client.execute(request).await.unwrap().json().await.unwrap();
    assert_eq!(body["self"], format!("{here}/api/v1/users/admin"));
    let named = reqwest::Client::new().get(&url).header("host", "tokens.example:8443");
    let body: Value = named.bearer_auth(&service.admin_token).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["self"], "http://tokens.example:8443/api/v1/users/admin");
}

#[tokio::test]
async fn the_description_needs_no_credential() {
    let service = TestService::start().await;
    let answer = service.anonymous().get("/openapi.json").await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    let expected: Value =
        serde_json::from_str(&latchkey_admin::api::description().to_json().unwrap()).unwrap();
    assert_eq!(answer.json(), expected);
    assert_eq!(expected["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_page_of_the_description_loads_nothing_from_elsewhere() {
    let service = TestService::start().await;
    let page = Answer::to(service.anonymous().request(Method::GET, "/docs/")).await.expect(StatusCode::OK);
    assert!(page.header("content-security-policy")[0].starts_with("default-src 'none'"));
    assert!(!page.text.contains("http"), "{}", page.text);
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.text.contains(file));
        Answer::to(service.anonymous().request(Method::GET, &format!("/docs/{file}")))
            .await
            .expect(StatusCode::OK);
    }
    let moved = Answer::to(service.anonymous().request(Method::GET, "/docs")).await;
    assert_eq!(moved.status, StatusCode::OK, "a redirect leads to the page");
}
