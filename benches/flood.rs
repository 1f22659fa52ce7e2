//! A million tokens that nobody has made, each another one, at full speed beside clients with known tokens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::facts;
use crate::keep_alive::{KeepAlive, get};
use crate::measure::mistyped;
use crate::peers::Peer;
use crate::report::{Goal, Section, Table, figure, percentile, sorted};
use crate::seeding;
use crate::servers::Server;
use crate::support::wait::now;
use crate::support::{Envoy, EnvoyConfig, Service};

/// How many tokens nobody has made, and by how many connections they come.
const FLOOD: usize = 1_000_000;
const FLOOD_CONNECTIONS: usize = 4;
/// The normal load: connections, requests of all of them together in a second, and tokens.
const CONNECTIONS: usize = 16;
const RATE: f64 = 1000.0;
const KNOWN: usize = 100;
/// How long the normal load is measured without that flood.
const WITHOUT: Duration = Duration::from_secs(20);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Who answers the normal load, and with what it is loaded.
struct Gateway {
    envoy: Envoy,
    requests: Arc<[Vec<u8>]>,
}

/// The normal load beside something.
struct Load {
    /// Microseconds, from the shortest to the longest.
    latencies: Vec<f64>,
    /// The share of its requests that was decided from the cache, in percent.
    hits: f64,
}

pub async fn run() -> Section {
    let service = Service::start().await;
    let known = seeding::tokens("known", KNOWN);
    seeding::store_tokens(service.database_url(), &known).await;
    let upstream = Server::start("upstream");
    let config = EnvoyConfig::new(service.edge_address(), SocketAddr::from(([127, 0, 0, 1], upstream.port)));
    let envoy = Envoy::start(Peer::Latchkey.configure(config, "", [1, 1])).await;
    let gateway = Gateway { envoy, requests: known.iter().map(|token| get(token)).collect() };
    // To warm everything up.
    gateway.load_beside(sleep(Duration::from_secs(1))).await;

    let (alone, ()) = gateway.load_beside(sleep(WITHOUT)).await;
    let begun = now();
    let (flooded, memory) = gateway.load_beside(gateway.flood_of_unknown()).await;
    let rate = FLOOD as f64 / begun.elapsed().as_secs_f64();
    let (beside_garbage, ()) = gateway.load_beside(gateway.flood_of_garbage(rate)).await;

    let p99 = |load: &Load| percentile(&load.latencies, 99);
    let mut table = Table::of(&["the normal load", "p50, us", "p99, us", "of p99 alone", "hit rate, %"]);
    for (name, load) in
        [("alone", &alone), ("beside the flood", &flooded), ("beside garbage as fast", &beside_garbage)]
    {
        let ratio = figure(p99(load) / p99(&alone));
        let cells =
            [figure(percentile(&load.latencies, 50)), figure(p99(load)), ratio, format!("{:.3}", load.hits)];
        table.row([name.to_owned()].into_iter().chain(cells));
    }
    let mut sizes = Table::of(&["unknown tokens refused", "VM's linear memory, MiB"]);
    for (refused, mib) in &memory {
        sizes.row([refused.to_string(), format!("{mib:.2}")]);
    }
    let grown = memory[memory.len() - 1].1 - memory[0].1;
    Section {
        title: "A flood of unknown tokens",
        text: format!(
            "An Envoy with one worker; the normal load is {RATE} requests a second over {CONNECTIONS} connections, with {KNOWN} known \
             tokens. {FLOOD} well-formed tokens that nobody has made come through the same worker over {FLOOD_CONNECTIONS} more \
             connections as fast as they are answered: {rate:.0} a second. As many a second of garbage, which the filter refuses \
             without a look-up, show what any flood takes from the others on this machine. Hit rates are the filter's metric of hits \
             against the requests of the normal load."
        ),
        goals: vec![
            Goal::at_most(
                "flood: growth of the VM's memory from the 100,000th unknown token to the last",
                grown,
                "MiB",
                1.0,
                1.0,
            ),
            Goal::at_least("flood: hit rate of the normal load", flooded.hits, "%", 99.9, 99.9),
            Goal::at_most(
                "flood: p99 of the normal load, against the same load alone",
                p99(&flooded) / p99(&alone),
                "times",
                2.0,
                2.0,
            ),
        ],
        tables: vec![table, sizes],
    }
}

