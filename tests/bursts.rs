//! Prompt on a thin line too: tens of thousands of tokens that are revoked at once reach every worker in parts, beside whatever else
//! the line carries, and keepalives get through.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::service::Made;
use crate::support::{Answer, EnvoyConfig, Relay, Service, World, wait};

/// How many tokens lose their user at once, and how many of them are in use at the edge.
const TOKENS: usize = 50_000;
const IN_USE: usize = 100;
/// The line: 320 KB/s, and 400 ms there and back.
const BYTES_PER_SECOND: u32 = 320_000;
const ROUND_TRIP: Duration = Duration::from_millis(400);
/// Four times what it takes on a machine that is not busy, and less than the line alone takes for whole hashes: 67 bytes for each
/// token and worker.
const BOUND: Duration = Duration::from_secs(20);

/// The feed's cluster as the reference has it, with three times its patience: a busy machine cuts no connection, and one large
/// response on this line, of 10 s, still would.
fn kept_alive(config: EnvoyConfig) -> EnvoyConfig {
    config.change(|bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
        let feed = clusters.iter_mut().find(|cluster| cluster["name"] == "latchkey_feed").expect("the feed's");
        let options = &mut feed["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        options["explicit_http_config"]["http2_protocol_options"] =
            json!({"connection_keepalive": {"interval": "1s", "timeout": "3s"}});
    })
}

/// Gives a user so many tokens that nobody knows.
async fn add_tokens(service: &Service, user: &str, count: usize) {
    let mut database = Database::open(service.database_url()).await;
    database
        .run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at) \
             SELECT printf('00000000-0000-7000-8000-%012x', i), (SELECT id FROM users WHERE name = '{user}'), randomblob(32), \
             'seeded', 'lk_seed', 'bearer basic', '', '', 0 FROM n"
        ))
        .await;
    database.close().await;
}

/// Asks with each token, all at the same time, and says what each was answered.
async fn ask_all(world: &World, tokens: &[Made]) -> Vec<u16> {
    let gateway = world.envoy.http1();
    let mut asked = tokio::task::JoinSet::new();
    for token in tokens {
        let request = gateway.get("/").bearer_auth(&token.token);
        asked.spawn(async move { Answer::to(request).await.status });
    }
    asked.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompt_fifty_thousand_tokens_that_are_revoked_at_once_are_refused_at_the_end_of_a_thin_line() {
    let service = Service::start().await;
    let line = Relay::to(service.edge_address()).await;
    let through = |config: EnvoyConfig| kept_alive(config.service_at(line.address()).feed(line.address()));
    let world = World::around(service, |config| {
        through(config).plugin_service("timeout_ms", json!(3000)).plugin("usage", json!({"flush_ms": 60_000}))
    })
    .await;
    world.admin.lift_limits().await;
    world.admin.create_user("crowd").await;
    let mut tokens = Vec::new();
    for number in 0..IN_USE {
        tokens.push(world.admin.create_token("crowd", json!({"name": format!("token {number}")})).await);
    }
    add_tokens(&world.service, "crowd", TOKENS - IN_USE).await;
    wait::until("every worker knows all tokens", async || {
        let before = world.envoy.metric("cache_misses").await;
        for _ in 0..6 {
            assert!(ask_all(&world, &tokens).await.iter().all(|status| *status == 200));
        }
        (world.envoy.metric("cache_misses").await == before).then_some(())
    })
    .await;

    line.thin_line(BYTES_PER_SECOND, ROUND_TRIP);
    let disable = Some(json!({"active": false}));
    let disabled: Value = world.admin.expect(200, Method::PATCH, "/users/crowd", disable).await;
    assert_eq!(disabled["active"], false);
    // How long the service takes to read so many changes is another matter.
    wait::until("the service tells of it", async || {
        (world.service.metric("latchkey_revision").await == 1).then_some(())
    })
    .await;
    let cuts = async || world.envoy.stat("cluster.latchkey_feed.http2.keepalive_timeout").await;
    let (begun, before) = (wait::now(), cuts().await);
    let mut last = Duration::ZERO;
    wait::until("all of them are refused, again and again", async || {
        for _ in 0..3 {
            let sent = begun.elapsed();
            if ask_all(&world, &tokens).await.contains(&200) {
                last = sent;
                return None;
            }
        }
        Some(())
    })
    .await;
    let cut = cuts().await - before;
    println!(
        "the last one passed {last:?} after the service told of it; {cut} connections were cut by their keepalive"
    );
    assert!(last < BOUND, "a token passed {last:?} after the service told of its revocation");
    assert_eq!(cut, 0, "the feed was cut by its keepalive");
    assert_eq!(world.envoy.metric("cache_evictions.reset").await, 0, "the feed told of each token");
}
