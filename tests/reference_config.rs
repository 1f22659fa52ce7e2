//! `envoy/envoy.yaml`, which operators start from: it is valid, does what its comments say, and a bad filter
//! configuration is refused before any request.

use serde_json::{Value, json};

use crate::support::client::Caller;
use crate::support::reference::Reference;
use crate::support::{Answer, Envoy, EnvoyConfig, Service, raw, wait};

const PATH: &str = "/rest/api/2/myself";

#[test]
fn the_reference_is_valid_and_draws_no_warning() {
    let output =
        Envoy::validate(&Reference::in_containers().bootstrap()).unwrap_or_else(|error| panic!("{error}"));
    assert!(output.contains("OK"), "{output}");
    assert!(!output.contains("[warning]"), "{output}");
}

#[tokio::test]
async fn the_reference_answers_the_demo_route_logs_who_it_was_and_labels_its_metrics() {
    let service = Service::start().await;
    let admin = service.bootstrap();
    let alice = admin.user_with_token("alice").await;
    let reference = Reference::on_loopback(&service);
    let envoy = Envoy::start_reference(&reference).await;

    for (version, gateway) in envoy.both() {
        for request in [
            gateway.get(PATH).bearer_auth(&alice.token),
            gateway.get(PATH).basic_auth("alice", Some(&alice.token)),
        ] {
            let answer = Answer::to(request).await;
            assert_eq!(
                (answer.status, &answer.json()["name"]),
                (200, &json!("alice")),
                "{version}: {answer:?}"
            );
        }
        let wrong = format!("{}0", alice.token);
        Answer::to(gateway.get(PATH).bearer_auth(wrong))
            .await
            .assert_refused(401, "Provided API key is invalid");
    }

    let line = |status: u16| {
        let lines = envoy.log();
        let parsed = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.into_iter().find(|line| line["status"] == status)
    };
    let passed = wait::until("the passed request is in the access log", async || line(200)).await;
    assert_eq!((&passed["user"], &passed["token_id"]), (&json!("alice"), &json!(alice.id)), "{passed}");
    let refused = wait::until("the refused request is in the access log", async || line(401)).await;
    assert_eq!(
        (&refused["details"], &refused["user"]),
        (&json!("latchkey_malformed"), &Value::Null),
        "{refused}"
    );

    let metrics = Caller::http1(&format!("http://127.0.0.1:{}", reference.metrics));
    let stats = Answer::to(metrics.get("/stats/prometheus")).await.body;
    assert!(stats.contains(r#"latchkey_refused{reason="malformed"} 2"#), "{stats}");
    assert!(stats.contains(r#"latchkey_callouts{outcome="ok"}"#), "{stats}");
    let elsewhere = Answer::to(metrics.get("/config_dump")).await;
    assert_eq!(elsewhere.status, 404, "the metrics listener shows more than metrics: {elsewhere:?}");
}

#[tokio::test]
async fn the_reference_refuses_ambiguous_requests_before_any_rule_sees_them() {
    let service = Service::start().await;
    let envoy = Envoy::start_reference(&Reference::on_loopback(&service)).await;
    let status = async |request: &str| {
        let bytes = request.replace('\n', "\r\n").into_bytes();
        raw::status(&raw::exchange(envoy.port(), &bytes).await)
    };
    let get = async |path: &str, header: &str| {
        status(&format!("GET {path} HTTP/1.1\nhost: gateway\nconnection: close\n{header}\n")).await
    };
    // What /public/ opens stays open (there is no such route), and nothing else is reached through it.
    assert_eq!(get("/public/logo", "").await, Some(404));
    assert_eq!(get("/public/..%2frest/admin", "").await, Some(400));
    assert_eq!(get("/public%5cx", "").await, Some(400));
    assert_eq!(get("/public/../rest/admin", "").await, Some(401));
    assert_eq!(get("//public/../rest//admin/", "").await, Some(401));
    assert_eq!(get("/public/logo", "x_latchkey_user: mallory\n").await, Some(400));
}

/// Sets the value at a JSON pointer's place in the filter's configuration.
fn with(pointer: &str, value: &Value) -> EnvoyConfig {
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let mut config = EnvoyConfig::new(nowhere, nowhere);
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    config.plugin.pointer_mut(parent).expect("a parent")[field] = value.clone();
    config
}

#[test]
fn bad_filter_configurations_are_refused_by_validate_and_the_field_is_named() {
    let rows = [
        ("/service/cluster", json!(""), "service.cluster"),
        ("/service/timeout_ms", json!(0), "service.timeout_ms"),
        ("/relam", json!("api"), "relam"),
        ("/schemes", json!([]), "schemes"),
        ("/token_prefix", json!("LK"), "token_prefix"),
        ("/rules", json!([{"match": {"path_prefix": "/"}, "auth": "maybe"}]), "rules[0].auth"),
        ("/rules", json!([{"match": {"path_regex": "("}, "auth": "none"}]), "rules[0].match.path_regex"),
        ("/mode", json!("off"), "mode"),
    ];
    for (pointer, value, field) in rows {
        let output = Envoy::validate(&with(pointer, &value).build(1, 2));
        let error = output.expect_err(&format!("{pointer}: {value} passes"));
        assert!(error.contains(field), "{pointer}: {value} does not name {field}:\n{error}");
    }
}

#[tokio::test]
async fn envoy_does_not_start_with_a_bad_filter_configuration_and_its_log_names_the_field() {
    let log = Envoy::fail_to_start(with("/service/timeout_ms", &json!("soon"))).await;
    assert!(log.contains("service.timeout_ms"), "{log}");
}
