//! Contained: a crowd that comes at once with a token that nobody has asked about yet costs one question, and harms no one.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::client::Caller;
use crate::support::service::Made;
use crate::support::{Answer, Filter, World, made_up, raw};

const CROWD: usize = 1000;
/// How many of them come over one connection of HTTP/2.
const SHARE: usize = 50;

async fn crowd(world: &World, token: &str) -> JoinSet<Answer> {
    let mut clients = JoinSet::new();
    for _ in 0..CROWD / SHARE {
        let gateway = Caller::http2(&format!("http://127.0.0.1:{}", world.envoy.port()));
        for _ in 0..SHARE {
            clients.spawn(Answer::to(gateway.get("/").bearer_auth(token)));
        }
    }
    world.envoy.until_in_flight(CROWD as u64).await;
    clients
}

/// With time enough for a busy machine.
async fn world(workers: u32) -> (World, Made) {
    let world = World::with(|config| {
        config.concurrency(workers).upstream_http2().plugin_service("timeout_ms", json!(60_000))
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    (world, alice)
}

/// How many workers have connections of clients.
async fn reached(world: &World, workers: u32) -> u64 {
    let mut reached = 0;
    for worker in 0..workers {
        let connections =
            format!("listener.127.0.0.1_{}.worker_{worker}.downstream_cx_active", world.envoy.port());
        reached += u64::from(world.envoy.stat(&connections).await > 0);
    }
    reached
}

#[tokio::test]
async fn contained_a_thousand_clients_with_one_new_token_are_all_answered_and_cost_one_callout_per_worker() {
    for workers in [1, 2] {
        let (world, alice) = world(workers).await;
        let unknown = made_up::token();
        let mut passed = 0;
        for (token, status) in [(&alice.token, 200), (&unknown, 401)] {
            let callouts = world.envoy.metric("callouts.ok").await;
            world.service.pause();
            let clients = crowd(&world, token).await;
            let reached = reached(&world, workers).await;
            assert!((1..=u64::from(workers)).contains(&reached), "{reached} of {workers} workers");
            let reached = Filter::chosen().edges(reached);
            assert_eq!(world.envoy.metric("callouts_under_way").await, reached);
            assert_eq!(world.upstream.count(), passed, "a request passed before the verdict");
            world.service.resume();
            for answer in clients.join_all().await {
                assert_eq!(answer.status, status, "{answer:?}");
            }
            passed += if status == 200 { CROWD } else { 0 };
            assert_eq!(world.upstream.count(), passed);
            assert_eq!(world.envoy.metric("callouts.ok").await, callouts + reached);
            assert_eq!(world.envoy.metric("callouts_under_way").await, 0);
        }
        assert_eq!(world.envoy.deaths().await, 0, "the filter has died");
    }
}

#[tokio::test]
async fn contained_a_crowd_that_leaves_while_it_waits_harms_nobody_behind_it() {
    let (world, alice) = world(1).await;
    world.service.pause();
    let request = raw::get_with_authorization("/", format!("Bearer {}", alice.token).as_bytes());
    let mut first = raw::connect(world.envoy.port()).await;
    first.write_all(&request).await.expect("the first request is sent");
    world.envoy.until_in_flight(1).await;
    let mut last = raw::connect(world.envoy.port()).await;
    last.write_all(&request).await.expect("the last request is sent");
    world.envoy.until_in_flight(2).await;
    drop(first);
    world.envoy.until_in_flight(1).await;

    let mut clients = JoinSet::new();
    for _ in 0..CROWD / SHARE {
        let gateway = Caller::http2(&format!("http://127.0.0.1:{}", world.envoy.port()));
        for _ in 0..SHARE {
            clients.spawn(Answer::try_to(gateway.get("/").bearer_auth(&alice.token)));
        }
    }
    world.envoy.until_in_flight(CROWD as u64 + 1).await;
    clients.shutdown().await;
    world.envoy.until_in_flight(1).await;

    world.service.resume();
    let mut answer = Vec::new();
    let _ = last.read_to_end(&mut answer).await;
    assert_eq!(raw::status(&answer), Some(200), "{}", answer.escape_ascii());
    assert_eq!(world.upstream.count(), 1, "the request of a client that left reached the upstream");
    assert_eq!(world.envoy.metric("callouts.ok").await, 1);
    assert_eq!(world.envoy.deaths().await, 0, "the filter has died");
    let next = Answer::to(world.envoy.http1().get("/").bearer_auth(&alice.token)).await;
    assert_eq!(next.status, 200, "{next:?}");
}
