//! Rule 4, prompt: verdicts are kept, and every worker forgets them when the service says that something has changed.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::postgres::Cluster;
use crate::support::{Answer, EnvoyConfig, Filter, Relay, Service, World, made_up, ports, wait};

/// Long enough for a busy machine, and shorter than anything but the feed would take.
const SOON: Duration = Duration::from_secs(8);

/// Asks until no request costs a callout any more: every worker has the verdict.
pub async fn warm_up(world: &World, token: &str) {
    wait::until("every worker knows the token", async || {
        let before = world.envoy.metric("cache_misses").await;
        for _ in 0..16 {
            let answer = Answer::to(world.envoy.http1().get("/").bearer_auth(token)).await;
            if answer.status == 503 {
                // The connections to a service that has just come back are made anew.
                return None;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        (world.envoy.metric("cache_misses").await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_known_costs_no_callout_with_either_scheme_and_is_judged_each_time() {
    let rules = json!([{"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]}]);
    let world = World::with(|config| config.concurrency(1).rules(rules)).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    let metrics = ["callouts.ok", "cache_misses", "cache_hits", "cache_entries"];
    let read = async || {
        let mut values = Vec::new();
        for name in metrics {
            values.push(world.envoy.metric(name).await);
        }
        values
    };
    let before = read().await;
    for (_, gateway) in world.envoy.both() {
        for _ in 0..10 {
            let passes = [
                gateway.get("/").bearer_auth(&alice.token),
                gateway.get("/").basic_auth("alice", Some(&alice.token)),
            ];
            for request in passes {
                assert_eq!(Answer::to(request.header("x-latchkey-user", "mallory")).await.status, 200);
                let seen = world.upstream.last();
                assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"));
                assert_eq!(seen.header("authorization"), None);
            }
            let other = gateway.get("/").basic_auth("bob", Some(&alice.token));
            Answer::to(other).await.assert_refused(401, "Provided API key is invalid");
            let admin = gateway.get("/admin/").bearer_auth(&alice.token);
            Answer::to(admin).await.assert_refused(403, "API key does not permit this request");
        }
    }
    let after = read().await;
    assert_eq!(
        (after[0], after[1], after[2]),
        (before[0], before[1], before[2] + 80),
        "{before:?} {after:?}"
    );
    assert_eq!(after[3], 1);
}

#[tokio::test]
async fn prompt_a_revoked_token_is_refused_at_every_worker() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    for round in 0..10 {
        let token = world.admin.create_token("alice", json!({"name": format!("round {round}")})).await;
        warm_up(&world, &token.token).await;
        world.admin.revoke(&token.id).await;
        let begun = wait::now();
        let answer = world.envoy.until_refused(&token.token).await;
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
        answer.assert_refused(401, "Provided API key is invalid");
    }
    assert!(world.envoy.metric("cache_evictions.changed").await >= 10);
    assert_eq!(world.envoy.metric("feeds_stale").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompt_a_token_is_refused_though_the_database_falls_silent_right_after_its_revocation() {
    let port = ports::free();
    let (cluster, address) = (Cluster::primary(port), SocketAddr::from(([127, 0, 0, 1], port)));
    let relay = Relay::to(address).await;
    let url = cluster.database().replace(&address.to_string(), &relay.address().to_string());
    let service = Service::on(&url).await;
    // No report of what was used is written meanwhile.
    let world = World::around(service, |config| config.plugin("usage", json!({"flush_ms": 600_000}))).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    relay.hold_after(b"COMMIT\0");
    world.admin.revoke(&alice.id).await;
    let begun = wait::now();
    assert!(relay.is_holding(), "the database answers nothing any more");
    // Were the feed only lost, its verdicts would serve for 30 s.
    wait::until_within(SOON, "each worker has forgotten the token", async || {
        (world.envoy.metric("cache_evictions.changed").await == Filter::chosen().edges(2)).then_some(())
    })
    .await;
    println!("each worker had forgotten the token {:?} after its revocation", begun.elapsed());
    for _ in 0..4 {
        let answer = Answer::to(world.envoy.http1().get("/").bearer_auth(&alice.token)).await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    assert!(relay.is_holding());
    relay.mend();
    wait::until("the token is refused", async || {
        let answer = Answer::to(world.envoy.http1().get("/").bearer_auth(&alice.token)).await;
        (answer.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn prompt_a_disabled_user_is_refused_with_all_its_tokens_and_passes_when_it_is_enabled_again() {
    let world = World::start().await;
    let first = world.admin.user_with_token("alice").await;
    let second = world.admin.create_token("alice", json!({"name": "second"})).await;
    for token in [&first, &second] {
        warm_up(&world, &token.token).await;
    }
    for round in 0..3 {
        let set = async |active: bool| {
            world.admin.expect(200, Method::PATCH, "/users/alice", Some(json!({"active": active}))).await;
            wait::now()
        };
        let disabled = set(false).await;
        for token in [&first, &second] {
            world.envoy.until_refused(&token.token).await;
        }
        assert!(disabled.elapsed() < SOON, "round {round}: {:?}", disabled.elapsed());
        let enabled = set(true).await;
        wait::until("both tokens pass everywhere", async || {
            for token in [&first, &second].repeat(8) {
                let answer = Answer::to(world.envoy.http1().get("/").bearer_auth(&token.token)).await;
                if answer.status != 200 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        assert!(enabled.elapsed() < SOON, "round {round}: {:?}", enabled.elapsed());
    }
}

#[tokio::test]
async fn prompt_a_known_token_is_refused_when_it_expires() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    let token = world.admin.create_token("alice", json!({"name": "brief", "expires_in": "2s"})).await;
    let gateway = world.envoy.http1();
    let begun = wait::now();
    wait::until("the token is refused", async || {
        let answer = Answer::to(gateway.get("/").bearer_auth(&token.token)).await;
        (answer.status == 401).then_some(())
    })
    .await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert!(world.envoy.metric("cache_hits").await > 0, "it was known meanwhile");
}

#[tokio::test]
async fn prompt_a_known_token_is_not_accepted_past_its_expiry_however_late_the_service_answered() {
    let service = Service::start().await;
    let (look_ups, edge) = (Relay::to(service.edge_address()).await, service.edge_address());
    let around = |config: EnvoyConfig| config.service_at(look_ups.address()).feed(edge);
    let world = World::around(service, around).await;
    world.admin.create_user("alice").await;
    let token = world.admin.create_token("alice", json!({"name": "brief", "expires_in": "3s"})).await;
    let expired = wait::now() + Duration::from_secs(3);
    look_ups.delay(Duration::from_millis(800));
    let (gateway, mut last) = (world.envoy.http1(), wait::now());
    wait::until("the token is refused", async || {
        let sent = wait::now();
        let answer = Answer::to(gateway.get("/").bearer_auth(&token.token)).await;
        if answer.status == 200 {
            last = sent;
        }
        (answer.status == 401).then_some(())
    })
    .await;
    assert!(last <= expired, "a request passed that was sent {:?} after the expiry", last - expired);
    assert!(world.envoy.metric("cache_hits").await > 0, "it was known meanwhile");
}

#[tokio::test]
async fn what_is_known_is_asked_about_again_when_its_time_is_over_and_not_earlier() {
    let brief = |config: EnvoyConfig| {
        config.concurrency(1).plugin("cache", json!({"ttl_ms": 1000, "negative_ttl_ms": 500}))
    };
    let world = World::with(brief).await;
    let (alice, unknown) = (world.admin.user_with_token("alice").await, made_up::token());
    warm_up(&world, &alice.token).await;
    let gateway = world.envoy.http1();
    for (token, status, ttl) in [(&alice.token, 200, 1000), (&unknown, 401, 500)] {
        let (begun, before) = (wait::now(), world.envoy.metric("callouts.ok").await);
        wait::until("it was asked about three times more", async || {
            let answer = Answer::to(gateway.get("/").bearer_auth(token)).await;
            assert_eq!(answer.status, status, "{answer:?}");
            (world.envoy.metric("callouts.ok").await >= before + 3).then_some(())
        })
        .await;
        // Between the three questions lie two times to live, each at most a tenth shorter.
        let least = Duration::from_millis(2 * ttl * 9 / 10);
        assert!(begun.elapsed() >= least, "{status}: {:?} and not {least:?}", begun.elapsed());
    }
    wait::until("the metrics say so", async || {
        (world.envoy.metric("cache_evictions.expired").await >= 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn contained_made_up_tokens_neither_push_known_ones_out_nor_grow_the_cache_past_its_bounds() {
    let small = |config: EnvoyConfig| {
        config.concurrency(1).plugin("cache", json!({"max_tokens": 4, "max_negative": 50}))
    };
    let world = World::with(small).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    let (callouts, gateway) = (world.envoy.metric("callouts.ok").await, world.envoy.http1());
    for _ in 0..300 {
        Answer::to(gateway.get("/").bearer_auth(made_up::token()))
            .await
            .assert_refused(401, "Provided API key is invalid");
        assert_eq!(Answer::to(gateway.get("/").bearer_auth(&alice.token)).await.status, 200);
    }
    assert_eq!(
        world.envoy.metric("callouts.ok").await,
        callouts + 300,
        "the known token was never asked about"
    );
    wait::until("the metrics say how many were pushed out", async || {
        (world.envoy.metric("cache_evictions.capacity").await == 250).then_some(())
    })
    .await;
    assert_eq!(world.envoy.metric("cache_entries").await, 51);
}
