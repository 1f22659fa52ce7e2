//! Shadow mode: every request passes, and what would have been refused is decided, counted and logged.

use std::collections::BTreeMap;

use serde_json::json;

use crate::reference_config::access_line;
use crate::support::envoy_config::connection_manager;
use crate::support::reference::Reference;
use crate::support::service::Made;
use crate::support::{Answer, Envoy, Service, Upstream, World, made_up, wait};

/// Passes the log's words on: `access <status> <details> <decision> <path>`.
const ACCESS_LOG: &str = "access %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %FILTER_STATE(wasm.latchkey_decision:PLAIN)% %REQ(:PATH)%\n";

async fn world() -> (World, Made) {
    let rules = json!([
        {"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]},
        {"match": {"path_prefix": "/none/"}, "auth": "none"},
    ]);
    let world = World::with(|config| {
        config.uncached().rules(rules).plugin("mode", json!("shadow")).change(|bootstrap| {
            let log = &mut connection_manager(bootstrap)["access_log"][0]["typed_config"]["log_format"];
            log["text_format_source"]["inline_string"] = json!(ACCESS_LOG);
        })
    });
    let world = world.await;
    let alice = world.admin.user_with_token("alice").await;
    (world, alice)
}

#[tokio::test]
async fn in_shadow_mode_every_request_passes_and_is_counted_and_logged_as_decided() {
    let (mut world, alice) = world().await;
    let revoked = world.admin.create_token("alice", json!({"name": "revoked"})).await;
    world.admin.revoke(&revoked.id).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let good = bearer(&alice.token);
    // Path, credentials, what is decided, and whose request it is.
    let rows = [
        ("/orders", vec![good.clone()], "allowed", Some("alice")),
        ("/none/x", vec![], "allowed", None),
        ("/orders", vec![], "missing", None),
        ("/orders", vec!["Digest a=b".to_owned()], "unsupported_scheme", None),
        ("/orders", vec![bearer("lk_x")], "malformed", None),
        ("/orders", vec![bearer(&made_up::token())], "unknown", None),
        ("/orders", vec![bearer(&revoked.token)], "revoked", None),
        ("/orders", vec![good.clone(), good.clone()], "multiple_credentials", None),
        ("/admin/x", vec![good.clone()], "insufficient_scope", None),
    ];
    let ask = async |path: &str, credentials: &[String], decision: &str, user: Option<&str>| {
        for (version, gateway) in world.envoy.both() {
            let what = format!("{decision}, {version}");
            let path = format!("{path}?{decision}-{}", version.replace('/', ""));
            let before = world.upstream.count();
            let request = gateway.post(&path).header("x-latchkey-user", "mallory").body("a body");
            let request = credentials.iter().fold(request, |it, value| it.header("authorization", value));
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), None, "{what}");
            assert_eq!(world.upstream.count(), before + 1, "{what}");
            let seen = world.upstream.last();
            assert_eq!((seen.path.as_str(), &seen.body[..]), (path.as_str(), b"a body".as_slice()), "{what}");
            assert_eq!(seen.header("x-latchkey-user").as_deref(), user, "{what}");
            let decided =
                if decision == "allowed" { decision.to_owned() } else { format!("shadow_denied:{decision}") };
            let line = format!("access 200 via_upstream {decided} {path}");
            wait::until(&format!("\"{line}\" is logged"), async || {
                world.envoy.log().lines().any(|it| it == line).then_some(())
            })
            .await;
        }
    };
    for (path, credentials, decision, user) in &rows {
        ask(path, credentials, decision, *user).await;
        if *decision != "allowed" {
            let count = world.envoy.metric(&format!("shadow_refused.{decision}")).await;
            assert_eq!(count, 2, "shadow_refused.{decision}");
            assert_eq!(world.envoy.metric(&format!("refused.{decision}")).await, 0, "refused.{decision}");
        }
    }
    assert_eq!(world.envoy.metric("passed").await, 4);
    world.service.kill().await;
    for (version, gateway) in world.envoy.both() {
        let answer = Answer::to(gateway.get("/orders").header("authorization", &good)).await;
        assert_eq!(answer.status, 200, "shadow mode outlives the service, {version}: {answer:?}");
        assert_eq!(world.upstream.last().header("x-latchkey-user"), None, "{version}");
    }
    assert_eq!(world.envoy.metric("shadow_refused.unavailable").await, 2);
}

