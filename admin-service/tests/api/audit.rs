//! `/audit`: every change is there, with who made it and from where.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;

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
          "client_request_id": "ticket-7",
          "details": {
            "after": {
              "active": true,
              "deleted": false,
              "display_name": "alice",
              "email_address": null,
              "time_zone": "UTC"
            },
            "before": null
          },
          "id": "[id]",
          "request_id": "[id]",
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
        ("until=2026-01-01T00:00:02Z&action=user.created&actor=admin", json!(["user.created"])),
        ("since=2026-01-01T00:00:01Z&until=2026-01-01T00:00:01.001Z", json!(["user.created"])),
        ("until=2026-01-01T00:00:00Z", json!([])),
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
    for query in [
        "actor=%20alice",
        "action=token.eaten",
        "since=yesterday",
        "until=2026-13-01",
        "limit=0",
        "since=2026-01-02T00:00:00Z&until=2026-01-02T00:00:00Z",
        "token=x",
    ] {
        let answer = service.refused(&service.admin(), Method::GET, &format!("/audit?{query}"), None).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_query"),
            "{query}"
        );
        shown += &format!("{}\n", answer.json()["error"]["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r"
    The query parameter `actor` must be 1 to 64 characters of a-z, 0-9, '.', '_', '@', '+' and '-', beginning with a letter or digit, for it stands in a header; any other name can be the `displayName`; it has a space
    The query parameter `action` must be one of user.created, user.updated, user_restrictions.updated, user.deleted, users.pruned, token.created, token.imported, token.updated, token.rotated, token.revoked, tokens.deleted, restrictions.updated, audit.deleted, database.restored, epoch.changed
    The query parameter `since` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    The query parameter `until` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    The query parameter `limit` must be 1 to 200, and is 0
    The query parameter `until` must be later than `since`, which is 2026-01-02T00:00:00Z
    Unknown query parameter `token`, expected one of `actor`, `action`, `subject`, `since`, `until`, `limit`, `cursor`
    ");
}

/// The lines of an export.
fn lines(answer: &Answer) -> Vec<Value> {
    assert!(answer.text.is_empty() || answer.text.ends_with('\n'), "the last line has its end");
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_export_has_every_entry_once_and_the_oldest_first() {
    let service = TestService::start().await;
    service.user_with("alice", &[]).await;
    service.make_user("bob").await;
    let answer = service.admin().get("/audit:export").await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), ["application/x-ndjson"]);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    let mut listed = service.admin().get("/audit").await.json()["items"].as_array().unwrap().clone();
    listed.reverse();
    assert_eq!(lines(&answer), listed);
    for (query, expected) in [
        ("?actor=admin&action=user.created", json!(["alice", "bob"])),
        ("?subject=bob", json!(["bob"])),
        ("?since=2026-01-01T00:00:03Z", json!(["bob"])),
        ("?action=user.created&until=2026-01-01T00:00:03Z", json!(["admin", "alice"])),
        ("?actor=nobody", json!([])),
    ] {
        let answer = service.admin().get(&format!("/audit:export{query}")).await.expect(StatusCode::OK);
        let subjects: Vec<Value> = lines(&answer).iter().map(|entry| entry["subject"].clone()).collect();
        assert_eq!(json!(subjects), expected, "{query}");
    }
    for query in ["limit=1", "cursor=x", "since=yesterday", "action=x"] {
        let path = format!("/audit:export?{query}");
        let refused = service.refused(&service.admin(), Method::GET, &path, None).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_query"),
            "{query}"
        );
    }
}

/// Adds so many entries with so many characters of details.
async fn add_entries(service: &TestService, count: u32, details: usize) {
    sqlx::any::install_default_drivers();
    let mut database = sqlx::AnyConnection::connect(&service.database_url.to_string()).await.unwrap();
    let details = format!("{{\"text\": \"{}\"}}", "x".repeat(details));
    let statement = sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
         INSERT INTO audit (id, at, actor, action, subject, details) \
         SELECT '01900000-0000-7000-8000-' || CAST(100000000000 + i AS TEXT), 0, 'root', 'user.created', 'u' || i, $2 FROM n",
    );
    statement.bind(i64::from(count)).bind(details).execute(&mut database).await.unwrap();
}

#[tokio::test]
async fn an_export_goes_on_over_many_pages() {
    let service = TestService::start().await;
    // With the two of the administrator these are two whole pages, so that nothing is left for a third.
    add_entries(&service, 998, 1).await;
    let exported = async || {
        let answer = service.admin().get("/audit:export").await.expect(StatusCode::OK);
        lines(&answer).iter().map(|entry| text(&entry["id"])).collect::<Vec<_>>()
    };
    let two_pages = exported().await;
    assert!(two_pages.len() == 1_000 && two_pages.is_sorted());
    service.make_user("alice").await;
    let longer = exported().await;
    assert_eq!((longer.len(), &longer[..1_000]), (1_001, &two_pages[..]));
}

#[tokio::test]
async fn an_export_that_fails_in_the_middle_has_no_proper_end() {
    let service = TestService::start().await;
    add_entries(&service, 2_000, 20_000).await;
    let request = service.admin().request(Method::GET, "/api/v1/audit:export");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.chunk().await.unwrap().is_some());
    service.store.close().await;
    let mut failed = false;
    while !failed {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the answer ended as if it were complete"),
            Err(_) => failed = true,
        }
    }
}
