//! `/scheduler`: how it is doing, and running it now.

use std::time::Duration;

use insta::assert_snapshot;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Answer, TestService};

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
      "next_run_at": null,
      "paused": null
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

#[tokio::test]
async fn a_scheduler_that_waits_for_a_clock_in_doubt_says_so_and_runs_when_it_is_asked_to() {
    let service = TestService::start().await;
    service.user_with("alice", &[]).await;
    service.make_token("alice", json!({"name": "soon gone", "expires_in": "20d"})).await;
    let before = service.store.position().await.unwrap().epoch;
    service.clock.jump(60 * 86_400_000);
    let state =
        eventually(&service, |state| state["paused"].as_str().is_some_and(|why| why.contains("jumped")))
            .await;
    assert_eq!(
        state["paused"],
        "the clock jumped 5184000 s forward; nothing is deleted by time until 2026-03-02T01:00:03Z, if it is steady"
    );
    assert_eq!(state["next_run_at"], "2026-03-02T01:00:03Z");
    assert_ne!(service.store.position().await.unwrap().epoch, before);
    let metrics = Answer::to(service.monitoring().request(reqwest::Method::GET, "/metrics")).await.text;
    assert!(metrics.contains("latchkey_clock_jumps_total"), "{metrics}");
    let tokens =
        async || service.admin().get("/users/alice/tokens").await.json()["items"].as_array().unwrap().len();
    assert_eq!(tokens().await, 2);
    // Who asks knows the time.
    let run = service
        .admin()
        .send(reqwest::Method::POST, "/scheduler/run", None)
        .await
        .expect(StatusCode::OK)
        .json();
    assert_eq!((&run["deleted"], tokens().await), (&json!(1), 1));
    service.clock.advance(Duration::from_secs(3_600));
    eventually(&service, |state| state["paused"].is_null()).await;
}

/// The scheduler's state when it is as it should be; a busy machine makes this slow and no failure.
async fn eventually(service: &TestService, condition: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let state = service.admin().get("/scheduler").await.expect(StatusCode::OK).json();
            if condition(&state) {
                return state;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), looking).await.expect("the scheduler's state")
}
