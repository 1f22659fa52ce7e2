//! `gateways/envoy-ext-authz.yaml` on a real Envoy.

use std::net::SocketAddr;

use super::{Around, INVALID, UNAVAILABLE};
use crate::support::client::{Answer, Caller};
use crate::support::config_file::ConfigFile;
use crate::support::envoy::Bootstrap;
use crate::support::envoy_config::EDGE_SECRET;
use crate::support::{Envoy, made_up, ports, wait};

/// The configuration on loopback.
fn bootstrap(around: &Around, upstream: SocketAddr, gateway: u16, admin: u16) -> Bootstrap {
    let mut file = ConfigFile::read("gateways/envoy-ext-authz.yaml");
    file.replace("address: 0.0.0.0", "address: 127.0.0.1");
    file.replace("address: latchkey, ", "address: 127.0.0.1, ");
    file.replace("address: upstream, ", "address: 127.0.0.1, ");
    for (from, to) in [
        (10000, gateway),
        (9901, admin),
        (8101, around.service.edge_address().port()),
        (8102, around.service.metrics_address().port()),
        (8080, upstream.port()),
    ] {
        file.replace(&format!("port_value: {from}}}"), &format!("port_value: {to}}}"));
    }
    Bootstrap {
        text: file.text,
        format: "yaml",
        concurrency: 2,
        arguments: Vec::new(),
        environment: vec![("LATCHKEY_EDGE_SECRET".to_owned(), EDGE_SECRET.to_owned())],
        folders: Vec::new(),
    }
}

async fn start(around: &Around) -> Envoy {
    start_before(around, around.upstream.address()).await
}

/// Starts one with another upstream than that of the test.
pub async fn start_before(around: &Around, upstream: SocketAddr) -> Envoy {
    let ports = [ports::free(), ports::free()];
    Envoy::start_bootstrap(&bootstrap(around, upstream, ports[0], ports[1]), ports).await
}

/// What a gRPC call is answered, for HTTP/2 is what gRPC is spoken in.
async fn call(envoy: &Envoy, token: &str) -> (Option<String>, Option<String>) {
    let answer = Answer::to(envoy.http2().grpc("/orders.Orders/Get", b"question").bearer_auth(token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.header("grpc-status"), answer.header("grpc-message"))
}

fn status(code: &str, message: &str) -> (Option<String>, Option<String>) {
    (Some(code.to_owned()), Some(message.to_owned()))
}

#[tokio::test]
async fn envoy_without_the_filter_answers_as_with_it() {
    let around = Around::start().await;
    let envoy = start(&around).await;
    for (_, gateway) in envoy.both() {
        around.assert_passes(&gateway).await;
    }
    around.assert_refusals(&envoy.http1()).await;
    around.assert_addresses_and_open_paths(&envoy.http1()).await;
    let (before, good, bad) = (around.upstream.count(), &around.alice.token, made_up::token());
    let two = envoy.http1().get("/").bearer_auth(&bad).bearer_auth(good);
    Answer::to(two).await.assert_refused(400, "More than one credential was provided");
    assert_eq!(call(&envoy, &bad).await, status("16", INVALID));
    assert_eq!(around.upstream.count(), before, "a refused call reached the upstream");
    assert!(!envoy.admin("/config_dump").await.contains(EDGE_SECRET));
}

#[tokio::test]
async fn envoy_without_the_filter_refuses_nobody_for_an_outage_and_goes_on_by_itself() {
    let mut around = Around::start().await;
    let envoy = start(&around).await;
    let unavailable = async |around: &Around| {
        around.assert_unavailable(&envoy.http1()).await;
        let before = around.upstream.count();
        assert_eq!(call(&envoy, &around.alice.token).await, status("14", UNAVAILABLE));
        assert_eq!(around.upstream.count(), before, "a call passed without a decision");
    };
    let recovered = async |around: &Around, gateway: Caller| {
        wait::until("Envoy asks the service again", async || {
            let answer = Answer::to(gateway.get("/").bearer_auth(&around.alice.token)).await;
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            (answer.status == 200).then_some(())
        })
        .await;
    };
    around.change_secret().await;
    unavailable(&around).await;
    around.service.kill().await;
    unavailable(&around).await;
    around.service.write_edge_secret(EDGE_SECRET);
    around.service.start_again().await;
    recovered(&around, envoy.http1()).await;
    around.service.pause();
    unavailable(&around).await;
    around.service.resume();
    recovered(&around, envoy.http1()).await;
    around.assert_passes(&envoy.http1()).await;
}
