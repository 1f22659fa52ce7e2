//! `envoy/envoy.yaml`, which operators start from: it is valid, does what its comments say, and a bad filter
//! configuration is refused before any request.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Caller;
use crate::support::reference::Reference;
use crate::support::service::Made;
use crate::support::test_dir::root;
use crate::support::{Answer, Envoy, EnvoyConfig, Service, Upstream, made_up, ports, raw, wait};

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
    assert_eq!((&passed["path"], &passed["decision"]), (&json!(PATH), &json!("allowed")), "{passed}");
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

/// The line of the reference's access log for a request.
pub async fn access_line(envoy: &Envoy, request_id: &str) -> Value {
    wait::until(&format!("the access log has request {request_id}"), async || {
        let log = envoy.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["request_id"] == request_id)
    })
    .await
}

#[tokio::test]
async fn the_access_log_says_of_every_denial_which_path_why_and_whose_token_it_was() {
    let (service, upstream) = (Service::start().await, Upstream::start().await);
    let admin = service.bootstrap();
    let alice = admin.user_with_token("alice").await;
    let revoked = admin.create_token("alice", json!({"name": "revoked"})).await;
    let elsewhere =
        admin.create_token("alice", json!({"name": "n", "allowed_cidrs": ["192.0.2.0/24"]})).await;
    let for_basic = admin.create_token("alice", json!({"name": "b", "schemes": ["basic"]})).await;
    let bob = admin.user_with_token("bob").await;
    admin.revoke(&revoked.id).await;
    admin.expect(200, Method::PATCH, "/users/bob", Some(json!({"active": false}))).await;
    let mut reference = Reference::on_loopback(&service);
    reference.route_to(upstream.address());
    let envoy = Envoy::start_reference(&reference).await;
    let (nobody, owner) = ((None, None), |user, made: &Made| (Some(user), Some(made.id.clone())));
    // Twice each, so that cached verdicts name their token too.
    for round in 0..4 {
        let (_, gateway) = &envoy.both()[round % 2];
        let (orders, rules) = (|| gateway.get("/orders/7?x=1"), || gateway.get("/rest/admin/users?x=1"));
        for (request, status, reason, (user, token_id)) in [
            (orders(), 401, "missing", nobody.clone()),
            (orders().bearer_auth(made_up::token()), 401, "unknown", nobody.clone()),
            (orders().bearer_auth(&revoked.token), 401, "revoked", owner("alice", &revoked)),
            (orders().bearer_auth(&bob.token), 401, "user_disabled", owner("bob", &bob)),
            (orders().bearer_auth(&for_basic.token), 401, "wrong_scheme", owner("alice", &for_basic)),
            (orders().basic_auth("bob", Some(&alice.token)), 401, "wrong_user", owner("alice", &alice)),
            (orders().bearer_auth(&elsewhere.token), 403, "address", owner("alice", &elsewhere)),
            (rules().bearer_auth(&alice.token), 403, "insufficient_scope", owner("alice", &alice)),
        ] {
            // A denied request shows its identifier to nobody but the log, so one at a time.
            let seen = access_lines(&envoy).len();
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, status, "{reason}: {answer:?}");
            assert!(answer.headers.iter().all(|(_, value)| !value.as_bytes().starts_with(b"alice")));
            let line = wait::until("the next line of the access log", async || {
                access_lines(&envoy).into_iter().nth(seen)
            })
            .await;
            let path = if reason == "insufficient_scope" { "/rest/admin/users" } else { "/orders/7" };
            assert_eq!((&line["path"], &line["status"]), (&json!(path), &json!(status)), "{line}");
            assert_eq!(line["details"], format!("latchkey_{reason}"), "{line}");
            assert_eq!(line["decision"], format!("denied:{reason}"), "{line}");
            assert_eq!((&line["user"], &line["token_id"]), (&json!(user), &json!(token_id)), "{line}");
        }
    }
    assert_eq!(upstream.count(), 0, "a denied request reached the upstream");
    let open = Answer::to(envoy.http1().get("/public/logo")).await;
    assert_eq!(open.status, 200, "{open:?}");
    let id = upstream.last().header("x-request-id").expect("a request id");
    let line = access_line(&envoy, &id).await;
    assert_eq!((&line["path"], &line["decision"]), (&json!("/public/logo"), &json!("allowed")), "{line}");
    assert_eq!(line["user"], Value::Null, "{line}");
}

fn access_lines(envoy: &Envoy) -> Vec<Value> {
    let log = envoy.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("decision").is_some()).collect()
}

/// `envoy/compose.yaml` gives Envoy a listener beside the reference's, by `--config-yaml`.
#[tokio::test]
async fn the_metrics_are_on_loopback_and_compose_publishes_them_and_nothing_else() {
    let service = Service::start().await;
    let reference = Reference::on_loopback(&service);
    let file = std::fs::read_to_string(root().join("envoy/envoy.yaml")).expect("the reference");
    let opened: Vec<_> = file.lines().filter(|line| line.contains("address: 0.0.0.0")).collect();
    assert_eq!(opened.len(), 1, "only the gateway is for others: {opened:?}");
    assert!(opened[0].contains("port_value: 10000"), "{opened:?}");
    let compose = std::fs::read_to_string(root().join("envoy/compose.yaml")).expect("compose.yaml");
    let after = compose.split_once("- --config-yaml\n      - |\n").expect("what compose adds").1;
    let added = after.lines().take_while(|line| line.starts_with("        ")).map(|line| format!("{line}\n"));
    let published = ports::free();
    assert!(compose.contains("127.0.0.1:${ENVOY_METRICS_PORT:-9902}:9903"), "compose publishes another port");
    let added = added.collect::<String>();
    let added = added
        .replace("0.0.0.0", "127.0.0.1")
        .replace("port_value: 9903", &format!("port_value: {published}"));
    let added = added.replace("port_value: 9902", &format!("port_value: {}", reference.metrics));
    let mut bootstrap = reference.bootstrap();
    bootstrap.arguments.extend(["--config-yaml".to_owned(), added]);
    let envoy = Envoy::start_bootstrap(&bootstrap, [reference.gateway, reference.admin]).await;
    Answer::to(envoy.http1().get(PATH)).await.assert_refused(401, "API key is missing");
    let metrics = Caller::http1(&format!("http://127.0.0.1:{published}"));
    assert_eq!(Answer::to(metrics.get("/ready")).await.status, 200);
    let stats = Answer::to(metrics.get("/stats/prometheus")).await;
    assert!(stats.body.contains(r#"latchkey_refused{reason="missing"} 1"#), "{}", stats.body);
    for path in ["/config_dump", "/quitquitquit", "/"] {
        assert_eq!(Answer::to(metrics.get(path)).await.status, 404, "{path}");
    }
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
    // Over HTTP/2 the stream is reset, and the client sees no status.
    let reset = Answer::try_to(envoy.http2().get("/public/logo").header("x_latchkey_user", "mallory")).await;
    assert!(reset.is_err(), "{reset:?}");
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
