//! `gateways/nginx.conf` on a real nginx.

use super::Around;
use crate::support::envoy_config::EDGE_SECRET;
use crate::support::nginx::Nginx;
use crate::support::{made_up, raw};

#[tokio::test]
async fn nginx_answers_as_the_filter_does() {
    let around = Around::start().await;
    let nginx = Nginx::start(&around.service, around.upstream.address()).await;
    around.assert_passes(&nginx.http1()).await;
    around.assert_refusals(&nginx.http1()).await;
    around.assert_addresses_and_open_paths(&nginx.http1()).await;
    let before = around.upstream.count();
    let internal = raw::answer(nginx.port(), b"GET /_latchkey HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(raw::status(&internal), Some(404), "the service is asked by clients");
    let (good, bad) = (&around.alice.token, made_up::token());
    let two = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bad}\r\nauthorization: Bearer {good}\r\n\r\n"
    );
    assert_eq!(raw::status(&raw::answer(nginx.port(), two.as_bytes()).await), Some(400));
    assert_eq!(around.upstream.count(), before);
}

#[tokio::test]
async fn nginx_refuses_nobody_for_an_outage_and_goes_on_by_itself() {
    let mut around = Around::start().await;
    let nginx = Nginx::start(&around.service, around.upstream.address()).await;
    around.change_secret().await;
    around.assert_unavailable(&nginx.http1()).await;
    around.service.kill().await;
    around.assert_unavailable(&nginx.http1()).await;
    around.service.write_edge_secret(EDGE_SECRET);
    around.service.start_again().await;
    around.assert_passes(&nginx.http1()).await;
    around.service.pause();
    around.assert_unavailable(&nginx.http1()).await;
    around.service.resume();
    around.assert_passes(&nginx.http1()).await;
}
