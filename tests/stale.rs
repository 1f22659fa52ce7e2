//! Rules 5 and 10 with verdicts that are kept: an outage is bridged for as long as was configured and not longer, changes that
//! happened meanwhile take effect when the feed is back, and nobody has to help.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::prompt::warm_up;
use crate::support::process::output_of;
use crate::support::service::Made;
use crate::support::{Answer, EnvoyConfig, Filter, Relay, Service, World, dist, test_dir, wait};

fn short(config: EnvoyConfig) -> EnvoyConfig {
    config.plugin("stale", json!({"max_ms": 3000}))
}

async fn status(world: &World, token: &str) -> u16 {
    Answer::to(world.envoy.http1().get("/").bearer_auth(token)).await.status
}

/// A gateway whose feed comes by a relay of its own, and a user with a token that every worker knows.
async fn with_relay() -> (World, Relay, Made) {
    let service = Service::start().await;
    let relay = Relay::to(service.edge_address()).await;
    let address = relay.address();
    let world = World::around(service, |config| short(config).feed(address)).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    (world, relay, alice)
}

#[tokio::test]
async fn steady_without_the_feed_alone_every_request_is_decided_by_the_service_once_what_is_known_is_stale() {
    let (world, relay, alice) = with_relay().await;
    let bob = world.admin.user_with_token("bob").await;
    relay.cut();
    wait::until("every worker is stale", async || {
        assert_eq!(status(&world, &alice.token).await, 200);
        (world.envoy.metric("feeds_stale").await == Filter::chosen().edges(2)).then_some(())
    })
    .await;
    let callouts = world.envoy.metric("callouts.ok").await;
    for token in [&alice, &bob].repeat(5) {
        assert_eq!(status(&world, &token.token).await, 200);
    }
    assert_eq!(world.envoy.metric("callouts.ok").await, callouts + 10, "each request was asked about");
    world.admin.revoke(&bob.id).await;
    assert_eq!(status(&world, &bob.token).await, 401, "the service's word counts at once");
    relay.mend();
    warm_up(&world, &alice.token).await;
    assert_eq!(status(&world, &bob.token).await, 401);
}

#[tokio::test]
async fn prompt_a_revocation_while_the_feed_is_cut_takes_effect_when_it_is_back() {
    let (world, relay, alice) = with_relay().await;
    let bob = world.admin.user_with_token("bob").await;
    warm_up(&world, &bob.token).await;
    relay.cut();
    world.admin.revoke(&bob.id).await;
    relay.mend();
    world.envoy.until_refused(&bob.token).await.assert_refused(401, "Provided API key is invalid");
    assert_eq!(status(&world, &alice.token).await, 200);
    assert_eq!(world.envoy.metric("cache_evictions.reset").await, 0, "nothing else was forgotten");
}

#[tokio::test]
async fn steady_a_restored_backup_makes_every_edge_forget_what_it_knew() {
    let mut world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;
    let backup = test_dir::file("backup", "db");
    stop(&mut world).await;
    std::fs::copy(database(&world), &backup).expect("a backup");
    world.service.start_again().await;
    let bob = world.admin.user_with_token("bob").await;
    warm_up(&world, &bob.token).await;
    world.admin.revoke(&alice.id).await;
    world.envoy.until_refused(&alice.token).await;

    stop(&mut world).await;
    std::fs::copy(&backup, database(&world)).expect("the backup is restored");
    let url = world.service.database_url().to_owned();
    output_of(Command::new(dist::program()).args(["new-epoch", "--database-url", &url]));
    world.service.start_again().await;
    // As the backup has it: bob's token was never made, and alice's never revoked.
    world.envoy.until_refused(&bob.token).await.assert_refused(401, "Provided API key is invalid");
    warm_up(&world, &alice.token).await;
    assert!(world.envoy.metric("cache_evictions.reset").await > 0);
}

/// Ends the service as an operator does; its database is one file then.
async fn stop(world: &mut World) {
    world.service.signal("TERM");
    assert_eq!(world.service.process().wait().await.code(), Some(0));
}

fn database(world: &World) -> PathBuf {
    PathBuf::from(world.service.database_url().strip_prefix("sqlite://").expect("a file"))
}
