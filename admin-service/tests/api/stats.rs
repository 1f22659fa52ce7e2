//! `/stats`: how the service is used.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, TestService};

#[tokio::test]
async fn users_tokens_and_requests_are_counted() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    service.make_token("alice", json!({"name": "soon", "expires_in": "7d"})).await;
    service.make_token("alice", json!({"name": "over", "expires_in": "1s"})).await;
    let revoked = service.make_token("alice", json!({"name": "revoked"})).await;
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.make_user("bob").await;
    service.admin().delete("/users/bob").await.expect(StatusCode::NO_CONTENT);
    service.make_user("carol").await;
    service.admin().patch("/users/carol", json!({"active": false})).await.expect(StatusCode::OK);
    service.clock.advance(Duration::from_secs(3_600));
    let usage = json!([{"token_id": own.id, "allowed": 20, "denied": 3, "last_used_ms_ago": 0}]);
    let report = json!({"edge": "vm", "sequence": 1, "usage": usage});
    Answer::to(service.edge().request(Method::POST, "/edge/v1/usage").json(&report))
        .await
        .expect(StatusCode::ACCEPTED);
    assert_snapshot!(service.admin().get("/stats?hours=2").await.show(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T01:00:07Z",
      "expiring_in_7_days": 1,
      "requests_by_hour": [
        {
          "allowed": 0,
          "denied": 0,
          "hour": "2026-01-01T00:00:00Z"
        },
        {
          "allowed": 20,
          "denied": 3,
          "hour": "2026-01-01T01:00:00Z"
        }
      ],
      "tokens": {
        "active": 3,
        "expired": 1,
        "revoked": 1,
        "total": 5
      },
      "users": {
        "active": 2,
        "deleted": 1,
        "disabled": 1,
        "total": 4
      }
    }
    "#);
    let day = service.admin().get("/stats").await.expect(StatusCode::OK).json();
    let hours = day["requests_by_hour"].as_array().unwrap().clone();
    assert_eq!((hours.len(), &hours[0]["hour"]), (24, &json!("2025-12-31T02:00:00Z")));
}

#[tokio::test]
async fn figures_know_of_what_was_done_just_before() {
    let service = TestService::start().await;
    for number in 1..4 {
        service.make_user(&format!("user{number}")).await;
        let stats = service.admin().get("/stats").await.expect(StatusCode::OK).json();
        assert_eq!(stats["users"]["total"], json!(number + 1));
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_all_answered() {
    let service = TestService::start().await;
    let admin = service.admin();
    let asked = (0..50).map(|_| {
        let admin = admin.clone();
        tokio::spawn(async move { admin.get("/stats").await.expect(StatusCode::OK).json()["users"].clone() })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), json!({"total": 1, "active": 1, "disabled": 0, "deleted": 0}));
    }
}

#[tokio::test]
async fn hours_that_cannot_be_are_refused() {
    let service = TestService::start().await;
    for (hours, allowed) in [
        ("0", "must be 1 to 2160, and is 0"),
        ("2161", "must be 1 to 2160, and is 2161"),
        ("-1", "must be a number, 1 to 2160"),
        ("a", "must be a number, 1 to 2160"),
        ("", "must be a number, 1 to 2160"),
        ("1.5", "must be a number, 1 to 2160"),
        ("99999999999999999999", "must be a number, 1 to 2160"),
    ] {
        let answer =
            service.refused(&service.admin(), Method::GET, &format!("/stats?hours={hours}"), None).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_query"),
            "{hours}"
        );
        let message = &answer.json()["error"]["message"];
        assert_eq!(*message, format!("The query parameter `hours` {allowed}"));
    }
    let all = service.admin().get("/stats?hours=2160").await.expect(StatusCode::OK).json();
    assert_eq!(all["requests_by_hour"].as_array().map(Vec::len), Some(2_160));
}

#[tokio::test]
async fn figures_without_a_database_are_unavailable() {
    let service = TestService::start().await;
    let admin = service.admin();
    admin.get("/stats").await.expect(StatusCode::OK);
    service.store.close().await;
    let answer = admin.get("/stats").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert_ne!(answer.json()["error"]["message"], Value::Null);
}
