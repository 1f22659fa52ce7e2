//! `/users/{name}/restrictions`: the limits of one user.

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestService;

const ALICES: &str = "/users/alice/restrictions";

#[tokio::test]
async fn a_user_has_the_limits_of_everyone_until_it_gets_its_own() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    assert_snapshot!(service.admin().get(ALICES).await.show(), @r#"
    200 OK
    {
      "effective": {
        "max_lifetime": "365d",
        "max_tokens_per_user": 10
      },
      "own": {}
    }
    "#);
    let put = service.admin().put(ALICES, json!({"max_tokens_per_user": 20})).await;
    assert_snapshot!(put.show(), @r#"
    200 OK
    {
      "effective": {
        "max_lifetime": "365d",
        "max_tokens_per_user": 20
      },
      "own": {
        "max_tokens_per_user": 20
      }
    }
    "#);
    assert_eq!(service.admin().get(ALICES).await.text, put.text);
    // What is left out is as for everyone again.
    let put = service.admin().put(ALICES, json!({"max_lifetime": null})).await.expect(StatusCode::OK).json();
    assert_eq!(put["own"], json!({"max_lifetime": null}));
    assert_eq!(put["effective"], json!({"max_lifetime": null, "max_tokens_per_user": 10}));
    for _ in ["once", "twice"] {
        service.admin().delete(ALICES).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(service.admin().get(ALICES).await.json()["own"], json!({}));
    }
}

#[tokio::test]
async fn a_user_sees_the_limits_that_hold_for_it_and_changes_none() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    service.admin().put(ALICES, json!({"max_lifetime": "48h"})).await.expect(StatusCode::OK);
    let alice = service.with(&own.token);
    let seen = alice.get(ALICES).await.expect(StatusCode::OK).json();
    assert_eq!(seen["effective"], json!({"max_lifetime": "48h", "max_tokens_per_user": 10}));
    let none = json!({"max_lifetime": null, "max_tokens_per_user": null});
    for (method, path, body) in [
        (Method::PUT, ALICES, Some(none)),
        (Method::DELETE, ALICES, None),
        (Method::GET, "/users/admin/restrictions", None),
    ] {
        let refused = service.refused(&alice, method, path, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    }
}

#[tokio::test]
async fn errors_name_the_users_own_limit() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let limits = json!({"max_lifetime": "30d", "max_tokens_per_user": 1});
    service.admin().put(ALICES, limits).await.expect(StatusCode::OK);
    let alice = service.with(&own.token);
    let create =
        async |spec: Value| service.refused(&alice, Method::POST, "/users/alice/tokens", Some(spec)).await;
    assert_snapshot!(create(json!({"name": "ci"})).await.show(), @r#"
    409 Conflict
    {
      "error": {
        "code": "token_limit_reached",
        "count": 1,
        "limit": 1,
        "limit_of": "user",
        "message": "The user has 1 live tokens, and the user's own limit is 1; revoke one before making another",
        "status": "ERROR"
      }
    }
    "#);
    assert_snapshot!(create(json!({"name": "ci", "expires_in": "31d"})).await.show(), @r#"
    422 Unprocessable Entity
    {
      "error": {
        "asked_for": "31d",
        "code": "expiry_too_long",
        "latest_expires_at": "2026-01-31T00:00:02Z",
        "limit_of": "user",
        "max_lifetime": "30d",
        "message": "A token may live for at most 30d, which is the user's own limit: until 2026-01-31T00:00:02Z; 31d was asked for",
        "status": "ERROR"
      }
    }
    "#);
    service.admin().put(ALICES, json!({"max_tokens_per_user": 0})).await.expect(StatusCode::OK);
    let stopped = create(json!({"name": "ci"})).await.json();
    let message = stopped["error"]["message"].as_str().unwrap();
    assert!(message.contains("the user's own limit is 0 (max_tokens_per_user)"), "{message}");
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let mut shown = String::new();
    for (body, status) in [
        (json!({"max_lifetime": "a while"}), 422),
        (json!({"max_lifetime": "0s"}), 422),
        (json!({"max_lifetime": 90}), 400),
        (json!({"max_tokens_per_user": -1}), 422),
        (json!({"max_tokens_per_user": 4_294_967_296_u64}), 422),
        (json!({"max_tokens_per_user": "10"}), 400),
        (json!({"delete_expired": null}), 400),
    ] {
        let refused = service.refused(&service.admin(), Method::PUT, ALICES, Some(body)).await;
        assert_eq!(refused.status.as_u16(), status, "{}", refused.show());
        let error = &refused.json()["error"];
        shown += &format!("{} {}\n", error["field"], error["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    "max_lifetime" `max_lifetime` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    "max_lifetime" `max_lifetime` must be at least "1s", or null for no limit, and is "0s"
    "max_lifetime" Field `max_lifetime`: invalid type: integer `90`, expected a string
    "max_tokens_per_user" `max_tokens_per_user` must be 0 to 4294967295, where 0 stops the making of tokens, or null for no limit; it is -1
    "max_tokens_per_user" `max_tokens_per_user` must be 0 to 4294967295, where 0 stops the making of tokens, or null for no limit; it is 4294967296
    "max_tokens_per_user" Field `max_tokens_per_user`: invalid type: string, expected a whole number
    "delete_expired" Unknown field `delete_expired`, expected `max_lifetime` or `max_tokens_per_user`
    "#);
}

#[tokio::test]
async fn a_user_that_is_not_there_or_deleted_gets_no_limits() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    service.admin().delete("/users/alice").await.expect(StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let body = (method == Method::PUT).then(|| json!({"max_tokens_per_user": 20}));
        let path = "/users/nobody/restrictions";
        let refused = service.refused(&service.admin(), method.clone(), path, body.clone()).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::NOT_FOUND, "user_not_found"));
        if method != Method::GET {
            let refused = service.refused(&service.admin(), method, ALICES, body).await;
            assert_eq!((refused.status, refused.code().as_str()), (StatusCode::CONFLICT, "user_not_active"));
        }
    }
}
