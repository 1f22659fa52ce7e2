//! `/scheduler`: how it is doing, and running it now.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::TestService;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_run_deletes_what_is_due_and_says_so() {
    let service = TestService::start().await;
    let off = json!({
        "max_lifetime": "365d", "max_tokens_per_user": 10,
        "delete_expired": {"enabled": false, "after": "30d", "every": "1h"},
    });
    service.admin().put("/restrictions", off).await.expect(StatusCode::OK);
    service.user_with("alice", &[]).await;
    service.make_token("alice", json!({"name": "old", "expires_in": "1d"})).await;
    service.make_token("alice", json!({"name": "kept", "expires_in": "20d"})).await;
    service.clock.advance(40 * DAY);
    let run = service.admin().send(reqwest::Method::POST, "/scheduler/run", None).await;
    assert_snapshot!(run.show(), @r#"
    200 OK
    {
      "deleted": 1,
      "finished": true
    }
    "#);
    let left = service.admin().get("/users/alice/tokens").await.json();
    let names: Vec<&Value> = left["items"].as_array().unwrap().iter().map(|token| &token["name"]).collect();
    assert_eq!(names, ["own", "kept"]);
    assert_snapshot!(service.admin().get("/scheduler").await.show(), @r#"
    200 OK
    {
      "after": "30d",
      "deleted_so_far": null,
      "enabled": false,
      "every": "1h",
      "holder": null,
      "last_deleted": 1,
      "last_error": null,
      "last_run_at": "2026-02-10T00:00:04Z",
      "next_run_at": null
    }
    "#);
    let entry = service.admin().get("/audit?action=tokens.deleted").await.json();
    assert_eq!(entry["items"][0]["actor"], json!("admin"));
}

#[tokio::test]
async fn an_enabled_scheduler_says_when_it_runs_next() {
    let service = TestService::start().await;
    let state = service.admin().get("/scheduler").await.expect(StatusCode::OK).json();
    assert_eq!(
        (&state["enabled"], &state["after"], &state["every"]),
        (&json!(true), &json!("30d"), &json!("1h"))
    );
    assert!(state["next_run_at"].is_string(), "{state}");
}
