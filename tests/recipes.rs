//! The recipes of `envoy/README.md`, pasted into the reference configuration word for word: each does what its text says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::envoy_config::EDGE_SECRET;
use crate::support::recipes::{block, indented};
use crate::support::reference::Reference;
use crate::support::{Answer, Envoy, Service, Upstream, raw, test_dir, wait};

const README: &str = "envoy/README.md";
/// What stands before the filter in the reference.
const FILTER: &str = "                  - name: latchkey\n                    typed_config:";
const PROTOCOL: &str =
    "          \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n";

/// A recipe's HTTP filter goes in before ours.
fn add_filter(reference: &mut Reference, recipe: &str) {
    reference.replace(FILTER, &format!("{}{FILTER}", indented(recipe, 18)));
}

async fn start(reference: &Reference, folder: Option<&Path>) -> Envoy {
    let mut bootstrap = reference.bootstrap();
    bootstrap.folders.extend(folder.map(Path::to_owned));
    Envoy::start_bootstrap(&bootstrap, [reference.gateway, reference.admin]).await
}

/// The recipe's secret file, with the secret of tests.
fn secret_file() -> PathBuf {
    let file = test_dir::file("edge-secret", "yaml");
    let text = block(README, "generic_secret").replace("<the secret>", EDGE_SECRET);
    std::fs::write(&file, text).expect("the secret's file is written");
    file
}

/// The reference without `secret_env`, and with the recipe in as many of its clusters, the last ones first.
fn by_injector(service: &Service, upstream: &Upstream, clusters: usize) -> (Reference, PathBuf) {
    let mut reference = Reference::on_loopback(service);
    reference.route_to(upstream.address());
    reference.replace("                              secret_env: LATCHKEY_EDGE_SECRET\n", "");
    let file = secret_file();
    let recipe = block(README, "credential_injector.v3")
        .replace("/etc/envoy/edge-secret.yaml", file.to_str().expect("a path in UTF-8"));
    let filters = indented(&recipe, 10);
    reference.replace_last(PROTOCOL, &format!("{PROTOCOL}{filters}"), clusters);
    let node = block(README, "node: {id:");
    reference.replace("static_resources:\n", &format!("{node}static_resources:\n"));
    (reference, file.parent().expect("the test's directory").to_owned())
}

