//! The measurements: which peers, with which tokens, and the rounds that are run of them.

use std::net::SocketAddr;

use serde_json::json;

use crate::load::{self, Round};
use crate::peers::{Build, Peer};
use crate::servers::Server;
use crate::support::service::Service;
use crate::support::{Answer, Envoy, EnvoyConfig, made_up, wait};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// A token that every worker knows.
    Cached,
    /// Every request has to ask the service.
    Miss,
    /// Tokens whose checksum is wrong.
    Garbage,
}

impl Measurement {
    pub fn title(self) -> &'static str {
        match self {
            Self::Cached => "A known token",
            Self::Miss => "Every request asks the service",
            Self::Garbage => "Refusing garbage (a wrong checksum)",
        }
    }

    fn peers(self) -> Vec<Peer> {
        let others = Build::others().iter().map(Peer::OtherBuild);
        let mut peers = self.standing_peers().to_vec();
        let place = peers.iter().position(|peer| *peer == Peer::Latchkey).map_or(0, |latchkey| latchkey + 1);
        peers.splice(place..place, others);
        peers
    }

    fn standing_peers(self) -> &'static [Peer] {
        match self {
            Self::Cached => &[
                Peer::NoFilter,
                Peer::Latchkey,
                Peer::ApiKeyAuth,
                Peer::BasicAuth,
                Peer::JwtAuthn,
                Peer::Lua,
                Peer::ExtAuthzHttp,
                Peer::ExtAuthzGrpc,
            ],
            Self::Miss => &[Peer::NoFilter, Peer::Latchkey, Peer::ExtAuthzHttp],
            Self::Garbage => &[Peer::DirectRefusal, Peer::Latchkey],
        }
    }
}

/// One peer with all that it gave.
pub struct Series {
    pub peer: Peer,
    pub rounds: Vec<Round>,
}

/// How many tokens take turns where each request has to ask: more than there are connections, so that none is shared.
const TOKENS: usize = 64;

/// Runs the rounds of one measurement.
pub async fn run(measurement: Measurement, rounds: u64, seconds: u64) -> Vec<Series> {
    let service = Service::start().await;
    let admin = service.bootstrap();
    admin.expect(200, reqwest::Method::PUT, "/restrictions", Some(json!({
        "max_lifetime": null, "max_tokens_per_user": null, "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
    }))).await;
    admin.create_user("alice").await;
    let mut tokens = Vec::new();
    for number in 0..TOKENS {
        tokens.push(admin.create_token("alice", json!({"name": format!("bench {number}")})).await.token);
    }
    let tokens = match measurement {
        Measurement::Cached => tokens.into_iter().take(1).collect(),
        Measurement::Miss => tokens,
        Measurement::Garbage => vec![mistyped()],
    };
    let servers = ["upstream", "authz", "authz-grpc"].map(Server::start);
    let mut service = service;
    let ids = [service.process().id(), servers[1].id(), servers[2].id()];
    let mut envoys = Vec::new();
    let peers = measurement.peers();
    for peer in &peers {
        let upstream = SocketAddr::from(([127, 0, 0, 1], servers[0].port));
        let config = EnvoyConfig::new(service.edge_address(), upstream);
        let config = if measurement == Measurement::Miss { config.uncached() } else { config };
        let envoy =
            Envoy::start(peer.configure(config, &tokens[0], [servers[1].port, servers[2].port])).await;
        ready(&envoy, *peer, &tokens[0], measurement).await;
        envoys.push(envoy);
    }
    let mut all: Vec<Series> = peers.into_iter().map(|peer| Series { peer, rounds: Vec::new() }).collect();
    for round in 0..=rounds {
        for (series, envoy) in all.iter_mut().zip(&mut envoys) {
            let headers: Vec<String> = tokens.iter().map(|token| series.peer.header(token)).collect();
            let refused = measurement == Measurement::Garbage;
            let (port, id) = (envoy.port(), envoy.process_id());
            let took = tokio::task::block_in_place(|| load::run(port, &headers, refused, seconds, id, &ids));
            // The first round warms everything up.
            if round > 0 {
                eprintln!(
                    "{:?}, round {round}, {}: {:.1} us",
                    measurement,
                    series.peer.name(),
                    took.envoy_us
                );
                series.rounds.push(took);
            }
        }
    }
    all
}

/// A token with another last character than it should have.
fn mistyped() -> String {
    let mut token = made_up::token();
    let last = if token.pop() == Some('0') { '1' } else { '0' };
    token.push(last);
    token
}

async fn ready(envoy: &Envoy, peer: Peer, token: &str, measurement: Measurement) {
    let wanted = if measurement == Measurement::Garbage { 401 } else { 200 };
    wait::until("the gateway answers as it should", async || {
        let header = peer.header(token);
        let (name, value) = header.split_once(": ").expect("a header");
        let answer = Answer::try_to(envoy.http1().get("/orders").header(name, value)).await.ok()?;
        (answer.status == wanted).then_some(())
    })
    .await;
}

/// A number from the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
