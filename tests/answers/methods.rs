//! Requests that are not a plain GET or POST: other methods, HTTP/1.0, upgrades and tunnels are refused alike.

use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{BASIC, BEARER, bearer};
use crate::support::{Answer, World, raw};

#[tokio::test]
async fn every_method_needs_a_token_and_a_preflight_is_no_exception() {
    let world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;
    for (version, gateway) in world.envoy.both() {
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            let what = format!("{method}, {version}");
            let request = || gateway.request(method.parse::<Method>().expect("a method"), "/orders");
            let preflight = request().header("origin", "https://a.example");
            let answer = Answer::to(preflight.header("access-control-request-method", "GET")).await;
            assert_eq!(answer.all("www-authenticate"), [BEARER, BASIC], "{what}");
            if method == "HEAD" {
                assert_eq!((answer.status, answer.body.as_str()), (401, ""), "{what}");
                assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{what}");
            } else {
                answer.assert_refused(401, "API key is missing");
            }
            let before = world.upstream.count();
            let answer = Answer::to(request().bearer_auth(&alice.token)).await;
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            assert_eq!(world.upstream.count(), before + 1, "{what}");
            assert_eq!(world.upstream.last().method, method);
        }
    }
    assert_eq!(world.upstream.count(), 14, "a refused request reached the upstream");
}

#[tokio::test]
async fn an_http_1_0_request_is_refused_without_a_token_and_passes_with_one() {
    let options = json!({"accept_http_10": true, "default_host_for_http_10": "gateway"});
    let world = World::with(|config| config.http(json!({"http_protocol_options": options}))).await;
    let alice = world.admin.user_with_token("alice").await;
    let ask = async |header: &str| {
        raw::exchange(world.envoy.port(), &raw::lines(&format!("GET /orders HTTP/1.0\n{header}\n"))).await
    };
    let refused = ask("").await;
    assert_eq!(raw::status(&refused), Some(401), "{}", refused.escape_ascii());
    assert!(refused.ends_with(br#"{ "error": { "status": "ERROR", "message": "API key is missing" } }"#));
    assert_eq!(world.upstream.count(), 0, "a refused request reached the upstream");
    let passed = ask(&format!("authorization: {}\n", bearer(&alice.token))).await;
    assert_eq!(raw::status(&passed), Some(200), "{}", passed.escape_ascii());
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn closed_a_websocket_is_refused_without_a_token_and_speaks_with_one() {
    let world =
        World::with(|config| config.http(json!({"upgrade_configs": [{"upgrade_type": "websocket"}]})));
    let world = world.await;
    let alice = world.admin.user_with_token("alice").await;
    let upgrade = |authorization: &str| {
        raw::lines(&format!(
            "GET /socket HTTP/1.1\nhost: gateway\nconnection: upgrade\nupgrade: websocket\n\
             sec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n{authorization}\n"
        ))
    };
    // What a client sends ahead of the answer must not slip through either.
    let eager = [upgrade(""), b"GET /smuggled HTTP/1.1\r\nhost: gateway\r\n\r\n".to_vec()].concat();
    for request in [upgrade(""), eager, upgrade("authorization: Bearer lk_bad\n")] {
        let answer = raw::exchange(world.envoy.port(), &request).await;
        assert_eq!(raw::status(&answer), Some(401), "{}", answer.escape_ascii());
    }
    assert_eq!(world.upstream.count(), 0, "a refused request reached the upstream");

    let mut socket = raw::connect(world.envoy.port()).await;
    let request = upgrade(&format!("authorization: {}\n", bearer(&alice.token)));
    socket.write_all(&request).await.expect("the request is sent");
    let answer = raw::read_until(&mut socket, b"\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
    socket.write_all(b"hello").await.expect("the socket is open");
    raw::read_until(&mut socket, b"hello").await;
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"));
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn closed_a_tunnel_is_refused_without_a_token_and_opens_with_one() {
    let world = World::with(|config| {
        let config = config.http(json!({"upgrade_configs": [{"upgrade_type": "CONNECT"}]}));
        config.change(|bootstrap| {
            let manager = crate::support::envoy_config::connection_manager(bootstrap);
            let upgrade = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
            manager["route_config"]["virtual_hosts"][0]["routes"] = json!([{
                "match": {"connect_matcher": {}},
                "route": {"cluster": "upstream", "upgrade_configs": upgrade},
            }]);
        })
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    let connect = |authorization: &str| {
        raw::lines(&format!("CONNECT gateway:443 HTTP/1.1\nhost: gateway:443\n{authorization}\n"))
    };
    let inner = raw::lines("GET /through-the-tunnel HTTP/1.1\nhost: inner\nconnection: close\n\n");
    for authorization in ["", "authorization: Bearer lk_bad\n"] {
        let eager = [connect(authorization), inner.clone()].concat();
        let answer = raw::exchange(world.envoy.port(), &eager).await;
        assert_eq!(raw::status(&answer), Some(401), "{}", answer.escape_ascii());
    }
    assert_eq!(world.upstream.count(), 0, "a refused tunnel reached the upstream");

    let mut tunnel = raw::connect(world.envoy.port()).await;
    let eager = [connect(&format!("authorization: {}\n", bearer(&alice.token))), inner].concat();
    tunnel.write_all(&eager).await.expect("the request is sent");
    let answer = raw::read_until(&mut tunnel, b"}").await;
    assert_eq!(raw::status(&answer), Some(200), "{}", answer.escape_ascii());
    assert_eq!(world.upstream.last().path, "/through-the-tunnel");
}
