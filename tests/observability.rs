//! The dashboard and the alert rules: they name only what a running Envoy and the service export, or nobody would be told.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::test_dir::root;
use crate::support::{Answer, World, made_up};

/// The words of a text that begin with one of ours.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    let ours = words.filter(|word| word.starts_with("latchkey_") || word.starts_with("envoy_wasm_"));
    ours.map(str::to_owned).collect()
}

/// The names that the service's source gives its metrics, histograms by their series too.
fn of_the_service() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["telemetry.rs", "jobs/delete_expired.rs"] {
        let source = std::fs::read_to_string(root().join("admin-service/src").join(file)).expect("a source");
        names.extend(source.split('"').filter(|text| text.starts_with("latchkey_")).map(str::to_owned));
    }
    let series: Vec<_> = names.iter().map(|name| format!("{name}_bucket")).collect();
    names.extend(series);
    names
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("envoy/observability").join(name)).expect("a file of observability")
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_metrics_and_labels_that_there_are() {
    let world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;
    for token in [&alice.token, &made_up::token()] {
        Answer::to(world.envoy.http1().get("/").bearer_auth(token)).await;
    }
    world.admin.revoke(&alice.id).await;
    world.envoy.until_refused(&alice.token).await;
    let exported = world.envoy.admin("/stats/prometheus").await;
    let mut known = named(&exported);
    known.extend(of_the_service());
    for name in ["dashboard.json", "alerts.yaml"] {
        let unknown: Vec<_> = named(&file(name)).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
    for label in ["reason=\"unavailable\"", "outcome=\"ok\"", "cause=\"capacity\""] {
        assert!(exported.contains(label), "no metric has {label}");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_none_hides_another() {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < 24 && taken.insert((x, y)), "{} stands on another", panel["title"]);
        }
        let queries = panel["targets"].as_array().map_or(0, Vec::len);
        assert!(panel["type"] == "row" || queries > 0, "{} shows nothing", panel["title"]);
    }
}