#[tokio::test]
async fn in_shadow_mode_another_systems_credential_still_reaches_the_upstream_and_ours_does_not() {
    let (world, alice) = world().await;
    for (version, gateway) in world.envoy.both() {
        for (value, reaches) in [
            ("Bearer eyJhbGciOiJub25lIn0.e30.", true),
            ("Negotiate YII=", true),
            ("Bearer lk_x", false),
            (&format!("Bearer {}", alice.token), false),
            (&format!("Token {}", alice.token), false),
            (&alice.token, false),
        ] {
            let answer = Answer::to(gateway.get("/orders").header("authorization", value)).await;
            assert_eq!(answer.status, 200, "{version}: {answer:?}");
            let seen = world.upstream.last().header("authorization");
            assert_eq!(seen.as_deref(), reaches.then_some(value), "{version}");
        }
    }
}

/// The promise of shadow mode, as the reference configuration keeps it.
#[tokio::test]
async fn shadow_mode_says_what_would_have_been_denied_with_path_client_user_and_request_id() {
    let (service, upstream) = (Service::start().await, Upstream::start().await);
    let admin = service.bootstrap();
    let alice = admin.user_with_token("alice").await;
    let revoked = admin.create_token("alice", json!({"name": "revoked"})).await;
    admin.revoke(&revoked.id).await;
    let mut reference = Reference::on_loopback(&service);
    reference.route_to(upstream.address());
    reference.replace("# mode: enforce ", "mode: shadow ");
    let envoy = Envoy::start_reference(&reference).await;
    let rows = [
        ("/rest/admin/users", Some(&alice), "insufficient_scope"),
        ("/orders", Some(&revoked), "revoked"),
        ("/orders", None, "missing"),
    ];
    for (path, token, reason) in rows {
        for (version, gateway) in envoy.both() {
            let what = format!("{reason}, {version}");
            let request = gateway.get(&format!("{path}?secret=MARKED-query"));
            let request = token.iter().fold(request, |request, it| request.bearer_auth(&it.token));
            let before = upstream.count();
            assert_eq!(Answer::to(request).await.status, 200, "{what}");
            assert_eq!(upstream.count(), before + 1, "{what}");
            let seen = upstream.last();
            assert_eq!(seen.header("x-latchkey-user"), None, "{what}: a denied token is nobody's identity");
            let id = seen.header("x-request-id").expect("a request id");
            let logged = access_line(&envoy, &id).await;
            assert_eq!(logged["decision"], format!("shadow_denied:{reason}"), "{what}: {logged}");
            assert_eq!((&logged["status"], &logged["path"]), (&json!(200), &json!(path)), "{what}: {logged}");
            let client = logged["client"].as_str().expect("an address");
            let user = token.map(|_| "alice");
            assert_eq!(
                (logged["user"].as_str(), logged["token_id"].as_str()),
                (user, token.map(|it| &*it.id)),
                "{what}"
            );
            let begin = "shadow mode allowed what would be denied: ";
            let told = format!("{begin}reason={reason} path={path} client={client} request_id={id}");
            wait::until(&format!("Envoy's log has \"{told}\""), async || {
                envoy.log().lines().any(|line| line.ends_with(&told)).then_some(())
            })
            .await;
        }
    }
    let log = envoy.log();
    assert!(!log.contains("MARKED-query"), "a query is in a log");
}

#[tokio::test]
async fn contained_a_flood_in_shadow_mode_is_counted_in_the_log_and_not_written_line_by_line() {
    let (world, _) = world().await;
    let gateway = world.envoy.http2();
    let asked = 400_u64;
    for _ in 0..asked / 100 {
        let requests = (0..100).map(|_| tokio::spawn(Answer::to(gateway.get("/orders"))));
        for request in requests.collect::<Vec<_>>() {
            assert_eq!(request.await.expect("an answer").status, 200);
        }
    }
    assert_eq!(world.envoy.metric("shadow_refused.missing").await, asked);
    let seconds = |log: &str| {
        let lines = log.lines().filter(|line| line.contains("shadow mode allowed"));
        // A line of Envoy's log begins with its time, to the millisecond: [2026-01-01 00:00:00.000]...
        let mut seconds = BTreeMap::<(String, String), usize>::new();
        for line in lines {
            let worker = line.split("][").nth(1).unwrap_or_default().to_owned();
            *seconds.entry((line.chars().take(20).collect(), worker)).or_default() += 1;
        }
        seconds
    };
    // Ten a second and worker; what falls on two seconds of the wall clock may be twice as much.
    for (second, lines) in seconds(&world.envoy.log()) {
        assert!(lines <= 20, "{lines} lines in {second:?}");
    }
}
