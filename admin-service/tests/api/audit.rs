//! `/audit`: every change is there, with who made it and from where.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, TestService, text};

#[tokio::test]
async fn every_change_is_recorded_with_who_made_it_and_from_where() {
    let service = TestService::start().await;
    service.clock.advance(Duration::from_secs(1));
    let request = service.admin().request(Method::POST, "/api/v1/users").header("x-request-id", "ticket-7");
    Answer::to(request.json(&json!({"name": "alice"}))).await.expect(StatusCode::CREATED);
    let page = service.admin().get("/audit?limit=1").await.expect(StatusCode::OK);
    assert_snapshot!(page.show().replace(&text(&page.json()["next_cursor"]), "[cursor]"), @r#"
    200 OK
    {
      "items": [
        {
          "action": "user.created",
          "actor": "admin",
          "address": "127.0.0.1",
          "at": "2026-01-01T00:00:01Z",
          "details": {
            "display_name": "alice",
            "email_address": null,
            "time_zone": "UTC"
          },
          "id": "[id]",
          "request_id": "ticket-7",
          "subject": "alice",
          "token_id": "[id]"
        }
      ],
      "next_cursor": "[cursor]"
    }
    "#);
}

#[tokio::test]
async fn entries_are_listed_newest_first_in_pages_and_by_filters() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.make_user("bob").await;
    let spec = json!({"name": "ci"});
    let made =
        service.with(&own.token).post("/users/alice/tokens", spec).await.expect(StatusCode::CREATED).json();
    let id = text(&made["id"]);
    service.admin().delete(&format!("/tokens/{id}")).await.expect(StatusCode::NO_CONTENT);
    for (query, expected) in [
        ("actor=alice", json!(["token.created"])),
        ("actor=system:bootstrap", json!(["token.created", "user.created"])),
        ("action=user.created&actor=admin", json!(["user.created", "user.created"])),
        (&format!("subject={id}"), json!(["token.revoked", "token.created"])),
        ("subject=bob", json!(["user.created"])),
        ("since=2026-01-01T00:00:03Z&action=user.created", json!(["user.created"])),
        ("since=2030-01-01T00:00:00Z", json!([])),
        ("actor=nobody", json!([])),
    ] {
        let page = service.admin().get(&format!("/audit?{query}")).await.expect(StatusCode::OK).json();
        let mut actions: Vec<Value> =
            page["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
        if query.contains("bootstrap") || query.contains(&id) {
            // Made in one millisecond, in which order is not told.
            actions.sort_by_key(ToString::to_string);
            let mut expected: Vec<Value> = serde_json::from_value(expected).unwrap();
            expected.sort_by_key(ToString::to_string);
            assert_eq!(actions, expected, "{query}");
        } else {
            assert_eq!(json!(actions), expected, "{query}");
        }
    }
    let mut found = 0;
    let mut path = "/audit?limit=2".to_owned();
    while found < 100 {
        let page = service.admin().get(&path).await.expect(StatusCode::OK).json();
        found += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/audit?limit=2&cursor={cursor}");
    }
    assert_eq!(found, 7);
}

#[tokio::test]
async fn filters_that_cannot_be_are_refused() {
    let service = TestService::start().await;
    let mut shown = String::new();
    for query in
        ["actor=Alice", "action=token.eaten", "since=yesterday", "limit=0", "until=2030-01-01T00:00:00Z"]
    {
        let answer = service.refused(&service.admin(), Method::GET, &format!("/audit?{query}"), None).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_query"),
            "{query}"
        );
        shown += &format!("{}\n", answer.json()["error"]["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r"
    The query parameter `actor` must be 1 to 64 characters of a-z, 0-9, '.', '_', '@' and '-', beginning with a letter or digit
    The query parameter `action` must be one of user.created, user.updated, user.deleted, token.created, token.updated, token.rotated, token.revoked, tokens.deleted, restrictions.updated
    The query parameter `since` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    The query parameter `limit` must be 1 to 200
    Unknown query parameter `until`, expected one of `actor`, `action`, `subject`, `since`, `limit`, `cursor`
    ");
}
