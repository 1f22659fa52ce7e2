//! The filter's VM dies. The way there: a complaint cannot be logged, as `proxy_log` is withheld, and the SDK's logger panics.

use serde_json::json;

use super::withheld::{add_listener, all_but, plugin};
use crate::prompt::warm_up;
use crate::support::client::Caller;
use crate::support::clients::Clients;
use crate::support::envoy_config::connection_manager;
use crate::support::{Answer, EnvoyConfig, Kind, World, kind, ports, wait};

const RELOADS: &str = "wasm.latchkey.vm_reload_success";

/// One VM for both listeners; on the second, every request with a token makes the filter complain.
fn with_trap(config: EnvoyConfig, trap: u16) -> EnvoyConfig {
    config.change(move |bootstrap| {
        let manager = connection_manager(bootstrap);
        manager["request_timeout"] = json!("3s");
        plugin(manager)["capability_restriction_config"] = all_but(&["proxy_log"]);
        let vm = plugin(manager)["vm_config"].clone();
        add_listener(bootstrap, trap, |manager| {
            plugin(manager)["vm_config"] = vm;
            plugin(manager)["configuration"]["value"]["service"]["cluster"] = json!("nowhere");
        });
    })
}

#[tokio::test]
async fn closed_when_the_vm_dies_under_waiting_requests_and_back_with_the_next_one() {
    let trap = ports::free();
    let world = World::with(|config| {
        let patient = config.uncached().concurrency(1).plugin_service("timeout_ms", json!(30_000));
        with_trap(patient, trap)
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    let tokens = vec![alice.token.clone(); Kind::ALL.len()];
    let deadly = Caller::http1(&format!("http://127.0.0.1:{trap}"));

    world.service.pause();
    let dies = async {
        world.envoy.until_in_flight(7).await;
        Answer::to(deadly.get("/").bearer_auth(&alice.token)).await
    };
    let (waiting, killer) = tokio::join!(kind::send_all(&world.envoy, &Kind::ALL, &tokens), dies);
    assert_eq!(killer.status, 503, "{killer:?}");
    for (kind, answer) in waiting {
        // Nobody lets them go any more; the connection manager's request_timeout ends them, with 504 on its way through
        // a filter that makes it 503.
        let grpc = kind == Kind::Grpc && answer.header("grpc-status").as_deref() == Some("14");
        assert!([503, 504].contains(&answer.status) || grpc, "{kind:?}: {answer:?}");
    }
    assert_eq!(world.upstream.count(), 0, "something reached the upstream");
    assert_eq!(world.envoy.stat(RELOADS).await, 0, "the VM has died and is not back yet");

    world.service.resume();
    wait::until("a request passes", async || {
        let answer = Answer::to(world.envoy.http1().get("/").bearer_auth(&alice.token)).await;
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(world.envoy.stat(RELOADS).await >= 1, "the VM has died, and is back");

    for _ in 0..20 {
        let answer = Answer::to(deadly.get("/").bearer_auth(&alice.token)).await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    for (_, gateway) in world.envoy.both() {
        let answer = Answer::to(gateway.get("/")).await;
        assert!([401, 503].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(world.upstream.count(), 1, "something reached the upstream");
}

#[tokio::test]
async fn closed_and_steady_under_load_while_vms_die_again_and_again() {
    let trap = ports::free();
    let world =
        World::with(|config| with_trap(config, trap).plugin("usage", json!({"flush_ms": 1000}))).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    let gateway = world.envoy.http1();
    let known = Clients::start(&gateway, "/", &alice.token);
    let nobody = Clients::sending(move || gateway.get("/").header("x-latchkey-user", "mallory"));
    for round in 0..6 {
        known.see(200).await;
        nobody.see(401).await;
        let before = world.envoy.stat(RELOADS).await;
        // Whichever worker gets it, the VM there dies.
        let deadly = Caller::http1(&format!("http://127.0.0.1:{trap}")).get("/").bearer_auth(&alice.token);
        let killer = Answer::to(deadly).await;
        assert_eq!(killer.status, 503, "round {round}: {killer:?}");
        wait::until("the VM is back", async || (world.envoy.stat(RELOADS).await > before).then_some(()))
            .await;
    }
    known.see(200).await;
    // 504: it waited for a verdict when the VM died.
    let seen = known.assert_saw_only(&[200, 503, 504]).await;
    nobody.assert_saw_only(&[401, 503]).await;
    let passed = seen.iter().filter(|it| it.status == 200).count();
    let received = world.upstream.received();
    assert!(received.len() >= passed);
    for request in received {
        assert_eq!(request.header("x-latchkey-user").as_deref(), Some("alice"));
        assert_eq!(request.header("authorization"), None);
    }
    // The new VMs keep verdicts, follow the feed, and report what is used.
    warm_up(&world, &alice.token).await;
    let reported = world.envoy.metric("usage_reports.ok").await;
    wait::until("usage is reported", async || {
        (world.envoy.metric("usage_reports.ok").await > reported).then_some(())
    })
    .await;
    world.admin.revoke(&alice.id).await;
    world.envoy.until_refused(&alice.token).await.assert_refused(401, "Provided API key is invalid");
    assert!(world.envoy.metric("cache_evictions.changed").await > 0, "the feed is followed");
}