#[tokio::test]
async fn the_secret_by_credential_injector_serves_look_ups_feed_and_usage() {
    let (mut service, upstream) = (Service::start().await, Upstream::start().await);
    let alice = service.bootstrap().user_with_token("alice").await;
    let (mut reference, folder) = by_injector(&service, &upstream, 2);
    reference.replace("# usage: {flush_ms: 10000}", "usage: {flush_ms: 200}");
    let envoy = start(&reference, Some(&folder)).await;
    envoy.until_passed(&alice.token).await;
    for outcome in ["callouts.ok", "feed_answers.ok", "usage_reports.ok"] {
        wait::until(outcome, async || (envoy.metric(outcome).await > 0).then_some(())).await;
    }
    for outcome in ["callouts", "feed_answers", "usage_reports"] {
        assert_eq!(envoy.metric(&format!("{outcome}.unauthorized")).await, 0, "{outcome}");
    }
    assert_eq!(envoy.metric("feeds_stale").await, 0);
    // The feed is heard, so what is known is cached.
    service.kill().await;
    let answer = Answer::to(envoy.http1().get("/").bearer_auth(&alice.token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_feed_without_the_secret_is_an_error_in_the_log_that_names_its_cluster() {
    let (service, upstream) = (Service::start().await, Upstream::start().await);
    let alice = service.bootstrap().user_with_token("alice").await;
    let (mut reference, folder) = by_injector(&service, &upstream, 1);
    // The recipe is in the last of the two clusters: that is the one for look-ups here, and the feed's is without.
    reference.replace("cluster: latchkey\n", "cluster: latchkey_feed\n");
    reference.replace("feed_cluster: latchkey_feed  ", "feed_cluster: latchkey  ");
    let envoy = start(&reference, Some(&folder)).await;
    envoy.until_passed(&alice.token).await;
    let line = wait::until("the log tells of the feed", async || {
        envoy.log().lines().find(|line| line.contains("change feed via cluster")).map(str::to_owned)
    })
    .await;
    assert!(line.contains("[error]") || line.contains("[critical]"), "{line}");
    for part in
        ["change feed via cluster latchkey is unauthorized (401)", "secret_env", "credential_injector"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(envoy.metric("feed_answers.unauthorized").await > 0);
    let told = |text: &str| text.lines().filter(|line| line.contains("is unauthorized (401)")).count();
    wait::until("it was denied some times more", async || {
        (envoy.metric("feed_answers.unauthorized").await > 6).then_some(())
    })
    .await;
    assert!(told(&envoy.log()) <= 2, "once a minute and worker:\n{}", envoy.log());
    let warned = wait::until("the service's log tells of it", async || {
        service.log().lines().find(|line| line.contains("edge API call denied")).map(str::to_owned)
    })
    .await;
    for part in ["WARN", "/edge/v1/changes", "127.0.0.1"] {
        assert!(warned.contains(part), "{part} is not in {warned}");
    }
    let metric = r#"latchkey_edge_refused_total{path="/edge/v1/changes"}"#;
    assert!(service.metric(metric).await > 6);
}

#[tokio::test]
async fn cors_before_the_filter_answers_browsers_and_lets_scripts_read_denials() {
    let (service, upstream) = (Service::start().await, Upstream::start().await);
    let alice = service.bootstrap().user_with_token("alice").await;
    let mut reference = Reference::on_loopback(&service);
    reference.route_to(upstream.address());
    add_filter(&mut reference, &block(README, "filters.http.cors.v3.Cors\n"));
    let policy = indented(&block(README, "CorsPolicy"), 22);
    let domains = "                      domains: [\"*\"]\n                      routes:\n                        # demo";
    reference.replace(domains, &format!("{policy}{domains}"));
    let envoy = start(&reference, None).await;
    for (version, gateway) in envoy.both() {
        let from = |origin: &str, method: Method| gateway.request(method, "/orders").header("origin", origin);
        let app = "https://app.example.com";
        let before = upstream.count();
        let asked = from(app, Method::OPTIONS)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization");
        let answer = Answer::to(asked).await;
        assert_eq!(answer.status, 200, "{version}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some(app));
        assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
        let denied = Answer::to(from(app, Method::GET)).await;
        denied.assert_refused(401, "API key is missing");
        assert_eq!(denied.header("access-control-allow-origin").as_deref(), Some(app));
        let exposed = denied.header("access-control-expose-headers").expect("exposed headers");
        for name in ["www-authenticate", "retry-after", "x-latchkey-expires-in"] {
            assert!(exposed.contains(name), "{version}: {exposed}");
        }
        // What is no question of a browser's needs a token.
        Answer::to(gateway.request(Method::OPTIONS, "/orders"))
            .await
            .assert_refused(401, "API key is missing");
        let elsewhere =
            from("https://evil.example", Method::OPTIONS).header("access-control-request-method", "PUT");
        Answer::to(elsewhere).await.assert_refused(401, "API key is missing");
        assert_eq!(upstream.count(), before, "{version}");
        let passed = Answer::to(from(app, Method::GET).bearer_auth(&alice.token)).await;
        assert_eq!(passed.status, 200, "{version}: {passed:?}");
        assert_eq!(passed.header("access-control-allow-origin").as_deref(), Some(app));
    }
}

/// A JWT (RFC 7519) by HS256 (RFC 7518 §3.2).
fn jwt(key: &[u8], claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "1", "typ": "JWT"})), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn jwts_and_tokens_live_on_one_listener_whatever_the_shape_of_tokens() {
    let key = [7; 32];
    let jwks = test_dir::file("jwks", "json");
    let keys =
        json!({"keys": [{"kty": "oct", "kid": "1", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(key)}]});
    std::fs::write(&jwks, keys.to_string()).expect("the keys are written");
    let far = Duration::from_secs(4_102_444_800).as_secs();
    let claims = json!({"iss": "https://login.example.com", "aud": "app", "sub": "dora", "exp": far});
    let (good, forged) = (jwt(&key, &claims), jwt(&[8; 32], &claims));
    for prefix in ["token_prefix: lk  ", "token_prefix: null"] {
        let (service, upstream) = (Service::start().await, Upstream::start().await);
        let alice = service.bootstrap().user_with_token("alice").await;
        let mut reference = Reference::on_loopback(&service);
        reference.route_to(upstream.address());
        let filter = block(README, "filters.http.jwt_authn.v3")
            .replace("/etc/envoy/jwks.json", jwks.to_str().expect("a path in UTF-8"));
        add_filter(&mut reference, &filter);
        let rule = indented(&block(README, "path_prefix: /app/"), 30);
        let rules = "                            rules:\n";
        reference.replace(rules, &format!("{rules}{rule}"));
        reference.replace("# token_prefix: lk  ", prefix);
        let envoy = start(&reference, jwks.parent()).await;
        for (version, gateway) in envoy.both() {
            let what = format!("{prefix}, {version}");
            let get = |path: &str, token: &str| gateway.get(path).bearer_auth(token);
            let before = upstream.count();
            for (path, token) in [("/app/x", &forged), ("/app/x", &alice.token), ("/orders", &good)] {
                let answer = Answer::to(get(path, token).header("x-jwt-payload", "forged")).await;
                assert_eq!(answer.status, 401, "{what}, {path}: {answer:?}");
            }
            assert_eq!(Answer::to(gateway.get("/app/x")).await.status, 401, "{what}");
            let path = raw_path(&envoy, "/app/..;/orders", &good).await;
            assert_eq!(path, Some(401), "{what}: what servers may read differently needs both");
            assert_eq!(upstream.count(), before, "{what}");
            let passed = Answer::to(get("/app/x", &good).header("x-latchkey-user", "mallory")).await;
            assert_eq!(passed.status, 200, "{what}: {passed:?}");
            let seen = upstream.last();
            let payload = seen.header("x-jwt-payload").expect("what was verified");
            let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).expect("base64url");
            let payload: Value = serde_json::from_slice(&payload).expect("JSON");
            assert_eq!(payload["sub"], "dora", "{what}");
            assert!(seen.all_spellings("x-latchkey-user").is_empty(), "{what}: {seen:?}");
            assert_eq!(seen.header("authorization"), None, "{what}");
            assert_eq!(Answer::to(get("/orders", &alice.token)).await.status, 200, "{what}");
            assert_eq!(upstream.last().header("x-latchkey-user").as_deref(), Some("alice"), "{what}");
        }
    }
}

/// The status of a GET of a path that clients would clean.
async fn raw_path(envoy: &Envoy, path: &str, token: &str) -> Option<u16> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    raw::status(&raw::exchange(envoy.port(), head.as_bytes()).await)
}
