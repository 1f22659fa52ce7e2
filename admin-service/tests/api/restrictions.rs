//! `/restrictions`: reading them, setting them, applying them to what exists, and what exceeds them.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::TestService;

fn restrictions(longest: &Value, most: &Value) -> Value {
    json!({
        "max_lifetime": longest, "max_tokens_per_user": most,
        "delete_expired": {"enabled": false, "after": "14d", "every": "90m"},
    })
}

#[tokio::test]
async fn the_defaults_are_there_from_the_beginning() {
    let service = TestService::start().await;
    assert_snapshot!(service.admin().get("/restrictions").await.show(), @r#"
    200 OK
    {
      "delete_expired": {
        "after": "30d",
        "enabled": true,
        "every": "1h"
      },
      "max_lifetime": "365d",
      "max_tokens_per_user": 10,
      "outlive_maker": false
    }
    "#);
}

#[tokio::test]
async fn what_is_set_is_in_force_and_shown_as_it_was_put() {
    let service = TestService::start().await;
    let set = service.admin().put("/restrictions", restrictions(&json!("48h"), &json!(2))).await;
    assert_snapshot!(set.show(), @r#"
    200 OK
    {
      "delete_expired": {
        "after": "14d",
        "enabled": false,
        "every": "90m"
      },
      "max_lifetime": "48h",
      "max_tokens_per_user": 2,
      "outlive_maker": false
    }
    "#);
    assert_eq!(service.admin().get("/restrictions").await.text, set.text);
    let none = service.admin().put("/restrictions", restrictions(&json!(null), &json!(null))).await.json();
    assert_eq!((&none["max_lifetime"], &none["max_tokens_per_user"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn restrictions_that_cannot_be_are_refused_with_the_field_that_is_wrong() {
    let service = TestService::start().await;
    let good = restrictions(&json!("90d"), &json!(10));
    let mut shown = String::new();
    for (pointer, value, status) in [
        ("/max_lifetime", json!("a while"), 422),
        ("/max_lifetime", json!("0s"), 422),
        ("/max_lifetime", json!(90), 400),
        ("/max_tokens_per_user", json!(-1), 422),
        ("/max_tokens_per_user", json!(4_294_967_296_u64), 422),
        ("/max_tokens_per_user", json!("10"), 400),
        ("/max_tokens_per_user", json!(1.5), 400),
        ("/delete_expired/after", json!("soon"), 422),
        ("/delete_expired/every", json!("0s"), 422),
        ("/delete_expired/enabled", json!("yes"), 400),
        ("/delete_expired", json!([true, "30d", "1h"]), 400),
        ("/delete_expired", json!({"enabled": true, "after": "30d", "every": "1h", "now": true}), 400),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        let answer = service.refused(&service.admin(), Method::PUT, "/restrictions", Some(body)).await;
        assert_eq!(answer.status.as_u16(), status, "{pointer}: {}", answer.show());
        let error = &answer.json()["error"];
        shown += &format!("{} {}\n", error["field"], error["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    "max_lifetime" `max_lifetime` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    "max_lifetime" `max_lifetime` must be at least "1s", or null for no limit, and is "0s"
    "max_lifetime" Field `max_lifetime`: invalid type: integer `90`, expected a string
    "max_tokens_per_user" `max_tokens_per_user` must be 0 to 4294967295, where 0 stops the making of tokens, or null for no limit; it is -1
    "max_tokens_per_user" `max_tokens_per_user` must be 0 to 4294967295, where 0 stops the making of tokens, or null for no limit; it is 4294967296
    "max_tokens_per_user" Field `max_tokens_per_user`: invalid type: string, expected a whole number
    "max_tokens_per_user" Field `max_tokens_per_user`: invalid type: floating point `1.5`, expected a whole number
    "delete_expired.after" `delete_expired.after` must be a length of time: a whole number and one of s, m (minutes), h, d or w, such as "30d", "12h" or "90m"; a year is "365d"
    "delete_expired.every" `delete_expired.every` must be at least "1s", and is "0s"
    "delete_expired" Field `delete_expired`: invalid type: string, expected a boolean
    "delete_expired" Field `delete_expired`: invalid type: array, expected an object
    "delete_expired" Unknown field `now`, expected one of `enabled`, `after`, `every`
    "#);
}

#[tokio::test]
async fn a_limit_of_0_stops_the_making_of_tokens_and_the_error_says_so() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["latchkey:tokens"]).await;
    let stopped = restrictions(&json!("90d"), &json!(0));
    service.admin().put("/restrictions", stopped).await.expect(StatusCode::OK);
    let alice = service.with(&own.token);
    for client in [&alice, &service.admin()] {
        let refused =
            service.refused(client, Method::POST, "/users/alice/tokens", Some(json!({"name": "ci"}))).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        let message = "An administrator has stopped the making of tokens: the limit is 0 (max_tokens_per_user), \
            and the user has 1 live tokens";
        let error = json!({
            "status": "ERROR", "code": "token_limit_reached", "limit": 0, "limit_of": "service", "count": 1,
            "message": message,
        });
        assert_eq!(refused.json()["error"], error);
    }
    alice.get("/me").await.expect(StatusCode::OK);
    service.admin().put("/restrictions", restrictions(&json!("90d"), &json!(2))).await.expect(StatusCode::OK);
    alice.post("/users/alice/tokens", json!({"name": "ci"})).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn every_field_must_be_given_since_null_means_no_limit() {
    let service = TestService::start().await;
    for field in ["max_lifetime", "max_tokens_per_user", "delete_expired"] {
        let mut body = restrictions(&json!("90d"), &json!(10));
        body.as_object_mut().unwrap().remove(field);
        let answer = service.refused(&service.admin(), Method::PUT, "/restrictions", Some(body)).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_body"),
            "{field}"
        );
        assert_eq!(answer.json()["error"]["message"], json!(format!("Missing field `{field}`")));
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_exceeds_the_limits_and_changes_nothing() {
    let service = TestService::start().await;
    service.user_with("alice", &[]).await;
    service.make_token("alice", json!({"name": "short", "expires_in": "1d"})).await;
    service.make_token("alice", json!({"name": "over", "expires_in": "1m"})).await;
    service.user_with("bob", &[]).await;
    service.clock.advance(Duration::from_secs(60));
    let before = service.state().await;
    let answer =
        service.admin().put("/restrictions?dry_run=true", restrictions(&json!("30d"), &json!(1))).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    {
      "dry_run": true,
      "examples": {
        "max_lifetime": [
          {
            "expires_at": "2027-01-01T00:00:00Z",
            "hint": "[hint]",
            "id": "[id]",
            "name": "bootstrap",
            "user": "admin"
          },
          {
            "expires_at": "2027-01-01T00:00:02Z",
            "hint": "[hint]",
            "id": "[id]",
            "name": "own",
            "user": "alice"
          },
          {
            "expires_at": "2027-01-01T00:00:06Z",
            "hint": "[hint]",
            "id": "[id]",
            "name": "own",
            "user": "bob"
          }
        ],
        "max_tokens_per_user": [
          {
            "live_tokens": 2,
            "user": "alice"
          }
        ]
      },
      "message": "Longer lifetime than 30d: 3 active tokens, which would keep the expiry. More than 1 active token: 1 user, by 1 token in all, which would stay active.",
      "would_exceed": {
        "max_lifetime": 3,
        "max_tokens_per_user": 1,
        "users": 1
      }
    }
    "#);
    let nothing =
        service.admin().put("/restrictions?dry_run=true", restrictions(&json!(null), &json!(null))).await;
    let nothing = nothing.json();
    assert_eq!(nothing["would_exceed"], json!({"max_lifetime": 0, "max_tokens_per_user": 0, "users": 0}));
    assert_eq!(nothing["examples"], json!({"max_lifetime": [], "max_tokens_per_user": []}));
    assert_eq!(nothing["message"], "Nothing changes for existing tokens.");
    assert_eq!(before, service.state().await);
}

#[tokio::test]
async fn a_dry_run_is_asked_for_or_not_and_nothing_between() {
    let service = TestService::start().await;
    let before = service.state().await;
    let path = "/restrictions?dry_run=yes";
    let refused = service
        .refused(&service.admin(), Method::PUT, path, Some(restrictions(&json!("30d"), &json!(1))))
        .await;
    assert_snapshot!(refused.show(), @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_query",
        "message": "The query parameter `dry_run` must be true or false",
        "parameter": "dry_run",
        "status": "ERROR"
      }
    }
    "#);
    service
        .admin()
        .put("/restrictions?dry_run=false", restrictions(&json!("30d"), &json!(1)))
        .await
        .expect(StatusCode::OK);
    assert_ne!(before, service.state().await);
}

#[tokio::test]
async fn limits_that_are_applied_to_existing_tokens_shorten_their_expiry_after_a_dry_run() {
    let service = TestService::start().await;
    let old = service.user_with("alice", &[]).await;
    service.clock.advance(Duration::from_secs(3 * 86_400));
    let newer = service.make_token("alice", json!({"name": "newer"})).await;
    let admin = json!({"name": "newer", "scopes": ["latchkey:admin"]});
    let admin = service.with(&service.make_token("admin", admin).await.token);
    let wanted = restrictions(&json!("2d"), &json!(null));
    let before = service.state().await;
    let tried = admin.put("/restrictions?dry_run=true&apply_to_existing=true", wanted.clone()).await.json();
    assert_eq!(before, service.state().await);
    assert_eq!(tried["would_shorten"], json!({"tokens": 4, "at_once": 2}));
    let message = "4 active tokens would expire sooner, as late as is allowed from when they were made; 2 of them at once.";
    assert_eq!(tried["message"], message);
    let examples = tried["examples"]["would_shorten"].as_array().unwrap();
    let example = examples.iter().find(|token| token["id"] == json!(newer.id)).unwrap();
    assert_eq!(example["new_expires_at"], "2026-01-06T00:00:03Z");
    // The administrator's first token is too old itself.
    let path = "/restrictions?apply_to_existing=true";
    let refused = service.refused(&service.admin(), Method::PUT, path, Some(wanted.clone())).await;
    assert_snapshot!(refused.show(), @r#"
    409 Conflict
    {
      "error": {
        "code": "caller_would_expire",
        "created_at": "2026-01-01T00:00:00Z",
        "max_lifetime": "2d",
        "message": "The token that this was asked for with would expire at once: it was made at 2026-01-01T00:00:00Z, and 2d after that is past; ask with a newer one",
        "status": "ERROR"
      }
    }
    "#);
    let applied = admin.put(path, wanted.clone()).await.expect(StatusCode::OK).json();
    assert_eq!(applied["shortened"], json!({"tokens": 4, "at_once": 2}));
    assert_eq!(applied["max_lifetime"], "2d");
    service.with(&old.token).get("/me").await.expect(StatusCode::UNAUTHORIZED);
    let shown = service.with(&newer.token).get("/tokens/self").await.json();
    assert_eq!(shown["expires_at"], "2026-01-06T00:00:03Z");
    let again = admin.put(path, wanted).await.json();
    assert_eq!(again["shortened"], json!({"tokens": 0, "at_once": 0}));
}
