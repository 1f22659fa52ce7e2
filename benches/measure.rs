//! What a decision costs Envoy: every peer under the same load in turn, in interleaved rounds.

use std::net::SocketAddr;

use serde_json::json;

use crate::load::{self, Round};
use crate::peers::{Build, Peer};
use crate::report::{Goal, Section, Spread, Table, figure};
use crate::seeding;
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

/// How many tokens take turns where each request has to ask, and how many of them the filter has room for: so few that even a
/// short round has pushed out those it began with when the next one begins with them.
const TOKENS: usize = 20_000;
const ROOM: usize = 100;

impl Measurement {
    fn title(self) -> &'static str {
        match self {
            Self::Cached => "A known token",
            Self::Miss => "Every request asks the service",
            Self::Garbage => "Refusing garbage (a wrong checksum)",
        }
    }

    fn tokens(self) -> Vec<String> {
        match self {
            Self::Cached => seeding::tokens("cached", 1),
            Self::Miss => seeding::tokens("miss", TOKENS),
            Self::Garbage => vec![mistyped()],
        }
    }

    fn configure(self, config: EnvoyConfig) -> EnvoyConfig {
        match self {
            Self::Miss => config.plugin("cache", json!({"max_tokens": ROOM})),
            Self::Cached | Self::Garbage => config,
        }
    }

    /// The status that every request gets.
    fn status(self) -> u16 {
        if self == Self::Garbage { 401 } else { 200 }
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
struct Series {
    peer: Peer,
    envoy: Envoy,
    rounds: Vec<Round>,
}

/// Runs the rounds of one measurement.
pub async fn run(measurement: Measurement, rounds: u64, seconds: u64) -> Section {
    let mut service = Service::start().await;
    let tokens = measurement.tokens();
    seeding::store_tokens(service.database_url(), &tokens).await;
    let servers = ["upstream", "authz", "authz-grpc"].map(Server::start);
    let ids = [service.process().id(), servers[1].id(), servers[2].id()];
    let mut all = Vec::new();
    for peer in measurement.peers() {
        let upstream = SocketAddr::from(([127, 0, 0, 1], servers[0].port));
        let config = measurement.configure(EnvoyConfig::new(service.edge_address(), upstream));
        let config = peer.configure(config, &tokens[0], [servers[1].port, servers[2].port]);
        let series = Series { peer, envoy: Envoy::start(config).await, rounds: Vec::new() };
        series.ready(&tokens[0], measurement.status()).await;
        all.push(series);
    }
    for round in 0..=rounds {
        for Series { peer, envoy, rounds } in &mut all {
            let headers: Vec<String> = tokens.iter().map(|token| peer.header(token)).collect();
            let (port, id, refused) = (envoy.port(), envoy.process_id(), measurement.status() == 401);
            let took = tokio::task::block_in_place(|| load::run(port, &headers, refused, seconds, id, &ids));
            // The first round warms everything up.
            if round > 0 {
                eprintln!("{measurement:?}, round {round}, {}: {:.1} us", peer.name(), took.envoy_us);
                rounds.push(took);
            }
        }
    }
    let mut text = format!(
        "One Envoy worker for each peer, `wrk -t1 -c16` with keep-alive, an upstream in Rust that does nothing. Medians of {rounds} \
         interleaved rounds of {seconds} s after one to warm up, with the lowest and the highest; goals are medians of each round's \
         ratio. CPU is that of the Envoy process for each request; \"with services\" adds what Latchkey's service or the \
         authorization server took."
    );
    if measurement == Measurement::Miss {
        text += &misses(&all[1].envoy).await;
    }
    let goals =
        all.iter().filter(|it| it.peer.is_latchkey()).flat_map(|it| goals(measurement, it, &all)).collect();
    Section { title: measurement.title(), text, goals, tables: vec![table(&all)] }
}

/// How it was seen to that every request asks.
async fn misses(envoy: &Envoy) -> String {
    let (hits, misses) = (envoy.metric("cache_hits").await, envoy.metric("cache_misses").await);
    let evicted = envoy.metric("cache_evictions.capacity").await;
    assert!(misses > 0 && hits * 100 < misses, "{hits} hits and {misses} misses");
    format!(
        " {TOKENS} valid tokens take turns, and the filter has room for {ROOM}, so that each request misses, asks, and pushes another \
         token out; the change feed is followed meanwhile. By the filter's metrics there were {hits} hits, {misses} misses, and \
         {evicted} tokens were pushed out."
    )
}

/// What is to be shown of the filter.
fn goals(measurement: Measurement, latchkey: &Series, all: &[Series]) -> Vec<Goal> {
    let ratio = |figure: &dyn Fn(&Round, &Round, &Round) -> f64| {
        let authz = all.iter().find(|it| it.peer == Peer::ExtAuthzHttp).unwrap_or(&all[0]);
        let rounds = all[0].rounds.iter().zip(&latchkey.rounds).zip(&authz.rounds);
        Spread::of(rounds.map(|((none, latchkey), authz)| figure(none, latchkey, authz))).median
    };
    let percent = |figure: &dyn Fn(&Round, &Round, &Round) -> f64| 100.0 * ratio(figure);
    let whole = |round: &Round| round.envoy_us + round.services_us;
    let name = latchkey.peer.name();
    match measurement {
        Measurement::Cached => vec![
            Goal::at_most(
                format!("{name}, known token: adds to Envoy's CPU per request"),
                percent(&|none, it, _| it.envoy_us / none.envoy_us - 1.0),
                "%",
                20.0,
                10.0,
            ),
            Goal::at_most(
                format!("{name}, known token: of what ext_authz (HTTP) adds to Envoy's CPU"),
                percent(&|none, it, authz| (it.envoy_us - none.envoy_us) / (authz.envoy_us - none.envoy_us)),
                "%",
                25.0,
                100.0 / 7.0,
            ),
            Goal::at_most(
                format!("{name}, known token: the same with the services' CPU"),
                percent(&|none, it, authz| (whole(it) - whole(none)) / (whole(authz) - whole(none))),
                "%",
                12.5,
                100.0 / 15.0,
            ),
            Goal::at_least(
                format!("{name}, known token: of the throughput with no filter"),
                percent(&|none, it, _| it.per_second / none.per_second),
                "%",
                85.0,
                92.0,
            ),
        ],
        Measurement::Miss => vec![Goal::at_most(
            format!("{name}, every token new: of Envoy's CPU with ext_authz (HTTP)"),
            percent(&|_, it, authz| it.envoy_us / authz.envoy_us),
            "%",
            100.0,
            80.0,
        )],
        Measurement::Garbage => vec![Goal::at_most(
            format!("{name}, garbage: of Envoy's CPU with a direct 401"),
            ratio(&|none, it, _| it.envoy_us / none.envoy_us),
            "times",
            1.3,
            1.15,
        )],
    }
}

/// Everything is held against the first peer.
fn table(all: &[Series]) -> Table {
    let mut table = Table::of(&[
        "",
        "Envoy's CPU, us/request",
        "more than the first",
        "with services, us",
        "requests/s",
        "of the first",
        "p50, us",
        "p99, us",
    ]);
    for Series { peer, rounds, .. } in all {
        let of = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
        let against = |figure: fn(&Round, &Round) -> f64| {
            Spread::of(all[0].rounds.iter().zip(rounds).map(|(first, it)| figure(first, it))).median
        };
        table.row([
            peer.name().to_owned(),
            of(|round| round.envoy_us).to_string(),
            format!(
                "{:+.1} us, {:+.1} %",
                against(|first, it| it.envoy_us - first.envoy_us),
                against(|first, it| 100.0 * (it.envoy_us / first.envoy_us - 1.0)),
            ),
            figure(of(|round| round.envoy_us + round.services_us).median),
            figure(of(|round| round.per_second).median),
            format!("{:.1} %", against(|first, it| 100.0 * it.per_second / first.per_second)),
            figure(of(|round| round.p50_us).median),
            figure(of(|round| round.p99_us).median),
        ]);
    }
    table
}

/// A token with another last character than it should have.
pub fn mistyped() -> String {
    let mut token = made_up::token();
    let last = if token.pop() == Some('0') { '1' } else { '0' };
    token.push(last);
    token
}

impl Series {
    async fn ready(&self, token: &str, status: u16) {
        wait::until("the gateway answers as it should", async || {
            let header = self.peer.header(token);
            let (name, value) = header.split_once(": ").expect("a header");
            let answer = Answer::try_to(self.envoy.http1().get("/orders").header(name, value)).await.ok()?;
            (answer.status == status).then_some(())
        })
        .await;
    }
}
