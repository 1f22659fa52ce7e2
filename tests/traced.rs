//! A request's trace (W3C Trace Context): the service's log names it for the look-up that the request caused.

use serde_json::Value;

use crate::support::service::Settings;
use crate::support::{Answer, Service, World, wait};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn the_look_up_belongs_to_the_trace_of_the_request_that_caused_it() {
    let arguments = ["--log-level", "debug", "--log-format", "json"].map(str::to_owned).to_vec();
    let service = Service::with(Settings { arguments, ..Settings::default() }).await;
    let world = World::around(service, |config| config).await;
    let alice = world.admin.user_with_token("alice").await;
    let gateway = world.envoy.http1();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answer =
        Answer::to(gateway.get("/").bearer_auth(&alice.token).header("traceparent", &traceparent)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.upstream.last().header("traceparent"), Some(traceparent), "the upstream gets it too");

    let bob = world.admin.user_with_token("bob").await;
    let odd = gateway.get("/").bearer_auth(&bob.token).header("traceparent", "00-not-a-trace");
    assert_eq!(Answer::to(odd).await.status, 200);
    let look_ups = wait::until("both look-ups are logged", async || {
        let found = look_ups(&world.service.log());
        (found.len() == 2).then_some(found)
    })
    .await;
    assert_eq!(look_ups, [Some(TRACE.to_owned()), None]);
}

/// The traces of the look-ups that a log tells of.
fn look_ups(log: &str) -> Vec<Option<String>> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let look_ups = lines.filter(|line| line["path"] == "/edge/v1/verify" && line["status"] == 200);
    look_ups.map(|line| line["trace_id"].as_str().map(str::to_owned)).collect()
}
