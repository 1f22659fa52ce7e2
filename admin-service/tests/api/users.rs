//! `/users`: making, listing, changing and deleting them.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestService;

#[tokio::test]
async fn an_administrator_makes_a_user() {
    let service = TestService::start().await;
    let all = json!({
        "name": "alice", "displayName": "Alice Liddell", "emailAddress": "alice@example.com", "timeZone": "Europe/Berlin",
    });
    let answer = service.admin().post("/users", all).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    {
      "active": true,
      "deleted": false,
      "displayName": "Alice Liddell",
      "emailAddress": "alice@example.com",
      "key": "[id]",
      "name": "alice",
      "self": "https://tokens.example.com/api/v1/users/alice",
      "timeZone": "Europe/Berlin"
    }
    "#);
    assert_eq!(answer.header("location"), ["/api/v1/users/alice"]);
    assert_eq!(answer.header("cache-control"), ["no-store"]);
    let answer = service.admin().post("/users", json!({"name": "bob"})).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    {
      "active": true,
      "deleted": false,
      "displayName": "bob",
      "emailAddress": null,
      "key": "[id]",
      "name": "bob",
      "self": "https://tokens.example.com/api/v1/users/bob",
      "timeZone": "UTC"
    }
    "#);
    assert_eq!(service.admin().get("/users/bob").await.text, answer.text);
}

#[tokio::test]
async fn a_name_that_is_or_was_taken_is_refused() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    for _ in ["while she is there", "when she is gone"] {
        let answer =
            service.refused(&service.admin(), Method::POST, "/users", Some(json!({"name": "alice"}))).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "user_exists"));
        service.admin().delete("/users/alice").await.expect(StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn users_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "Alice Liddell"}), "name"),
        (json!({"name": "al:ice"}), "name"),
        (json!({"name": "al\nice"}), "name"),
        (json!({"name": "a".repeat(65)}), "name"),
        (json!({"name": "alice", "displayName": ""}), "displayName"),
        (json!({"name": "alice", "displayName": "a\u{0}b"}), "displayName"),
        (json!({"name": "alice", "displayName": "a".repeat(201)}), "displayName"),
        (json!({"name": "alice", "emailAddress": "nowhere"}), "emailAddress"),
        (json!({"name": "alice", "timeZone": "Mars/Olympus"}), "timeZone"),
    ] {
        let answer = service.refused(&service.admin(), Method::POST, "/users", Some(body.clone())).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_value"), &json!(field)), "{body}");
        assert!(error["message"].as_str().unwrap().starts_with(&format!("`{field}` must")), "{error}");
    }
}

#[tokio::test]
async fn bodies_of_the_wrong_shape_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    let mut shown = String::new();
    for body in [
        json!({}),
        json!({"name": 7}),
        json!({"name": null}),
        json!({"name": "alice", "display_name": "Alice"}),
        json!(["alice", null, null, null]),
    ] {
        let answer = service.refused(&service.admin(), Method::POST, "/users", Some(body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        shown += &format!("{}\n", answer.json()["error"]);
    }
    assert_snapshot!(shown, @r#"
    {"code":"invalid_body","message":"Missing field `name`","status":"ERROR"}
    {"code":"invalid_body","field":"name","message":"Field `name`: invalid type: integer `7`, expected a string","status":"ERROR"}
    {"code":"invalid_body","field":"name","message":"Field `name`: invalid type: null, expected a string","status":"ERROR"}
    {"code":"invalid_body","field":"display_name","message":"Unknown field `display_name`, expected one of `name`, `displayName`, `emailAddress`, `timeZone`","status":"ERROR"}
    {"code":"invalid_body","message":"The body must be a JSON object","status":"ERROR"}
    "#);
}

#[tokio::test]
async fn a_token_in_the_place_of_a_name_is_not_repeated() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &[]).await.token;
    let body = json!({"name": "bob", token.clone(): true});
    let queries = [format!("/users?{token}=1"), format!("/restrictions?{token}")];
    let mut answers = vec![service.refused(&service.admin(), Method::POST, "/users", Some(body)).await];
    for query in &queries {
        answers.push(service.refused(&service.admin(), Method::GET, query, None).await);
    }
    assert!(answers.iter().all(|answer| !answer.text.contains(&token)));
    let messages = answers.iter().map(|answer| answer.json()["error"]["message"].to_string());
    assert_snapshot!(messages.collect::<Vec<_>>().join("\n"), @r#"
    "Unknown field, expected one of `name`, `displayName`, `emailAddress`, `timeZone`"
    "Unknown query parameter, expected `limit` or `cursor`"
    "This operation takes no query parameters"
    "#);
}

#[tokio::test]
async fn users_are_listed_in_pages_in_the_order_in_which_they_were_made() {
    let service = TestService::start().await;
    for name in ["zoe", "alice", "mia"] {
        service.make_user(name).await;
    }
    let mut names = Vec::new();
    let mut path = "/users?limit=2".to_owned();
    loop {
        let page = service.admin().get(&path).await.expect(StatusCode::OK).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|user| user["name"].as_str().unwrap().to_owned()));
        match &page["next_cursor"] {
            Value::Null => break,
            cursor => path = format!("/users?limit=2&cursor={}", cursor.as_str().unwrap()),
        }
    }
    assert_eq!(names, ["admin", "zoe", "alice", "mia"]);
}

