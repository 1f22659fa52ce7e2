//! Callouts that Envoy does not send, or that the service does not accept.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::service::Service;
use crate::support::{Answer, Envoy, EnvoyConfig, Kind, Upstream, World, kind, secrets, wait};

/// The `latchkey` cluster of a bootstrap.
fn cluster(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["clusters"][0]
}

fn wrong_secret(mut config: EnvoyConfig) -> EnvoyConfig {
    let secret = "MARKED-wrong-edge-secret-51d0".to_owned();
    secrets::note(&secret);
    config.environment = vec![("LATCHKEY_EDGE_SECRET".to_owned(), secret)];
    config
}

fn no_secret(mut config: EnvoyConfig) -> EnvoyConfig {
    config.plugin["service"] = json!({"cluster": "latchkey"});
    config
}

fn no_such_cluster(config: EnvoyConfig) -> EnvoyConfig {
    config.plugin_service("cluster", json!("nowhere"))
}

fn no_host(config: EnvoyConfig) -> EnvoyConfig {
    config.change(|bootstrap| cluster(bootstrap)["load_assignment"]["endpoints"] = json!([]))
}

/// What is wrong with the set-up, the set-up, and the outcome by which the filter counts it.
type Row = (&'static str, fn(EnvoyConfig) -> EnvoyConfig, &'static str);

const WRONG: [Row; 4] = [
    ("a wrong edge secret", wrong_secret, "unauthorized"),
    ("no edge secret", no_secret, "unauthorized"),
    ("a cluster that is not there", no_such_cluster, "not_sent"),
    ("a cluster without hosts", no_host, "not_sent"),
];

#[tokio::test]
async fn outage_is_not_refusal_when_the_set_up_keeps_the_filter_from_asking() {
    let service = Service::start().await;
    let upstream = Upstream::start().await;
    let alice = service.bootstrap().user_with_token("alice").await;
    for (what, set_up, outcome) in WRONG {
        let config = set_up(EnvoyConfig::new(service.edge_address(), upstream.address()).uncached());
        let envoy = Envoy::start(config).await;
        let begun = wait::now();
        // One after the other: nobody joins another's callout, and none is remembered.
        for (kind, answer) in kind::one_by_one(&envoy, &alice.token).await {
            kind.assert_unavailable(&answer, what);
        }
        assert_eq!(envoy.metric(&format!("callouts.{outcome}")).await, 7, "{what}");
        assert_eq!(envoy.metric("refused.unavailable").await, 7, "{what}");
        assert_eq!(envoy.metric("callouts_under_way").await, 0, "{what}");
        let told = || envoy.log().matches("no verdict from cluster").count();
        let told = wait::until("the log tells of it", async || Some(told()).filter(|told| *told > 0)).await;
        let most = 2 * (1 + begun.elapsed().as_secs() / 10);
        assert!(
            told as u64 <= most,
            "{what}: each of two workers says so every 10 s at most, not {told} times"
        );
    }
    assert_eq!(upstream.count(), 0, "something reached the upstream");
}

#[tokio::test]
async fn outage_is_not_refusal_when_the_circuit_breaker_is_open_and_it_closes_by_itself() {
    let world = World::with(|config| {
        let only_one = json!({"thresholds": [{"max_requests": 1}]});
        config
            .uncached()
            .concurrency(1)
            .plugin_service("timeout_ms", json!(20_000))
            .change(|bootstrap| cluster(bootstrap)["circuit_breakers"] = only_one)
    })
    .await;
    let [alice, bob] = [world.admin.user_with_token("alice").await, world.admin.user_with_token("bob").await];

    world.service.pause();
    let first = tokio::spawn(Answer::to(Kind::Http2.request(&world.envoy, &alice.token)));
    world.envoy.until_in_flight(1).await;
    let begun = wait::now();
    for (kind, answer) in kind::one_by_one(&world.envoy, &bob.token).await {
        kind.assert_unavailable(&answer, "the circuit breaker is open");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "they were refused at once");
    assert_eq!(world.envoy.metric("callouts.not_sent").await, 7);
    assert_eq!(world.upstream.count(), 0, "something reached the upstream");

    world.service.resume();
    assert_eq!(first.await.expect("an answer").status, 200);
    for (kind, answer) in kind::one_by_one(&world.envoy, &bob.token).await {
        assert_eq!(answer.status, 200, "{kind:?}: {answer:?}");
    }
    assert_eq!(world.upstream.count(), 8);
}
