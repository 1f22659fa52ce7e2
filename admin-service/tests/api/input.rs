//! What people type and paste, as the management API takes it: periods, times, names, networks, cursors.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, TestService, text};

const LATEST: &str = "9999-12-31T23:59:59Z";
const TOO_LATE: [&str; 3] = ["9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59.5Z"];

fn limits(longest: &Value, after: &str, every: &str) -> Value {
    json!({
        "max_lifetime": longest, "max_tokens_per_user": 10, "outlive_maker": false,
        "delete_expired": {"enabled": false, "after": after, "every": every},
    })
}

#[tokio::test]
async fn a_period_reads_back_as_it_was_put_everywhere() {
    let service = TestService::start().await;
    let admin = service.admin();
    service.make_user("bob").await;
    for (longest, after, every) in [("8760h", "336h", "60m"), ("52w", "2w", "3600s"), ("365d", "14d", "1h")] {
        let put = limits(&json!(longest), after, every);
        assert_eq!(admin.put("/restrictions", put.clone()).await.json(), put);
        assert_eq!(admin.get("/restrictions").await.json(), put);
        let scheduler = admin.get("/scheduler").await.json();
        assert_eq!((&scheduler["after"], &scheduler["every"]), (&json!(after), &json!(every)));
        let entry = &admin.get("/audit?action=restrictions.updated&limit=1").await.json()["items"][0];
        assert_eq!(entry["details"]["after"], put, "the audit log");
        admin.put("/users/bob/restrictions", json!({"max_lifetime": longest})).await.expect(StatusCode::OK);
        let own = admin.get("/users/bob/restrictions").await.json();
        assert_eq!(own["effective"]["max_lifetime"], json!(longest), "{own}");
    }
    // Another way of writing the same length is what reads back then.
    let written = limits(&json!("365d"), "2w", "60m");
    assert_eq!(admin.put("/restrictions", written.clone()).await.json(), written);
    assert_eq!(admin.get("/restrictions").await.json(), written);
}

