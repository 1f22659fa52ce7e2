//! Who is let in to the management API, and in which words the others are refused.

use std::time::Duration;

use base64::Engine;
use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, TestService};

fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{token}")))
}

#[tokio::test]
async fn any_valid_token_shows_its_own_user() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let bearer = service.with(&own.token).get("/me").await;
    assert_snapshot!(bearer.show(), @r#"
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
    assert_eq!(service.authorized(basic("alice", &own.token)).get("/me").await.text, bearer.text);
    assert_eq!(service.authorized(format!("bEARER  {}", own.token)).get("/me").await.text, bearer.text);
    assert_eq!(service.with(&own.token).http2().get("/me").await.text, bearer.text);
}

#[tokio::test]
async fn without_a_credential_both_schemes_are_offered() {
    let service = TestService::start().await;
    let answer = service.refused(&service.anonymous(), Method::GET, "/me", None).await;
    assert_snapshot!(answer.show(), @r#"
    401 Unauthorized
    {
      "error": {
        "code": "api_key_missing",
        "message": "API key is missing",
        "status": "ERROR"
      }
    }
    "#);
    let offered = [r#"Bearer realm="api""#, r#"Basic realm="api", charset="UTF-8""#];
    assert_eq!(answer.header("www-authenticate"), offered);
}

#[tokio::test]
async fn an_invalid_credential_is_refused_in_one_way_whatever_is_wrong_with_it() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let short = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await.token;
    service.clock.advance(Duration::from_secs(60));
    let bearer = vec![r#"Bearer realm="api", error="invalid_token""#];
    let basic_only = vec![r#"Basic realm="api", charset="UTF-8""#];
    for (what, value, challenges) in [
        ("unknown", "Bearer lk_0000000000000000000000000000000000000000000000000".to_owned(), &bearer),
        ("of another system", "Bearer ghp_0000".to_owned(), &bearer),
        ("expired to the millisecond", format!("Bearer {short}"), &bearer),
        ("malformed", "Bearer a b".to_owned(), &bearer),
        ("of another user", basic("bob", &own.token), &basic_only),
        ("not canonical base64", format!("{}x", basic("alice", &own.token)), &basic_only),
        ("without a colon", "Basic YWxpY2U=".to_owned(), &basic_only),
        ("of another scheme", "Negotiate abc".to_owned(), &[bearer.clone(), basic_only.clone()].concat()),
    ] {
        let answer = service.refused(&service.authorized(value), Method::GET, "/me", None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        let body = json!({"error": {"status": "ERROR", "code": "api_key_invalid", "message": "Provided API key is invalid"}});
        assert_eq!(answer.json(), body, "{what}");
        assert_eq!(&answer.header("www-authenticate"), challenges, "{what}");
    }
}

#[tokio::test]
async fn two_credentials_are_one_too_many() {
    let service = TestService::start().await;
    let token = format!("Bearer {}", service.admin_token);
    let before = service.state().await;
    for request in [
        service.admin().request(Method::POST, "/api/v1/users").header("authorization", &token),
        service.authorized(format!("{token}, {token}")).request(Method::POST, "/api/v1/users"),
    ] {
        let answer = Answer::to(request.json(&json!({"name": "alice"}))).await;
        insta::allow_duplicates! { assert_snapshot!(answer.show(), @r#"
        400 Bad Request
        {
          "error": {
            "code": "multiple_credentials",
            "message": "More than one credential was provided",
            "status": "ERROR"
          }
        }
        "#); }
        assert_eq!(answer.header("www-authenticate"), [r#"Bearer realm="api", error="invalid_request""#]);
    }
    assert_eq!(before, service.state().await);
}

#[tokio::test]
async fn a_token_that_is_bound_to_networks_works_from_there_alone() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let here = service.make_token("alice", json!({"name": "here", "allowed_cidrs": ["127.0.0.0/8"]})).await;
    service.with(&here.token).get("/me").await.expect(StatusCode::OK);
    let there =
        service.make_token("alice", json!({"name": "there", "allowed_cidrs": ["192.0.2.0/24"]})).await;
    let answer = service.refused(&service.with(&there.token), Method::GET, "/me", None).await;
    assert_snapshot!(answer.show(), @r#"
    403 Forbidden
    {
      "error": {
        "code": "address_not_permitted",
        "message": "API key is not permitted from this address",
        "status": "ERROR"
      }
    }
    "#);
    assert!(answer.header("www-authenticate").is_empty());
    let forwarded =
        service.with(&there.token).request(Method::GET, "/api/v1/me").header("x-forwarded-for", "192.0.2.1");
    Answer::to(forwarded).await.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn while_the_database_is_away_nobody_is_told_that_a_token_is_wrong() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = service.admin().get("/me").await;
    assert_snapshot!(answer.show(), @r#"
    503 Service Unavailable
    {
      "error": {
        "code": "unavailable",
        "message": "Authorization is temporarily unavailable",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(answer.header("retry-after"), ["1"]);
    assert!(answer.header("www-authenticate").is_empty());
}
