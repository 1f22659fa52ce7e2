//! Capabilities that an operator withholds from the module: each is a host call that fails, or a callback that never comes.

use serde_json::{Value, json};

use crate::support::client::Caller;
use crate::support::envoy_config::connection_manager;
use crate::support::{Answer, Envoy, EnvoyConfig, Filter, World, made_up, ports};

/// Everything that the module uses.
pub const CAPABILITIES: [&str; 37] = [
    "proxy_on_memory_allocate",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_queue_ready",
    "proxy_log",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_send_local_response",
    "proxy_http_call",
    "proxy_set_effective_context",
    "proxy_continue_stream",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_set_property",
    "proxy_get_property",
    "proxy_register_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_dequeue_shared_queue",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_set_tick_period_milliseconds",
    "random_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
];

/// What `capability_restriction_config` allows when some are withheld.
pub fn all_but(withheld: &[&str]) -> Value {
    let allowed = CAPABILITIES.iter().filter(|name| !withheld.contains(name));
    let allowed: serde_json::Map<_, _> = allowed.map(|name| ((*name).to_owned(), json!({}))).collect();
    json!({"allowed_capabilities": allowed})
}

/// The copy of the gateway that listens on `port`, with a VM of its own.
pub fn add_listener(bootstrap: &mut Value, port: u16, change: impl FnOnce(&mut Value)) {
    let mut copy = bootstrap.clone();
    let listener = &mut copy["static_resources"]["listeners"][0];
    listener["name"] = json!(format!("gateway-{port}"));
    listener["address"]["socket_address"]["port_value"] = json!(port);
    let manager = connection_manager(&mut copy);
    manager["stat_prefix"] = json!("other");
    let plugin = &mut manager["http_filters"][0]["typed_config"]["config"];
    plugin["vm_config"]["vm_id"] = json!(format!("latchkey-{port}"));
    change(manager);
    let listener = copy["static_resources"]["listeners"][0].take();
    bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners").push(listener);
}

/// The filter's `PluginConfig` in a connection manager.
pub fn plugin(manager: &mut Value) -> &mut Value {
    &mut manager["http_filters"][0]["typed_config"]["config"]
}

/// What is withheld; what a request with a valid token and another's identity is answered then, and one without a token.
/// 504 is Envoy's end of a request that the filter holds and cannot let go.
type Row = (&'static [&'static str], u16, u16);

const WITHHELD: [Row; 18] = [
    (&[], 200, 401),
    (&["proxy_get_property"], 200, 401),
    (&["proxy_on_tick"], 200, 401),
    (&["proxy_register_shared_queue", "proxy_on_queue_ready"], 200, 401),
    (&["proxy_replace_header_map_value", "proxy_on_response_headers"], 200, 401),
    (&["proxy_get_header_map_pairs"], 503, 503),
    (&["proxy_http_call"], 503, 401),
    (&["proxy_on_http_call_response"], 503, 401),
    (&["proxy_on_http_call_response", "proxy_on_tick"], 504, 401),
    (&["proxy_send_local_response"], 200, 504),
    // A trap: the proxy-wasm crate panics on the status that Envoy returns.
    (&["proxy_increment_metric"], 503, 503),
    (&["proxy_set_tick_period_milliseconds"], 503, 503),
    (&["proxy_remove_header_map_value"], 503, 401),
    (&["proxy_add_header_map_value"], 503, 401),
    (&["proxy_set_property"], 503, 503),
    (&["proxy_continue_stream"], 503, 401),
    (&["proxy_set_effective_context"], 503, 401),
    // A trap: the standard library finds no clock.
    (&["clock_time_get"], 503, 503),
];

