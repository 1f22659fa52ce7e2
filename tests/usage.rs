//! What tokens were used for is known although verdicts are kept: every request counts once, whatever is down meanwhile.

use reqwest::Method;
use serde_json::json;

use crate::prompt::warm_up;
use crate::support::database::Database;
use crate::support::service::Made;
use crate::support::{Answer, EnvoyConfig, Relay, Service, World, made_up, wait};

fn often(config: EnvoyConfig) -> EnvoyConfig {
    let rules = json!([{"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]}]);
    config.rules(rules).plugin("usage", json!({"flush_ms": 500}))
}

/// What the service has written down: requests that passed, and that were refused.
async fn written(world: &World) -> (i64, i64) {
    let mut database = Database::open(world.service.database_url()).await;
    let allowed = database.number("SELECT CAST(COALESCE(SUM(allowed), 0) AS BIGINT) FROM usage_hours").await;
    let denied = database.number("SELECT CAST(COALESCE(SUM(denied), 0) AS BIGINT) FROM usage_hours").await;
    (allowed, denied)
}

/// What the gateway has counted of requests with a token that exists.
async fn counted(world: &World) -> (i64, i64) {
    let metric = async |name: &str| i64::try_from(world.envoy.metric(name).await).expect("a small number");
    (metric("passed").await, metric("refused.insufficient_scope").await)
}

async fn until_all_is_written(world: &World) {
    wait::until("all that was used is written down", async || {
        (written(world).await == counted(world).await).then_some(())
    })
    .await;
}

async fn use_it(world: &World, token: &Made, times: usize) {
    for _ in 0..times {
        let (_, gateway) = &world.envoy.both()[times % 2];
        assert_eq!(Answer::to(gateway.get("/").bearer_auth(&token.token)).await.status, 200);
        assert_eq!(Answer::to(gateway.get("/admin/").bearer_auth(&token.token)).await.status, 403);
    }
}

#[tokio::test]
async fn every_request_with_a_token_is_counted_once_and_its_last_use_is_known() {
    let world = World::with(often).await;
    let alice = world.admin.user_with_token("alice").await;
    let path = format!("/tokens/{}", alice.id);
    let unused = world.admin.expect(200, Method::GET, &path, None).await;
    assert!(unused["last_used_at"].is_null(), "{unused}");
    use_it(&world, &alice, 10).await;
    use_it(&world, &alice, 5).await;
    assert_eq!(counted(&world).await, (15, 15));
    until_all_is_written(&world).await;
    let used = world.admin.expect(200, Method::GET, &path, None).await;
    let at = used["last_used_at"].as_str().expect("a time");
    assert!(at.ends_with(":00Z"), "to the minute: {at}");
}

#[tokio::test]
async fn what_is_denied_is_counted_for_its_token_whatever_the_reason_and_is_no_use_of_it() {
    let world = World::with(often).await;
    let admin = &world.admin;
    let alice = admin.user_with_token("alice").await;
    let make = async |spec| admin.create_token("alice", spec).await;
    let revoked = make(json!({"name": "revoked"})).await;
    let elsewhere = make(json!({"name": "elsewhere", "allowed_cidrs": ["192.0.2.0/24"]})).await;
    let for_basic = make(json!({"name": "basic", "schemes": ["basic"]})).await;
    let short = make(json!({"name": "short", "expires_in": "1s"})).await;
    let bob = admin.user_with_token("bob").await;
    admin.revoke(&revoked.id).await;
    admin.expect(200, Method::PATCH, "/users/bob", Some(json!({"active": false}))).await;
    let gateway = world.envoy.http1();
    let get = |token: &str| gateway.get("/").bearer_auth(token);
    let expired = async || {
        let token = admin.expect(200, Method::GET, &format!("/tokens/{}", short.id), None).await;
        (token["status"] == "expired").then_some(())
    };
    wait::until("the short one has expired", expired).await;
    for _ in 0..3 {
        for (request, status) in [
            (get(&revoked.token), 401),
            (get(&short.token), 401),
            (get(&elsewhere.token), 403),
            (get(&for_basic.token), 401),
            (get(&bob.token), 401),
            (gateway.get("/").basic_auth("bob", Some(&alice.token)), 401),
            (gateway.get("/admin/").bearer_auth(&alice.token), 403),
            (get(&made_up::token()), 401),
        ] {
            assert_eq!(Answer::to(request).await.status, status);
        }
    }
    wait::until("all that was denied is written down", async || {
        (written(&world).await == (0, 21)).then_some(())
    })
    .await;
    for token in [&alice, &revoked, &elsewhere, &for_basic, &short, &bob] {
        let shown = admin.expect(200, Method::GET, &format!("/tokens/{}", token.id), None).await;
        assert!(shown["last_used_at"].is_null(), "{shown}");
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn what_is_used_while_the_service_is_away_is_written_down_when_it_is_back() {
    let mut world = World::with(often).await;
    let alice = world.admin.user_with_token("alice").await;
    warm_up(&world, &alice.token).await;
    for _ in 0..3 {
        world.service.kill().await;
        use_it(&world, &alice, 20).await;
        world.service.start_again().await;
        until_all_is_written(&world).await;
    }
    assert!(world.envoy.metric("usage_reports.ok").await >= 3);
    assert_eq!(world.envoy.metric("usage_dropped").await, 0);
}

#[tokio::test]
async fn a_report_whose_answer_is_lost_again_and_again_counts_once_and_nothing_used_meanwhile_is_lost() {
    let service = Service::start().await;
    let relay = Relay::to(service.edge_address()).await;
    let world = World::around(service, |config| often(config).usage(relay.address())).await;
    let alice = world.admin.user_with_token("alice").await;
    use_it(&world, &alice, 1).await;
    for outcome in ["counted", "repeated"] {
        let before = reports(&world, outcome).await;
        relay.hold();
        use_it(&world, &alice, 10).await;
        wait::until(&format!("a report was {outcome}"), async || {
            (reports(&world, outcome).await > before).then_some(())
        })
        .await;
        relay.cut();
        use_it(&world, &alice, 5).await;
    }
    relay.mend();
    until_all_is_written(&world).await;
    assert_eq!(written(&world).await, (31, 31));
    assert!(world.envoy.metric("usage_reports.unreachable").await >= 2, "no answer was lost");
    assert_eq!(world.envoy.metric("usage_dropped").await, 0);
}

/// How many reports the service has taken so.
async fn reports(world: &World, outcome: &str) -> u64 {
    let name = format!(r#"latchkey_usage_reports_total{{outcome="{outcome}"}}"#);
    world.service.metric(&name).await
}
