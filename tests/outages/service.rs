//! The real service: not there yet, stopped, killed, and back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::support::service::{Service, Settings};
use crate::support::{Answer, Envoy, EnvoyConfig, Kind, Upstream, World, kind, made_up, wait};

/// One request of each kind with the same token, all under way at the same time.
async fn send_all(envoy: &Envoy, token: &str) -> Vec<(Kind, Answer)> {
    kind::send_all(envoy, &Kind::ALL, &vec![token.to_owned(); Kind::ALL.len()]).await
}

async fn assert_all_pass(world: &World, token: &str, when: &str) {
    let before = world.upstream.count();
    for (kind, answer) in send_all(&world.envoy, token).await {
        assert_eq!(answer.status, 200, "{when}, {kind:?}: {answer:?}");
    }
    assert_eq!(world.upstream.count(), before + Kind::ALL.len(), "{when}");
}

fn assert_all_unavailable(answers: Vec<(Kind, Answer)>, when: &str) {
    assert_eq!(answers.len(), Kind::ALL.len(), "{when}");
    for (kind, answer) in answers {
        kind.assert_unavailable(&answer, when);
    }
}

#[tokio::test]
async fn steady_a_service_that_comes_after_envoy_is_found_without_a_restart() {
    let settings = Settings::default();
    let upstream = Upstream::start().await;
    let edge = SocketAddr::from(([127, 0, 0, 1], settings.ports[1]));
    let envoy = Envoy::start(EnvoyConfig::new(edge, upstream.address())).await;

    let nobodys = made_up::token();
    for _ in 0..3 {
        assert_all_unavailable(send_all(&envoy, &nobodys).await, "before the service is there");
    }
    assert_eq!(upstream.count(), 0, "something reached the upstream");

    let service = Service::with(settings).await;
    let alice = service.bootstrap().user_with_token("alice").await;
    for (kind, answer) in send_all(&envoy, &alice.token).await {
        assert_eq!(answer.status, 200, "{kind:?}: {answer:?}");
    }
    Answer::to(Kind::Http1.request(&envoy, &nobodys))
        .await
        .assert_refused(401, "Provided API key is invalid");
    assert_eq!(upstream.count(), Kind::ALL.len());
}

#[tokio::test]
async fn outage_is_not_refusal_when_the_service_is_killed_in_mid_answer_and_while_it_is_away() {
    let mut world =
        World::with(|config| config.uncached().plugin_service("timeout_ms", json!(30_000)).concurrency(1))
            .await;
    let alice = world.admin.user_with_token("alice").await;
    assert_all_pass(&world, &alice.token, "before").await;

    world.service.pause();
    let begun = wait::now();
    let envoy = &world.envoy;
    let killed = async {
        envoy.until_in_flight(7).await;
        assert_eq!(envoy.metric("callouts_under_way").await, 1, "they share one callout");
        world.service.kill().await;
    };
    let (answers, ()) = tokio::join!(send_all(envoy, &alice.token), killed);
    assert_all_unavailable(answers, "killed in mid-answer");
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody waits for the timeout of a broken connection");
    assert_all_unavailable(send_all(&world.envoy, &alice.token).await, "while it is away");
    assert_eq!(world.upstream.count(), 7, "something reached the upstream");
    assert_eq!(world.envoy.metric("callouts.timeout").await, 0);

    world.service.start_again().await;
    assert_all_pass(&world, &alice.token, "after its return").await;
}

#[tokio::test]
async fn outage_is_not_refusal_when_the_service_is_stopped_and_it_is_over_when_it_goes_on() {
    let world = World::with(EnvoyConfig::uncached).await;
    let alice = world.admin.user_with_token("alice").await;
    assert_all_pass(&world, &alice.token, "before").await;

    world.service.pause();
    for round in 1..=2 {
        let begun = wait::now();
        assert_all_unavailable(send_all(&world.envoy, &alice.token).await, "while it is stopped");
        let took = begun.elapsed();
        assert!(
            (900..5000).contains(&took.as_millis()),
            "round {round}: service.timeout_ms is 1000, and it took {took:?}"
        );
    }
    assert_eq!(world.upstream.count(), 7, "something reached the upstream");
    assert!(world.envoy.metric("callouts.timeout").await >= 2);

    world.service.resume();
    assert_all_pass(&world, &alice.token, "as soon as it goes on").await;
}