#[tokio::test]
async fn closed_and_unspoofable_whatever_the_host_withholds_from_the_filter() {
    if Filter::chosen().has_no("capability that its host may withhold") {
        return;
    }
    let ports = WITHHELD.map(|_| ports::free());
    let world = World::with(|config| {
        config.uncached().concurrency(1).change(move |bootstrap| {
            for ((withheld, ..), port) in WITHHELD.iter().zip(ports) {
                add_listener(bootstrap, port, |manager| {
                    manager["request_timeout"] = json!("3s");
                    plugin(manager)["capability_restriction_config"] = all_but(withheld);
                });
            }
        })
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    for ((withheld, with_token, without), port) in WITHHELD.iter().zip(ports) {
        let gateway = Caller::http1(&format!("http://127.0.0.1:{port}"));
        let request = || gateway.get("/orders").header("x-latchkey-scopes", "admin");
        let before = world.upstream.count();
        let answer = Answer::to(request().bearer_auth(&alice.token)).await;
        assert_eq!(answer.status, *with_token, "without {withheld:?}: {answer:?}");
        assert_eq!(world.upstream.count(), before + usize::from(*with_token == 200), "without {withheld:?}");
        if *with_token == 200 {
            let seen = world.upstream.last();
            assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"), "without {withheld:?}");
            assert_eq!(seen.header("x-latchkey-scopes"), None, "without {withheld:?}");
            assert_eq!(seen.header("authorization"), None, "without {withheld:?}");
        }
        let before = world.upstream.count();
        let answer = Answer::to(gateway.get("/orders")).await;
        assert_eq!(answer.status, *without, "without {withheld:?}, and no token: {answer:?}");
        assert_eq!(world.upstream.count(), before, "without {withheld:?}");
    }
}

/// With `allow_on_headers_stop_iteration` a pause holds the headers alone: Envoy asks about the body as it arrives.
#[tokio::test]
async fn closed_a_body_does_not_carry_a_request_past_that_could_not_be_refused() {
    if Filter::chosen().has_no("capability that its host may withhold") {
        return;
    }
    const CASES: [(&[&str], u16); 2] = [(&[], 401), (&["proxy_send_local_response"], 504)];
    let ports = CASES.map(|_| ports::free());
    let world = World::with(|config| {
        config.change(move |bootstrap| {
            for ((withheld, _), port) in CASES.iter().zip(ports) {
                add_listener(bootstrap, port, |manager| {
                    // The body has arrived whole, so only this ends a request that is held.
                    manager["stream_idle_timeout"] = json!("2s");
                    plugin(manager)["allow_on_headers_stop_iteration"] = json!(true);
                    plugin(manager)["capability_restriction_config"] = all_but(withheld);
                });
            }
        })
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    for ((withheld, refused), port) in CASES.iter().zip(ports) {
        let gateway = Caller::http1(&format!("http://127.0.0.1:{port}"));
        let order = || gateway.post("/orders").body("one order ".repeat(20_000));
        for request in [order(), order().bearer_auth("lk_x"), order().bearer_auth(made_up::token())] {
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, *refused, "without {withheld:?}");
            assert_eq!(world.upstream.count(), 0, "without {withheld:?}");
        }
    }
    let gateway = Caller::http1(&format!("http://127.0.0.1:{}", ports[0]));
    let order = gateway.post("/orders").body("one order ".repeat(20_000)).bearer_auth(&alice.token);
    assert_eq!(Answer::to(order).await.status, 200);
    assert_eq!(world.upstream.last().body.len(), 200_000);
}

#[tokio::test]
async fn steady_a_token_whose_callout_s_end_is_never_reported_is_asked_about_again() {
    if Filter::chosen().has_no("capability that its host may withhold") {
        return;
    }
    let world = World::with(|config| {
        let allowed = all_but(&["proxy_on_http_call_response"]);
        config.uncached().concurrency(1).plugin_service("timeout_ms", json!(100)).change(move |bootstrap| {
            plugin(connection_manager(bootstrap))["capability_restriction_config"] = allowed;
        })
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    let gateway = world.envoy.http1();
    crate::support::wait::until("the service was asked twice", async || {
        let answer = Answer::to(gateway.get("/").bearer_auth(&alice.token)).await;
        answer.assert_refused(503, "Authorization is temporarily unavailable");
        (world.envoy.stat("cluster.latchkey.upstream_rq_total").await >= 2).then_some(())
    })
    .await;
    assert!(world.envoy.metric("callouts.timeout").await >= 1, "the first was given up");
    assert_eq!(world.upstream.count(), 0);
}

/// The crate panics where a metric cannot be defined, when the configuration is loaded: Envoy refuses that, and nothing listens.
#[test]
fn closed_a_filter_that_may_not_define_metrics_is_refused_at_load() {
    if Filter::chosen().has_no("capability that its host may withhold") {
        return;
    }
    for (withheld, accepted) in [(&[][..], true), (&["proxy_define_metric"], false)] {
        let nowhere = "127.0.0.1:9".parse().expect("an address");
        let config = EnvoyConfig::new(nowhere, nowhere).change(move |bootstrap| {
            let capabilities = all_but(withheld);
            plugin(connection_manager(bootstrap))["capability_restriction_config"] = capabilities;
        });
        let validated = Envoy::validate(&config.build(1, 2));
        assert_eq!(validated.is_ok(), accepted, "{validated:?}");
    }
}
