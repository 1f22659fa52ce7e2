//! The service's graceful end: what is under way is answered, nobody is refused, and it is over within ten seconds.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::clients::Clients;
use crate::support::database::Database;
use crate::support::{Answer, EnvoyConfig, Service, World, postgres, wait};

const TOKENS: usize = 4;
/// Longer than the time between two ticks of a worker.
const TICKS: Duration = Duration::from_millis(600);

/// The requests are held up inside the service by a lock in its database, so that all of them are surely under way.
#[tokio::test]
async fn sigterm_lets_what_is_under_way_be_answered_and_ends_the_service_with_exit_code_0() {
    let url = postgres::shared().database();
    let patient = |config: EnvoyConfig| config.plugin_service("timeout_ms", json!(15_000));
    let mut world = World::around(Service::on(&url).await, patient).await;
    world.admin.create_user("alice").await;
    let mut requests = tokio::task::JoinSet::new();
    let mut lock = Database::open(&url).await;
    let mut tokens = Vec::new();
    for _ in 0..TOKENS {
        tokens.push(world.admin.create_token("alice", json!({"name": "held up"})).await.token);
    }
    lock.run("BEGIN; LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await;
    for token in &tokens {
        for (_, gateway) in world.envoy.both() {
            requests.spawn(Answer::to(gateway.get("/orders").bearer_auth(token)));
        }
    }
    // By another connection: one in a transaction sees the same activity until its end.
    let mut watch = Database::open(&url).await;
    let held_up = "SELECT COUNT(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let (mut seen, mut since) = (0, wait::now());
    wait::until("every token's verdict is held up", async || {
        // Look-ups share statements, so the database does not tell how many they are; the feeds are under way all the time.
        let under_way = world.service.metric("latchkey_http_requests_under_way{listener=\"edge\"}").await;
        let feeds = world.service.metric("latchkey_feeds_waiting").await;
        // A worker asks for two tokens by themselves, and for all others in one or more, at its next tick at the latest.
        let look_ups = under_way.saturating_sub(feeds);
        if look_ups != seen {
            (seen, since) = (look_ups, wait::now());
        }
        let arrived = look_ups >= 3 && since.elapsed() >= TICKS;
        (arrived && watch.number(held_up).await > 0).then_some(())
    })
    .await;

    let begun = wait::now();
    world.service.signal("TERM");
    wait::until("the service has heard it", async || world.service.log().contains("SIGTERM").then_some(()))
        .await;
    assert_eq!(world.service.process().ended(), None, "it ended with requests under way");
    lock.run("COMMIT").await;
    for answer in requests.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let status = world.service.process().wait().await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn outage_is_not_refusal_while_the_service_ends_and_starts_again_under_load() {
    let mut world = World::with(EnvoyConfig::uncached).await;
    let alice = world.admin.user_with_token("alice").await;
    let clients = Clients::start(&world.envoy.http1(), "/orders", &alice.token);
    clients.see(200).await;
    let begun = wait::now();
    world.service.signal("TERM");
    assert_eq!(world.service.process().wait().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    clients.see(503).await;
    world.service.start_again().await;
    clients.see(200).await;
    clients.assert_saw_only(&[200, 503]).await;
    let call = world.admin.call(Method::GET, "/me", None).await;
    assert_eq!(call.status, 200, "{call:?}");
}