#[tokio::test]
async fn what_is_no_whole_number_of_one_unit_is_no_period_and_changes_nothing() {
    let service = TestService::start().await;
    service.make_user("bob").await;
    for bad in ["1y", "1M", "1h30m", "1.5h", "30 d", " 30d", "30d ", "1500ms", "2weeks", "030d"] {
        for (method, path, body) in [
            (Method::PUT, "/restrictions", limits(&json!(bad), "30d", "1h")),
            (Method::PUT, "/restrictions", limits(&json!("30d"), bad, "1h")),
            (Method::PUT, "/users/bob/restrictions", json!({"max_lifetime": bad})),
            (Method::POST, "/users/bob/tokens", json!({"name": "ci", "expires_in": bad})),
        ] {
            let answer = service.refused(&service.admin(), method, path, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
            assert!(answer.text.contains("one of s, m (minutes), h, d or w"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_latest_time_is_taken_wherever_a_time_is_and_what_is_later_is_out_of_range() {
    let service = TestService::start().await;
    let admin = service.admin();
    service.make_user("bob").await;
    let free = limits(&Value::Null, "30d", "1h");
    admin.put("/restrictions", free).await.expect(StatusCode::OK);
    let entry =
        |at: &str| json!({"tokens": [{"token_hash": "ab".repeat(32), "name": "x", "expires_at": at}]});
    let made = admin.post("/users/bob/tokens", json!({"name": "ci", "expires_at": LATEST})).await;
    let made = made.expect(StatusCode::CREATED).json();
    assert_eq!(made["expires_at"], json!(LATEST));
    let path = format!("/tokens/{}", text(&made["id"]));
    assert_eq!(admin.get(&path).await.json()["expires_at"], json!(LATEST));
    let patched = admin.patch(&path, json!({"expires_at": "9999-12-31T23:59:58Z"})).await.json();
    assert_eq!(patched["expires_at"], json!("9999-12-31T23:59:58Z"));
    let imported = admin.post("/users/bob/tokens:import", entry(LATEST)).await.expect(StatusCode::OK).json();
    assert_eq!(imported["items"][0]["expires_at"], json!(LATEST));
    for query in [
        "/tokens?expires_before",
        "/tokens?last_used_before",
        "/users/bob/tokens?expires_before",
        "/audit?since",
        "/audit?until",
    ] {
        admin.get(&format!("{query}={LATEST}")).await.expect(StatusCode::OK);
        for late in TOO_LATE {
            let answer = service.refused(&admin, Method::GET, &format!("{query}={late}"), None).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
            assert!(
                answer.text.contains("out of range: times are 0000-01-01T00:00:00Z to 9999-12-31T23:59:59Z"),
                "{}",
                answer.text
            );
        }
    }
    for late in TOO_LATE {
        for (method, path, body) in [
            (Method::POST, "/users/bob/tokens", json!({"name": "ci", "expires_at": late})),
            (Method::PATCH, path.as_str(), json!({"expires_at": late})),
            (Method::POST, "/users/bob/tokens:import", entry(late)),
        ] {
            let answer = service.refused(&admin, method, path, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
            assert!(answer.text.contains("is out of range"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_or_of_other_filters_is_refused_on_every_list() {
    let service = TestService::start().await;
    let admin = service.admin();
    for name in ["bob", "carol"] {
        service.make_user(name).await;
        for token in ["one", "two", "three"] {
            service.make_token(name, json!({"name": token})).await;
        }
    }
    let lists = [
        "/users?limit=1",
        "/tokens?limit=1",
        "/tokens?limit=1&user=bob",
        "/tokens?limit=1&user=carol",
        "/tokens?limit=1&status=active",
        "/tokens?limit=1&expires_before=2099-01-01T00:00:00Z",
        "/users/bob/tokens?limit=1",
        "/users/carol/tokens?limit=1",
        "/users/bob/tokens?limit=1&expires_before=2099-01-01T00:00:00Z",
        "/audit?limit=1",
        "/audit?limit=1&action=token.created",
        "/audit?limit=1&since=2020-01-01T00:00:00Z",
    ];
    let mut cursors = Vec::new();
    for list in lists {
        cursors.push(text(&admin.get(list).await.json()["next_cursor"]));
    }
    for (own, list) in lists.iter().enumerate() {
        for (of, cursor) in cursors.iter().enumerate() {
            let answer = admin.get(&format!("{list}&cursor={cursor}")).await;
            if of == own {
                answer.expect(StatusCode::OK);
                // How many items a page has is not the cursor's.
                let more = list.replace("limit=1", "limit=2");
                admin.get(&format!("{more}&cursor={cursor}")).await.expect(StatusCode::OK);
            } else {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (StatusCode::BAD_REQUEST, "invalid_cursor"),
                    "{list} {}",
                    lists[of]
                );
            }
        }
    }
}

#[tokio::test]
async fn capitals_of_a_user_name_are_folded_also_in_paths() {
    let service = TestService::start().await;
    let admin = service.admin();
    let made =
        admin.post("/users", json!({"name": "John.Doe+CI@Example.com"})).await.expect(StatusCode::CREATED);
    assert_eq!(made.json()["name"], json!("john.doe+ci@example.com"));
    let path = "/users/John.Doe%2Bci@EXAMPLE.com";
    assert_eq!(admin.get(path).await.json()["name"], json!("john.doe+ci@example.com"));
    admin.post(&format!("{path}/tokens"), json!({"name": "ci"})).await.expect(StatusCode::CREATED);
    let taken = service
        .refused(&admin, Method::POST, "/users", Some(json!({"name": "JOHN.doe+ci@example.com"})))
        .await;
    assert_eq!(taken.code(), "user_exists");
    let found = admin.get("/audit?subject=John.Doe%2Bci@Example.com&action=user.created").await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    for (name, has) in [
        ("Ann Lee", "it has a space"),
        ("José", "it has 'é'"),
        ("a\u{200b}b", "U+200B ZERO WIDTH SPACE at column 2"),
    ] {
        let answer = service.refused(&admin, Method::POST, "/users", Some(json!({"name": name}))).await;
        let message = text(&answer.json()["error"]["message"]);
        assert!(
            message.contains(has) && message.contains("in a header") && message.contains("`displayName`"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn names_of_what_is_not_seen_are_refused_and_named() {
    let service = TestService::start().await;
    service.make_user("bob").await;
    for (name, has) in [
        ("\u{200b}", "U+200B ZERO WIDTH SPACE at column 1"),
        ("\u{3164}", "U+3164 HANGUL FILLER at column 1"),
        ("ci\u{a0}1", "U+00A0 NO-BREAK SPACE at column 3"),
        ("ci\u{202e}", "U+202E RIGHT-TO-LEFT OVERRIDE at column 3"),
    ] {
        for (path, body) in [
            ("/users/bob/tokens", json!({"name": name})),
            ("/users", json!({"name": "carol", "displayName": name})),
        ] {
            let answer = service.refused(&service.admin(), Method::POST, path, Some(body)).await;
            assert!(answer.text.contains(has), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn networks_with_leading_zeros_are_refused() {
    let service = TestService::start().await;
    service.make_user("bob").await;
    for bad in ["010.1.1.1/32", "010.1.1.1", "10.0.0.0/08"] {
        for body in [
            json!({"name": "ci", "allowed_cidrs": [bad]}),
            json!({"tokens": [{"token_hash": "ab".repeat(32), "name": "x", "allowed_cidrs": [bad]}]}),
        ] {
            let path =
                if body["tokens"].is_array() { "/users/bob/tokens:import" } else { "/users/bob/tokens" };
            let answer = service.refused(&service.admin(), Method::POST, path, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn answers_end_in_a_newline_and_the_root_leads_people_to_the_documentation() {
    let service = TestService::start().await;
    let admin = service.admin();
    for path in ["/api/v1/me", "/api/v1/users", "/api/v1/nowhere", "/api/v1/openapi.json"] {
        let answer = Answer::to(admin.request(Method::GET, path)).await;
        assert!(answer.text.ends_with("}\n"), "{path}");
    }
    let root = |accept: &str| admin.request(Method::GET, "/").header("accept", accept).send();
    let page = root("text/html,application/xhtml+xml").await.unwrap();
    assert_eq!((page.status(), page.url().path()), (StatusCode::OK, "/docs/"));
    assert_eq!(root("*/*").await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_403_names_the_scope_that_is_missing() {
    let service = TestService::start().await;
    let alice = service.user_with("alice", &["latchkey:tokens"]).await;
    let answer = service.with(&alice.token).get("/users").await;
    let error = answer.expect(StatusCode::FORBIDDEN).json()["error"].clone();
    assert_eq!(
        error["message"],
        json!("API key does not permit this request: its token lacks the scope latchkey:admin")
    );
}