impl Gateway {
    /// Runs the normal load until something else has ended.
    async fn load_beside<T>(&self, other: impl Future<Output = T>) -> (Load, T) {
        let hits = self.envoy.metric("cache_hits").await;
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CONNECTIONS {
            let client = KeepAlive::open(self.envoy.port()).await;
            clients.spawn(normal_client(client, number, self.requests.clone(), over.clone()));
        }
        let output = other.await;
        over.store(true, Ordering::Relaxed);
        let latencies = sorted(clients.join_all().await.into_iter().flatten());
        let hits = 100.0 * (self.envoy.metric("cache_hits").await - hits) as f64 / latencies.len() as f64;
        (Load { latencies, hits }, output)
    }

    /// Floods, and gives how large the VM's memory was when so many tokens had been refused: in the end, and at each tenth
    /// before, but for the first, in which the caches fill.
    async fn flood_of_unknown(&self) -> Vec<(u64, f64)> {
        let mut flood = command(self.envoy.port(), "unknown", &FLOOD.to_string(), f64::MAX)
            .spawn()
            .expect("the flood begins");
        let mut sizes = Vec::new();
        let look = async || {
            (
                self.envoy.metric("refused.unknown").await,
                facts::linear_memory(self.envoy.process_id()) / 1024.0,
            )
        };
        let tenth = FLOOD as u64 / 10;
        loop {
            tokio::select! {
                ended = flood.wait() => {
                    assert!(ended.is_ok_and(|status| status.success()), "the flood ended early");
                    sizes.push(look().await);
                    return sizes;
                }
                () = sleep(LOOK) => {
                    let now = look().await;
                    if now.0 / tenth > sizes.last().map_or(0, |before: &(u64, f64)| before.0 / tenth) {
                        sizes.push(now);
                    }
                }
            }
        }
    }

    async fn flood_of_garbage(&self, rate: f64) {
        let count = format!("{:.0}", rate * WITHOUT.as_secs_f64());
        let ended = command(self.envoy.port(), "garbage", &count, rate).status().await;
        assert!(ended.is_ok_and(|status| status.success()), "the flood ended early");
    }
}

/// One client of the normal load: it asks when it is time to, whether or not the gateway is fast, and what it measures begins
/// then.
async fn normal_client(
    mut client: KeepAlive,
    number: usize,
    requests: Arc<[Vec<u8>]>,
    over: Arc<AtomicBool>,
) -> Vec<f64> {
    let period = Duration::from_secs_f64(CONNECTIONS as f64 / RATE);
    let mut due = now() + period.mul_f64(number as f64 / CONNECTIONS as f64);
    let mut latencies = Vec::new();
    let mut turn = number;
    while !over.load(Ordering::Relaxed) {
        let late = now() > due;
        sleep_until(due.into()).await;
        // Timers are coarse; only an answer that came late makes the next request late.
        let begun = if late { due } else { now() };
        assert_eq!(client.ask(&requests[turn % requests.len()]).await, 200);
        latencies.push(begun.elapsed().as_secs_f64() * 1e6);
        due += period;
        turn += CONNECTIONS;
    }
    latencies
}

/// This program again, to flood a port in a process of its own.
fn command(port: u16, kind: &str, count: &str, rate: f64) -> Command {
    let program = std::env::current_exe().expect("this program's path");
    let mut command = Command::new(program);
    command.args(["flood", kind]).args([&port.to_string(), count, &rate.to_string()]).kill_on_drop(true);
    command
}

/// The flood itself: `unknown` or `garbage`, port, count, and how many a second at most.
pub async fn pour(arguments: &[String]) {
    let [kind, port, count, rate] = arguments else { panic!("flood: kind, port, count and rate") };
    let garbage = (kind == "garbage").then(mistyped);
    let rate: f64 = rate.parse().expect("a rate");
    let (port, count) = (port.parse().expect("a port"), count.parse().expect("a count"));
    let next = Arc::new(AtomicUsize::new(0));
    let begun = now();
    let mut clients = JoinSet::new();
    for _ in 0..FLOOD_CONNECTIONS {
        let (mut client, next, garbage) = (KeepAlive::open(port).await, next.clone(), garbage.clone());
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                if due > now() {
                    sleep_until(due.into()).await;
                }
                let token = garbage.clone().unwrap_or_else(|| seeding::token("flood", number));
                assert_eq!(client.ask(&get(&token)).await, 401);
            }
        });
    }
    clients.join_all().await;
}
