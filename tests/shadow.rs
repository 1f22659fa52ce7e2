//! Shadow mode: every request passes, and what would have been refused is decided, counted and logged.

use serde_json::json;

use crate::support::envoy_config::connection_manager;
use crate::support::service::Made;
use crate::support::{Answer, World, made_up, wait};

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
        ("/orders", vec![good.clone()], "passed", Some("alice")),
        ("/none/x", vec![], "passed", None),
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
            let line = format!("access 200 via_upstream {decision} {path}");
            wait::until(&format!("\"{line}\" is logged"), async || {
                world.envoy.log().lines().any(|it| it == line).then_some(())
            })
            .await;
        }
    };
    for (path, credentials, decision, user) in &rows {
        ask(path, credentials, decision, *user).await;
        if *decision != "passed" {
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
