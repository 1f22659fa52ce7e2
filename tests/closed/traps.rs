//! The filter's VM dies. The way there: a module that is the filter's but for its calls of `proxy_log`, each of which is a trap.

use serde_json::json;

use super::withheld::{add_listener, plugin};
use crate::prompt::warm_up;
use crate::support::client::Caller;
use crate::support::clients::Clients;
use crate::support::envoy_config::connection_manager;
use crate::support::{Answer, EnvoyConfig, Filter, Kind, World, dist, kind, ports, test_dir, wait};

const RELOADS: &str = "wasm.latchkey.vm_reload_success";

/// One VM for both listeners; on the second, every request with a token makes the filter complain.
fn with_trap(mut config: EnvoyConfig, trap: u16) -> EnvoyConfig {
    let folder = test_dir::file("module", "d");
    let module = folder.join("traps.wasm");
    std::fs::create_dir(&folder).expect("a folder for the module");
    std::fs::write(&module, trapping_at("proxy_log")).expect("the module is written");
    config.folders.push(folder);
    config.change(move |bootstrap| {
        let manager = connection_manager(bootstrap);
        manager["request_timeout"] = json!("3s");
        plugin(manager)["vm_config"]["code"]["local"]["filename"] = json!(module);
        let vm = plugin(manager)["vm_config"].clone();
        add_listener(bootstrap, trap, |manager| {
            plugin(manager)["vm_config"] = vm;
            plugin(manager)["configuration"]["value"]["service"]["cluster"] = json!("nowhere");
        });
    })
}

/// The filter, with a trap in the place of a function that it imports.
fn trapping_at(import: &str) -> Vec<u8> {
    let mut module = walrus::Module::from_file(dist::filter()).expect("the filter's module");
    let function = module.imports.get_func("env", import).expect("an import of the module");
    let replaced = module.replace_imported_func(function, |(body, _)| {
        body.unreachable();
    });
    replaced.expect("a function in its place");
    module.emit_wasm()
}

/// How many VMs have died so far.
fn deaths(world: &World) -> usize {
    world.envoy.log().matches("RuntimeError: unreachable").count()
}

#[tokio::test]
async fn closed_when_the_vm_dies_under_waiting_requests_and_back_with_the_next_one() {
    if Filter::chosen().has_no("VM to trap") {
        return;
    }
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
    if Filter::chosen().has_no("VM to trap") {
        return;
    }
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
        let before = deaths(&world);
        // Whichever worker gets it, the VM there dies, unless it died so lately that Envoy brings none back yet.
        wait::until("a VM dies", async || {
            let deadly = Caller::http1(&format!("http://127.0.0.1:{trap}")).get("/");
            let killer = Answer::to(deadly.bearer_auth(&alice.token)).await;
            assert_eq!(killer.status, 503, "round {round}: {killer:?}");
            (deaths(&world) > before).then_some(())
        })
        .await;
    }
    known.see(200).await;
    assert!(world.envoy.stat(RELOADS).await >= 1, "VMs are brought back");
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
