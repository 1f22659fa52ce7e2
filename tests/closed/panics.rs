//! A panic in a hook of the native filter, by a build that has one on purpose: Envoy lives, the one request gets 503, and all others
//! are decided as ever.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::envoy_config::connection_manager;
use crate::support::process::output_of;
use crate::support::test_dir::root;
use crate::support::{Answer, EnvoyConfig, Filter, World};

/// Hooks of requests; that of trailers and the like are reached by the same guard.
const OF_REQUESTS: [&str; 4] = ["request_headers", "request_body", "response_headers", "scheduled"];
/// Hooks that are of no one request.
const OF_ALL: [&str; 4] = ["new", "destroy", "config_scheduled", "config_http_callout_done"];

fn module() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = root().join("target/panics");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).arg("build").args(["--locked", "--quiet", "-p", "latchkey-native"]);
        output_of(cargo.args(["--features", "panics", "--target-dir"]).arg(&target));
        target.join("debug/liblatchkey_native.so")
    })
}

async fn world(hook: &'static str) -> World {
    World::with(|mut config: EnvoyConfig| {
        config.environment.push(("LATCHKEY_PANIC_IN".to_owned(), hook.to_owned()));
        config.folders.push(module().clone());
        config.change(|bootstrap| {
            let entry = &mut connection_manager(bootstrap)["http_filters"][0];
            entry["typed_config"]["dynamic_module_config"]["module"]["local"]["filename"] =
                module().display().to_string().into();
        })
    })
    .await
}

async fn post(world: &World, token: &str) -> u16 {
    let request = world.envoy.http1().post("/").bearer_auth(token).body("a body");
    Answer::to(request).await.status
}

#[tokio::test]
async fn closed_a_panic_in_a_hook_costs_one_request_and_no_other() {
    if Filter::chosen() == Filter::Wasm {
        eprintln!("skipped: a wasm filter's panic ends its VM, which is tested beside this");
        return;
    }
    for hook in OF_REQUESTS {
        let world = world(hook).await;
        let alice = world.admin.user_with_token("alice").await;
        assert_eq!(post(&world, &alice.token).await, 503, "{hook}");
        for _ in 0..8 {
            assert_eq!(post(&world, &alice.token).await, 200, "{hook}");
            assert_eq!(post(&world, "lk_x").await, 401, "{hook}");
        }
        assert_eq!(world.envoy.deaths().await, 1, "{hook}");
        assert!(world.envoy.log().contains(&format!("a panic in {hook} was caught")), "{hook}");
    }
}

#[tokio::test]
async fn closed_and_steady_after_a_panic_that_is_of_no_one_request() {
    if Filter::chosen() == Filter::Wasm {
        eprintln!("skipped: a wasm filter's panic ends its VM, which is tested beside this");
        return;
    }
    for hook in OF_ALL {
        let world = world(hook).await;
        let alice = world.admin.user_with_token("alice").await;
        let first = post(&world, &alice.token).await;
        assert!([200, 500, 503].contains(&first), "{hook}: {first}");
        world.envoy.until_passed(&alice.token).await;
        assert_eq!(post(&world, "lk_x").await, 401, "{hook}");
        world.admin.revoke(&alice.id).await;
        world.envoy.until_refused(&alice.token).await;
        assert_eq!(world.envoy.deaths().await, 1, "{hook}");
    }
}
