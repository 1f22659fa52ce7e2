//! Requests that turn their connection into something else.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::envoy_config::connection_manager;
use crate::support::{World, raw, wait};

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: gateway\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const CONNECT: &str = "CONNECT gateway:443 HTTP/1.1\r\nhost: gateway:443\r\n";

#[tokio::test]
async fn closed_no_byte_of_an_upgraded_connection_reaches_the_upstream_before_the_verdict() {
    let world = World::with(|config| {
        let patient = config.uncached().concurrency(1).plugin_service("timeout_ms", json!(30_000));
        patient.change(|bootstrap| {
            let manager = connection_manager(bootstrap);
            manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]);
            let tunnel = json!({
                "match": {"connect_matcher": {}},
                "route": {"cluster": "upstream", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
            });
            let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
            routes.as_array_mut().expect("routes").insert(0, tunnel);
        })
    })
    .await;
    let alice = world.admin.user_with_token("alice").await;
    let connections = async || world.envoy.stat("cluster.upstream.upstream_cx_total").await;

    for head in [WEBSOCKET, CONNECT] {
        let anonymous = raw::exchange(world.envoy.port(), format!("{head}\r\n").as_bytes()).await;
        assert_eq!(raw::status(&anonymous), Some(401), "{}", String::from_utf8_lossy(&anonymous));
    }
    assert_eq!(connections().await, 0, "a refused upgrade opened a connection to the upstream");

    for (head, seen) in [(WEBSOCKET, 1), (CONNECT, 2)] {
        let before = connections().await;
        world.service.pause();
        let mut stream = raw::connect(world.envoy.port()).await;
        let request =
            format!("{head}authorization: Bearer {}\r\n\r\nGET /smuggled HTTP/1.1\r\n", alice.token);
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        world.envoy.until_in_flight(1).await;
        assert_eq!(connections().await, before, "bytes went ahead of the verdict");
        world.service.resume();
        wait::until("the upstream is reached after the verdict", async || {
            (world.envoy.stat("cluster.upstream.upstream_rq_total").await == seen).then_some(())
        })
        .await;
        drop(stream);
        world.envoy.until_in_flight(0).await;
    }
    let paths: Vec<String> = world.upstream.received().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/chat"], "what stands in a tunnel is not looked at before the verdict");
}
