//! The dashboard and the alert rules: they name only what a running Envoy and the service export, or nobody would be told.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::client::Caller;
use crate::support::process::Process;
use crate::support::test_dir::root;
use crate::support::{Answer, Filter, World, made_up, ports, test_dir, wait};

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
    if Filter::chosen() == Filter::Native {
        // It has no VM.
        known.insert("envoy_wasm_latchkey_vm_reload_success".to_owned());
    }
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

#[test]
fn promtool_accepts_the_configurations_and_the_rules_do_what_their_unit_tests_say() {
    for arguments in [
        ["check", "config", "prometheus.yaml"],
        ["check", "config", "prometheus-compose.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(root().join("envoy/observability"));
        let output = promtool.output().expect("promtool: run scripts/setup.sh prometheus");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A Prometheus with the shipped configuration, on other ports and in more of a hurry, and the value of one expression.
struct Prometheus {
    api: Caller,
    _process: Process,
}

impl Prometheus {
    fn start(world: &World) -> Self {
        let folder = test_dir::file("prometheus", "dir");
        std::fs::create_dir(&folder).expect("a folder");
        let edge = world.envoy.admin_address().to_string();
        let shipped = file("prometheus.yaml");
        assert!(shipped.contains("127.0.0.1:9902") && shipped.contains("127.0.0.1:8102"));
        let config = shipped.replace("127.0.0.1:9902", &edge);
        let config = config.replace("127.0.0.1:8102", &world.service.metrics_address().to_string());
        let config = config.replace("interval: 15s", "interval: 1s");
        std::fs::write(folder.join("prometheus.yaml"), config).expect("a configuration");
        std::fs::write(folder.join("alerts.yaml"), file("alerts.yaml")).expect("the rules");
        let address = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new("prometheus");
        command.current_dir(&folder).arg("--config.file=prometheus.yaml").arg("--storage.tsdb.path=data");
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", &mut command, &test_dir::file("prometheus", "log"));
        Self { api: Caller::http1(&format!("http://{address}")), _process: process }
    }

    /// The answer to an expression, when it has any result.
    async fn result(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let query = self.api.get(&format!("/api/v1/query?query={encoded}"));
        let answer = Answer::try_to(query).await.ok().filter(|answer| answer.status == 200)?.json();
        answer["data"]["result"].get(0).cloned()
    }

    async fn until(&self, expression: &str) -> Value {
        wait::until(expression, async || self.result(expression).await).await
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_both_and_tells_of_an_envoy_that_is_gone() {
    let world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;
    Answer::to(world.envoy.http1().get("/").bearer_auth(&alice.token)).await;
    let prometheus = Prometheus::start(&world);
    for job in ["envoy", "latchkey"] {
        prometheus.until(&format!("up{{job=\"{job}\"}} == 1")).await;
    }
    prometheus.until("latchkey_cache_misses > 0").await;
    prometheus.until("latchkey_build_info").await;
    // Before its first scrape, Prometheus knows of no Envoy at all, which is told of without an instance.
    let alert = "ALERTS{alertname=\"LatchkeyEdgeDown\", instance!=\"\"}";
    assert_eq!(prometheus.result(alert).await, None);
    drop(world.envoy);
    let told = prometheus.until(alert).await;
    assert_eq!(told["metric"]["severity"], "critical", "{told}");
    let other = prometheus.result("ALERTS{alertname=\"LatchkeyServiceDown\", instance!=\"\"}").await;
    assert_eq!(other, None, "the service is there");
}