#[tokio::test]
async fn pages_that_cannot_be_are_refused() {
    let service = TestService::start().await;
    let mut shown = String::new();
    for query in ["limit=0", "limit=201", "limit=-1", "limit=many", "limit=1&limit=2", "cursor=x", "offset=3"]
    {
        let answer = service.refused(&service.admin(), Method::GET, &format!("/users?{query}"), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        let error = &answer.json()["error"];
        shown += &format!("{query}: {} {}\n", error["code"], error["message"]);
    }
    assert_snapshot!(shown, @r#"
    limit=0: "invalid_query" "The query parameter `limit` must be 1 to 200, and is 0"
    limit=201: "invalid_query" "The query parameter `limit` must be 1 to 200, and is 201"
    limit=-1: "invalid_query" "The query parameter `limit` must be a number, 1 to 200"
    limit=many: "invalid_query" "The query parameter `limit` must be a number, 1 to 200"
    limit=1&limit=2: "invalid_query" "Duplicate query parameter `limit`"
    cursor=x: "invalid_cursor" "The cursor must be the next_cursor of an earlier page of the same list"
    offset=3: "invalid_query" "Unknown query parameter `offset`, expected `limit` or `cursor`"
    "#);
}

#[tokio::test]
async fn a_user_that_is_not_there_is_not_found() {
    let service = TestService::start().await;
    for name in ["nobody", "Nobody", "no%00body", "%ff", "..%2fadmin"] {
        for method in [Method::GET, Method::DELETE] {
            let answer = service.refused(&service.admin(), method, &format!("/users/{name}"), None).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::NOT_FOUND, "user_not_found"),
                "{name}"
            );
            // What can be no name may be a token in the wrong place.
            assert_eq!(answer.show().contains(name), name == "nobody", "{}", answer.show());
        }
    }
    let answer = service
        .refused(&service.admin(), Method::PATCH, "/users/nobody", Some(json!({"active": true})))
        .await;
    assert_snapshot!(answer.show(), @r#"
    404 Not Found
    {
      "error": {
        "code": "user_not_found",
        "message": "There is no user nobody",
        "status": "ERROR"
      }
    }
    "#);
}

#[tokio::test]
async fn a_change_touches_the_given_fields_and_null_gives_the_default_back() {
    let service = TestService::start().await;
    let all = json!({
        "name": "alice", "displayName": "Alice Liddell", "emailAddress": "alice@example.com", "timeZone": "Europe/Berlin",
    });
    let before = service.admin().post("/users", all).await.json();
    let unchanged = service.admin().patch("/users/alice", json!({})).await.expect(StatusCode::OK).json();
    assert_eq!(before, unchanged);
    let renamed = service.admin().patch("/users/alice", json!({"displayName": "Alice"})).await.json();
    assert_eq!((&renamed["displayName"], &renamed["timeZone"]), (&json!("Alice"), &json!("Europe/Berlin")));
    let nulls = json!({"displayName": null, "emailAddress": null, "timeZone": null});
    assert_snapshot!(service.admin().patch("/users/alice", nulls).await.show(), @r#"
    200 OK
    {
      "active": true,
      "deleted": false,
      "displayName": "alice",
      "emailAddress": null,
      "key": "[id]",
      "name": "alice",
      "self": "https://tokens.example.com/api/v1/users/alice",
      "timeZone": "UTC"
    }
    "#);
    for (body, status) in [
        (json!({"active": null}), StatusCode::BAD_REQUEST),
        (json!({"active": "no"}), StatusCode::BAD_REQUEST),
        (json!({"name": "carol"}), StatusCode::BAD_REQUEST),
        (json!({"deleted": true}), StatusCode::BAD_REQUEST),
        (json!({"timeZone": "Nowhere"}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let answer = service.refused(&service.admin(), Method::PATCH, "/users/alice", Some(body)).await;
        assert_eq!(answer.status, status, "{}", answer.show());
    }
}

#[tokio::test]
async fn the_tokens_of_a_disabled_user_are_refused_at_once_and_work_again_when_it_is_enabled() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let alice = service.with(&own.token);
    alice.get("/me").await.expect(StatusCode::OK);
    let disabled =
        service.admin().patch("/users/alice", json!({"active": false})).await.expect(StatusCode::OK);
    assert_eq!(disabled.json()["active"], json!(false));
    let refused = service.refused(&alice, Method::GET, "/me", None).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::UNAUTHORIZED, "api_key_invalid"));
    let making = Some(json!({"name": "ci"}));
    let answer = service.refused(&service.admin(), Method::POST, "/users/alice/tokens", making).await;
    assert_snapshot!(answer.show(), @r#"
    409 Conflict
    {
      "error": {
        "code": "user_not_active",
        "message": "The user alice is disabled; enable it before making a token for it",
        "status": "ERROR"
      }
    }
    "#);
    service.admin().patch("/users/alice", json!({"active": true})).await.expect(StatusCode::OK);
    alice.get("/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_deleted_user_is_gone_for_good_and_keeps_its_name() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.clock.advance(Duration::from_secs(1));
    for _ in ["once", "twice"] {
        let answer = service.admin().delete("/users/alice").await.expect(StatusCode::NO_CONTENT);
        assert_eq!(answer.text, "");
    }
    service.with(&own.token).get("/me").await.expect(StatusCode::UNAUTHORIZED);
    let user = service.admin().get("/users/alice").await.expect(StatusCode::OK).json();
    assert_eq!((&user["deleted"], &user["active"]), (&json!(true), &json!(false)));
    for (method, path, body) in [
        (Method::PATCH, "/users/alice", json!({"active": true})),
        (Method::POST, "/users/alice/tokens", json!({"name": "ci"})),
    ] {
        let answer = service.refused(&service.admin(), method, path, Some(body)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::CONFLICT, "user_not_active"),
            "{path}"
        );
    }
}
