//! A token that ends soon: the responses to its requests tell its client in how many seconds.

use serde_json::json;

use crate::support::kind::with_trailers;
use crate::support::{Answer, World};

const EXPIRES_IN: &str = "x-latchkey-expires-in";
const DAY: u64 = 24 * 3600;

/// What a response tells, in seconds.
fn told(answer: &Answer) -> Option<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header(EXPIRES_IN).map(|seconds| seconds.parse().expect("a number of seconds"))
}

#[tokio::test]
async fn a_response_tells_how_long_its_token_lasts_when_that_is_less_than_five_days() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    for (lifetime, told_of) in [("4d", Some(4 * DAY)), ("90s", Some(90)), ("6d", None)] {
        let token =
            world.admin.create_token("alice", json!({"name": lifetime, "expires_in": lifetime})).await.token;
        for (version, gateway) in world.envoy.both() {
            // Asked for the first time, known since, and with a body whose end comes later.
            for request in [gateway.get("/"), gateway.get("/"), gateway.post("/").body("content")] {
                let seconds = told(&Answer::to(request.bearer_auth(&token)).await);
                let near = |told: u64, whole: u64| (whole.saturating_sub(60)..=whole).contains(&told);
                let as_expected = match (seconds, told_of) {
                    (Some(seconds), Some(whole)) => near(seconds, whole),
                    (told, expected) => told == expected,
                };
                assert!(as_expected, "{lifetime}, {version}: {seconds:?}");
            }
        }
    }
}

#[tokio::test]
async fn only_who_presented_the_token_is_told_of_it() {
    let world = World::with(|config| {
        config.rules(json!([
            {"match": {"path_prefix": "/public/"}, "auth": "none"},
            {"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]},
        ]))
    })
    .await;
    world.admin.create_user("alice").await;
    let token = world.admin.create_token("alice", json!({"name": "x", "expires_in": "1d"})).await.token;
    let gateway = world.envoy.http1();
    assert!(told(&Answer::to(gateway.get("/").bearer_auth(&token)).await).is_some());
    assert_eq!(told(&Answer::to(gateway.get("/public/x").bearer_auth(&token)).await), None);
    let refused = Answer::to(gateway.get("/admin/x").bearer_auth(&token)).await;
    assert_eq!((refused.status, refused.header(EXPIRES_IN)), (403, None));
    let anonymous = Answer::to(gateway.get("/")).await;
    assert_eq!((anonymous.status, anonymous.header(EXPIRES_IN)), (401, None));
    // A connection's next request is another stream.
    assert_eq!(told(&Answer::to(gateway.get("/public/x")).await), None);
}

#[tokio::test]
async fn every_kind_of_request_is_told() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    let token = world.admin.create_token("alice", json!({"name": "x", "expires_in": "1d"})).await.token;
    let (http1, http2) = (world.envoy.http1(), world.envoy.http2());
    let trailers = Answer::to(http2.post("/").bearer_auth(&token).body(with_trailers("content"))).await;
    assert!(told(&trailers).is_some());
    let call = Answer::to(http2.grpc("/service/method", b"message").bearer_auth(&token)).await;
    assert!(told(&call).is_some());
    let basic = Answer::to(http1.get("/").basic_auth("alice", Some(&token))).await;
    assert!(told(&basic).is_some());
    assert_eq!(world.envoy.deaths().await, 0, "the filter has died");
}

#[tokio::test]
async fn how_soon_is_configurable_and_zero_is_never() {
    let world = World::with(|config| config.plugin("expiry", json!({"warn_ms": 0}))).await;
    world.admin.create_user("alice").await;
    let brief = world.admin.create_token("alice", json!({"name": "brief", "expires_in": "1h"})).await.token;
    assert_eq!(told(&Answer::to(world.envoy.http1().get("/").bearer_auth(&brief)).await), None);

    let warned = json!({"warn_ms": 300 * DAY * 1000});
    let world = World::with(|config| config.plugin("expiry", warned)).await;
    world.admin.create_user("alice").await;
    let token = world.admin.create_token("alice", json!({"name": "x", "expires_in": "200d"})).await.token;
    let seconds = told(&Answer::to(world.envoy.http1().get("/").bearer_auth(&token)).await);
    assert!(seconds.is_some_and(|seconds| seconds > 199 * DAY), "{seconds:?}");
}
