//! What the filter counts: every request once, under names that read well in Prometheus.

use std::collections::BTreeMap;

use reqwest::RequestBuilder;
use serde_json::json;

use crate::support::{Answer, Filter, World, made_up, wait};

/// The filter's metrics as Prometheus sees them: `latchkey_refused{reason="expired"}` to its value.
async fn scrape(world: &World) -> BTreeMap<String, u64> {
    // Until all is told.
    world.envoy.metric("passed").await;
    let text = world.envoy.admin("/stats/prometheus").await;
    let ours = text.lines().filter(|line| line.starts_with("latchkey_"));
    let parsed = ours.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.replace("{}", ""), value.parse().expect("a number"))
    });
    parsed.collect()
}

fn sum(metrics: &BTreeMap<String, u64>, name: &str) -> u64 {
    let group = format!("{name}{{");
    metrics.iter().filter(|(key, _)| *key == name || key.starts_with(&group)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn every_request_is_counted_once_and_the_gauge_goes_back_to_zero() {
    let rules = json!([{"match": {"path_prefix": "/public/"}, "auth": "none"}]);
    let world =
        World::with(|config| config.uncached().rules(rules).plugin_service("timeout_ms", json!(20_000)))
            .await;
    let alice = world.admin.user_with_token("alice").await;
    let begun = scrape(&world).await;
    assert_eq!((sum(&begun, "latchkey_passed"), sum(&begun, "latchkey_refused")), (0, 0), "{begun:?}");

    let (http1, http2) = (world.envoy.http1(), world.envoy.http2());
    let mut asked = 0;
    for gateway in [&http1, &http2] {
        for (path, token, times) in [
            ("/public/", None, 3),
            ("/", Some(alice.token.clone()), 4),
            ("/", None, 5),
            ("/", Some("lk_x".to_owned()), 6),
            ("/", Some(made_up::token()), 7),
        ] {
            for _ in 0..times {
                let request = gateway.get(path);
                let request = token.iter().fold(request, RequestBuilder::bearer_auth);
                Answer::to(request).await;
                asked += 1;
            }
        }
    }
    let after = scrape(&world).await;
    let counted = |name: &str| after.get(name).copied();
    assert_eq!(counted("latchkey_passed"), Some(14), "{after:?}");
    assert_eq!(counted(r#"latchkey_refused{reason="missing"}"#), Some(10), "{after:?}");
    assert_eq!(counted(r#"latchkey_refused{reason="malformed"}"#), Some(12), "{after:?}");
    assert_eq!(counted(r#"latchkey_refused{reason="unknown"}"#), Some(14), "{after:?}");
    // One after the other, so none was shared; bad shapes ask nobody.
    assert_eq!(counted(r#"latchkey_callouts{outcome="ok"}"#), Some(22), "{after:?}");
    assert_eq!(sum(&after, "latchkey_passed") + sum(&after, "latchkey_refused"), asked, "{after:?}");
    assert_eq!(sum(&after, "latchkey_callouts"), 22, "{after:?}");
    assert_eq!(sum(&after, "latchkey_shadow_refused"), 0, "{after:?}");
    assert_eq!(sum(&after, "latchkey_callouts_under_way"), 0, "{after:?}");

    // The gauge: up while the service is silent, and back.
    world.service.pause();
    let held = tokio::spawn(Answer::to(http1.get("/").bearer_auth(&alice.token)));
    wait::until("one callout is under way", async || {
        (world.envoy.metric("callouts_under_way").await == 1).then_some(())
    })
    .await;
    assert_eq!(scrape(&world).await.get("latchkey_callouts_under_way"), Some(&1));
    world.service.resume();
    assert_eq!(held.await.expect("an answer").status, 200);
    assert_eq!(world.envoy.metric("callouts_under_way").await, 0);
}

#[tokio::test]
async fn no_name_of_a_metric_comes_from_a_request() {
    let world = World::start().await;
    let names = async || {
        let stats = world.envoy.admin("/stats").await;
        let ours = stats.lines().filter(|line| line.starts_with(Filter::chosen().stats_prefix()));
        ours.filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    let before = names().await;
    assert!(before.len() > 30, "every metric is there from the start: {before:?}");
    for path in ["/a", "/b?x=1"] {
        for credential in ["Bearer lk_x", "Digest a=b", "Basic Og=="] {
            Answer::to(world.envoy.http1().get(path).header("authorization", credential)).await;
        }
    }
    assert_eq!(names().await, before);
}
