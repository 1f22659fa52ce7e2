//! Configurations of the filter that are refused, each with one line that says which field and what is allowed; and those
//! that the project shows, which are accepted.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::envoy_config::connection_manager;
use crate::support::listener_file::ListenerFile;
use crate::support::reference::Reference;
use crate::support::{Answer, Envoy, EnvoyConfig, Filter, Upstream, secrets, wait};

/// A secret that stands in the wrong place, or is none.
const SECRET: &str = "MARKED-misplaced-edge-secret-90c2";

fn good() -> Value {
    json!({"service": {"cluster": "latchkey"}})
}

/// Where in the good configuration what is put, the field that the line names, and a part of what it says.
type Row = (&'static str, Value, &'static str, &'static str);

fn fields() -> Vec<Row> {
    vec![
        ("/service", json!({}), "service.cluster", "name the Envoy cluster"),
        ("/service", json!("latchkey"), "service", "object"),
        ("/service/cluster", json!(""), "service.cluster", "name of an Envoy cluster"),
        ("/service/cluster", json!(["a"]), "service.cluster", "string"),
        ("/service/feed_cluster", json!(""), "service.feed_cluster", "name of an Envoy cluster"),
        ("/service/usage_cluster", json!(7), "service.usage_cluster", "string"),
        ("/service/authority", json!("a b"), "service.authority", "host name"),
        ("/service/timeout_ms", json!(0), "service.timeout_ms", "from 1 to 60000"),
        ("/service/timeout_ms", json!(60_001), "service.timeout_ms", "from 1 to 60000"),
        ("/service/timeout_ms", json!(1.5), "service.timeout_ms", "from 1 to 60000"),
        ("/service/timeout_ms", json!("1s"), "service.timeout_ms", "from 1 to 60000"),
        ("/service/retries", json!(3), "service.retries", "`timeout_ms`"),
        ("/relam", json!("api"), "relam", "`realm`"),
        ("/realm", json!(""), "realm", "1 to 64"),
        ("/realm", json!("a \"quoted\" realm"), "realm", "printable ASCII"),
        ("/realm", json!("two\nlines"), "realm", "printable ASCII"),
        ("/two\nlines", json!(1), "two\u{fffd}lines", "`realm`"),
        ("/schemes", json!([]), "schemes", "at least one"),
        ("/schemes", json!(["digest"]), "schemes[0]", "`bearer`, `basic`"),
        ("/schemes", json!("bearer"), "schemes", "sequence"),
        ("/challenges", json!([]), "challenges", "at least one"),
        ("/challenges", json!(["basic", "basic"]), "challenges", "once"),
        ("/challenges", json!(["digest"]), "challenges[0]", "`bearer`, `basic`"),
        ("/token_prefix", json!("LK"), "token_prefix", "2 to 16"),
        ("/token_prefix", json!("k"), "token_prefix", "2 to 16"),
        ("/identity_headers", json!({"user": "host"}), "identity_headers.user", "x-latchkey-user"),
        ("/identity_headers", json!({"user": "x user"}), "identity_headers.user", "header"),
        ("/identity_headers", json!({"user": ":path"}), "identity_headers.user", "header"),
        ("/identity_headers", json!({"scopes": "x-latchkey-user"}), "identity_headers.scopes", "three names"),
        ("/identity_headers", json!({"token-id": "x-t"}), "identity_headers.token-id", "`token_id`"),
        ("/forward_authorization", json!("yes"), "forward_authorization", "boolean"),
        ("/cache", json!({"max_tokens": 1_000_001}), "cache.max_tokens", "from 0 to 1000000"),
        ("/cache", json!({"ttl_ms": 0}), "cache.ttl_ms", "from 1 to 86400000"),
        ("/cache", json!({"negative_ttl_ms": -1}), "cache.negative_ttl_ms", "from 1 to 3600000"),
        ("/stale", json!({"max_ms": 86_400_001}), "stale.max_ms", "from 0 to 86400000"),
        ("/usage", json!({"flush_ms": 99}), "usage.flush_ms", "from 100 to 3600000"),
        ("/mode", json!("off"), "mode", "`enforce`, `shadow`"),
    ]
}

fn rules() -> Vec<Row> {
    let rule = |rule: Value, field, said| ("/rules", json!([{}, rule]), field, said);
    vec![
        ("/rules", json!({}), "rules", "sequence"),
        rule(json!({"auth": "maybe"}), "rules[1].auth", "`optional`"),
        rule(json!({"auth": "none", "scopes": ["a"]}), "rules[1].scopes", "auth: required"),
        rule(json!({"auth": "optional", "scopes": ["a"]}), "rules[1].scopes", "auth: required"),
        rule(json!({"challenges": []}), "rules[1].challenges", "at least one"),
        rule(json!({"auth": "none", "challenges": ["basic"]}), "rules[1].challenges", "auth: none"),
        rule(json!({"scopes": ["a b"]}), "rules[1].scopes[0]", "1 to 64 visible ASCII"),
        rule(json!({"match": {"path": "orders"}}), "rules[1].match.path", "begins with /"),
        rule(json!({"match": {"path": "/a", "path_prefix": "/b"}}), "rules[1].match", "one of"),
        rule(json!({"match": {"path_prefix": "/a?b"}}), "rules[1].match.path_prefix", "no query"),
        rule(json!({"match": {"path_regex": "("}}), "rules[1].match.path_regex", "regular expression"),
        rule(
            json!({"match": {"path_regex": "(a{1000}){1000}"}}),
            "rules[1].match.path_regex",
            "regular expression",
        ),
        rule(json!({"match": {"path": "/a;b"}, "auth": "none"}), "rules[1].match.path", "exempt"),
        rule(
            json!({"match": {"path_prefix": "/a//"}, "auth": "optional"}),
            "rules[1].match.path_prefix",
            "exempt",
        ),
        rule(json!({"match": {"methods": []}}), "rules[1].match.methods", "at least one"),
        rule(json!({"match": {"methods": ["get"]}}), "rules[1].match.methods[0]", "upper case"),
        rule(json!({"match": {"host": "example.com:80"}}), "rules[1].match.host", "without a port"),
        rule(json!({"match": {"header": "x"}}), "rules[1].match.header", "`path`"),
    ]
}

fn secrets() -> Vec<Row> {
    let both = json!({"cluster": "a", "secret": SECRET, "secret_env": "LATCHKEY_EDGE_SECRET"});
    vec![
        ("/service", both, "service.secret_env", "either"),
        ("/service/secret", json!([SECRET]), "service.secret", "text"),
        ("/service/secret", json!({"value": SECRET}), "service.secret", "text"),
        ("/service/secret", json!(format!("{SECRET} and more")), "service.secret", "without spaces"),
        ("/service/secret", json!(SECRET.repeat(40)), "service.secret", "at most 1024"),
        ("/service/secret_env", json!(SECRET), "service.secret_env", "environment_variables"),
        ("/service/secret_env", json!([SECRET]), "service.secret_env", "string"),
        ("/service/edge_secret", json!(SECRET), "service.edge_secret", "`secret`"),
        ("/secret", json!(SECRET), "secret", "`service`"),
        ("/service", json!(SECRET), "service", "cluster"),
    ]
}

/// The good configuration with `value` at `pointer`, whose last part is a new field or an old one.
fn with(pointer: &str, value: &Value) -> Value {
    let mut plugin = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    plugin.pointer_mut(parent).expect("a parent")[field] = value.clone();
    plugin
}

/// What the filter has said of refused configurations, a line each.
fn refusals(envoy: &Envoy) -> Vec<String> {
    let log = envoy.log();
    log.lines()
        .filter_map(|line| Some(line.split_once("the configuration is refused: ")?.1.to_owned()))
        .collect()
}

#[tokio::test]
async fn closed_and_secret_every_bad_configuration_is_refused_in_one_line_that_names_the_field() {
    secrets::note(SECRET);
    let upstream = Upstream::start().await;
    let mut config = EnvoyConfig::new("127.0.0.1:9".parse().expect("an address"), upstream.address());
    config.plugin = good();
    let (file, config) = ListenerFile::of(config);
    let envoy = Envoy::start(config).await;
    let rows = [fields(), rules(), secrets()].concat();
    for (number, (pointer, value, ..)) in rows.iter().enumerate() {
        file.set_plugin(&with(pointer, value));
        wait::until(&format!("{pointer}: {value} is refused"), async || {
            (envoy.stat("listener_manager.lds.update_rejected").await > number as u64).then_some(())
        })
        .await;
    }
    let lines = wait::until("everything is in the log", async || {
        Some(refusals(&envoy)).filter(|lines| lines.len() >= rows.len())
    })
    .await;
    let mut wrong = String::new();
    for ((pointer, value, field, said), line) in rows.iter().zip(&lines) {
        if !line.starts_with(&format!("{field}: ")) || !line.contains(said) {
            writeln!(wrong, "{pointer}: {value} has {field} and {said}, and not: {line}")
                .expect("a string grows");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(lines.len(), rows.len(), "one line each");
    assert!(!envoy.log().contains("MARKED-misplaced"), "a secret is in the log");
    // All the while the good configuration goes on.
    assert_eq!(Answer::to(envoy.http1().get("/")).await.status, 401);
    assert_eq!(upstream.count(), 0);
}

/// The example of the contract, section 4.
fn contract() -> Value {
    json!({
        "service": {
            "cluster": "latchkey", "feed_cluster": "latchkey_feed", "usage_cluster": "latchkey_usage",
            "authority": "latchkey", "timeout_ms": 1000, "secret": "", "secret_env": "",
        },
        "realm": "api",
        "schemes": ["bearer", "basic"],
        "token_prefix": "lk",
        "identity_headers": {
            "user": "x-latchkey-user", "token_id": "x-latchkey-token-id", "scopes": "x-latchkey-scopes",
        },
        "forward_authorization": false,
        "cache": {"max_tokens": 10000, "ttl_ms": 300_000, "max_negative": 10000, "negative_ttl_ms": 10000},
        "stale": {"max_ms": 30000},
        "usage": {"flush_ms": 10000},
        "rules": [
            {"match": {"path_prefix": "/public/", "methods": ["GET"]}, "auth": "none"},
            {"match": {"path_prefix": "/rest/admin/"}, "scopes": ["admin"]},
        ],
        "mode": "enforce",
    })
}

fn assert_valid(what: &str, plugin: &Value, change: fn(&mut Value)) {
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let mut config = EnvoyConfig::new(nowhere, nowhere).change(change);
    config.plugin = plugin.clone();
    if let Err(output) = Envoy::validate(&config.build(1, 2)) {
        panic!("{what} is refused:\n{output}");
    }
}

/// The same configuration as JSON in a text, which Envoy hands on as it is.
fn as_text(bootstrap: &mut Value) {
    let entry = &mut connection_manager(bootstrap)["http_filters"][0];
    let configuration = Filter::chosen().configuration(entry);
    let text = configuration["value"].to_string();
    *configuration = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
}

#[test]
fn the_contract_s_configuration_and_the_least_one_are_accepted_as_a_struct_and_as_a_text() {
    assert_valid("the contract's example", &contract(), |_| {});
    assert_valid("the contract's example as a text", &contract(), as_text);
    assert_valid("the least configuration", &good(), |_| {});
}

#[test]
fn the_settings_that_the_reference_shows_in_comments_are_accepted_too() {
    let mut bootstrap = Reference::in_containers().bootstrap();
    let before = bootstrap.text.clone();
    let names = ["usage_cluster", "schemes", "token_prefix", "identity_headers", "{user"];
    let more = ["forward_authorization", "cache", "stale", "usage", "mode"];
    let shown: Vec<_> = names.iter().chain(&more).copied().collect();
    let mut enabled = 0;
    bootstrap.text = before
        .lines()
        .map(|line| match line.split_once("# ") {
            Some((indent, rest))
                if indent.trim().is_empty() && shown.iter().any(|name| rest.trim().starts_with(name)) =>
            {
                enabled += 1;
                format!("{indent}{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(enabled, shown.len(), "the reference shows other settings than these");
    if let Err(output) = Envoy::validate(&bootstrap) {
        panic!("the reference is refused with its comments enabled:\n{output}\n{}", bootstrap.text);
    }
}
