//! `GET /tokens`, and the listing of a user's tokens by expiry.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestService, text};

/// The names of the tokens that a query finds.
async fn found(service: &TestService, path: &str) -> Vec<String> {
    let answer = service.admin().get(path).await.expect(StatusCode::OK).json();
    answer["items"].as_array().unwrap().iter().map(|item| text(&item["name"])).collect()
}

/// Tokens of alice and bob, two minutes after the last was made.
async fn assorted() -> TestService {
    let service = TestService::start().await;
    for (user, name, expires_in) in
        [("alice", "Laptop", "30d"), ("bob", "CI of bob", "1m"), ("bob", "50%_deploy", "60d")]
    {
        if service.admin().get(&format!("/users/{user}")).await.status == StatusCode::NOT_FOUND {
            service.make_user(user).await;
        }
        service.make_token(user, json!({"name": name, "expires_in": expires_in})).await;
    }
    service.clock.advance(Duration::from_secs(120));
    service
}

#[tokio::test]
async fn tokens_of_all_users_are_found_by_all_that_is_given() {
    let service = assorted().await;
    for (query, names) in [
        ("", vec!["bootstrap", "Laptop", "CI of bob", "50%_deploy"]),
        ("?user=bob", vec!["CI of bob", "50%_deploy"]),
        ("?user=nobody", vec![]),
        ("?status=active&user=bob", vec!["50%_deploy"]),
        ("?status=expired", vec!["CI of bob"]),
        ("?status=revoked", vec![]),
        ("?q=LAPTOP", vec!["Laptop"]),
        ("?q=bob", vec!["CI of bob", "50%_deploy"]),
        ("?q=%25_", vec!["50%_deploy"]),
        ("?q=lk_", vec!["bootstrap", "Laptop", "CI of bob", "50%_deploy"]),
        ("?expires_before=2026-02-15T00:00:00Z", vec!["CI of bob", "Laptop"]),
        ("?expires_before=2026-02-15T01:00:00%2B01:00&status=active", vec!["Laptop"]),
        ("?last_used_before=2026-01-01T00:00:02.001Z", vec!["bootstrap", "Laptop"]),
    ] {
        assert_eq!(found(&service, &format!("/tokens{query}")).await, names, "{query}");
    }
    let soon = "/users/bob/tokens?expires_before=2027-01-01T00:00:00Z";
    assert_eq!(found(&service, soon).await, ["CI of bob", "50%_deploy"]);
    let answer = service.refused(&service.admin(), Method::GET, "/users/nobody/tokens?limit=1", None).await;
    assert_eq!(answer.code(), "user_not_found");
}

#[tokio::test]
async fn pages_follow_each_other() {
    let service = assorted().await;
    for query in ["", "&expires_before=2028-01-01T00:00:00Z", "&user=bob", "&q=b"] {
        let whole = found(&service, &format!("/tokens?limit=200{query}")).await;
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = service.admin().get(&format!("/tokens?limit=1{query}{cursor}")).await.json();
            names.extend(page["items"].as_array().unwrap().iter().map(|item| text(&item["name"])));
            match &page["next_cursor"] {
                Value::Null => break,
                next => cursor = format!("&cursor={}", text(next)),
            }
        }
        assert_eq!(names, whole, "{query}");
    }
}

#[tokio::test]
async fn searches_that_cannot_be_are_refused() {
    let service = assorted().await;
    let page = service.admin().get("/tokens?limit=1&expires_before=2028-01-01T00:00:00Z").await.json();
    let by_expiry = text(&page["next_cursor"]);
    let by_making = text(&service.admin().get("/tokens?limit=1").await.json()["next_cursor"]);
    let mut shown = String::new();
    for query in [
        "user=%20alice",
        "user=",
        "status=live",
        "status=",
        "q=",
        "q=a%0Ab",
        "q=%E2%80%AE",
        &format!("q={}", "a".repeat(101)),
        "expires_before=soon",
        "last_used_before=2026-01-01",
        "limit=0",
        "limit=201",
        "cursor=x",
        &format!("cursor={by_expiry}"),
        &format!("status=expired&cursor={by_making}"),
        "name=ci",
        "q=a&q=b",
    ] {
        let answer = service.refused(&service.admin(), Method::GET, &format!("/tokens?{query}"), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        shown += &format!("{}: {}\n", answer.code(), text(&answer.json()["error"]["message"]));
    }
    assert_snapshot!(shown, @r"
    invalid_query: The query parameter `user` must be 1 to 64 characters of a-z, 0-9, '.', '_', '@', '+' and '-', beginning with a letter or digit, for it stands in a header; any other name can be the `displayName`; it has a space
    invalid_query: The query parameter `user` must be 1 to 64 characters of a-z, 0-9, '.', '_', '@', '+' and '-', beginning with a letter or digit, for it stands in a header; any other name can be the `displayName`
    invalid_query: The query parameter `status` must be one of active, expired, revoked
    invalid_query: The query parameter `status` must be one of active, expired, revoked
    invalid_query: The query parameter `q` must have 1 to 100 characters, and has 0
    invalid_query: The query parameter `q` must not contain characters that are not seen, and has U+000A a control character at column 2
    invalid_query: The query parameter `q` must not contain characters that are not seen, and has U+202E RIGHT-TO-LEFT OVERRIDE at column 1
    invalid_query: The query parameter `q` must have 1 to 100 characters, and has 101
    invalid_query: The query parameter `expires_before` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    invalid_query: The query parameter `last_used_before` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    invalid_query: The query parameter `limit` must be 1 to 200, and is 0
    invalid_query: The query parameter `limit` must be 1 to 200, and is 201
    invalid_cursor: The cursor must be the next_cursor of an earlier page of the same list
    invalid_cursor: The cursor must be the next_cursor of an earlier page of the same list
    invalid_cursor: The cursor must be the next_cursor of an earlier page of the same list
    invalid_query: Unknown query parameter `name`, expected one of `user`, `status`, `q`, `expires_before`, `last_used_before`, `limit`, `cursor`
    invalid_query: Duplicate query parameter `q`
    ");
    for query in ["expires_before=soon", "status=active", &format!("cursor={by_expiry}")] {
        let path = format!("/users/alice/tokens?{query}");
        let answer = service.refused(&service.admin(), Method::GET, &path, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}
