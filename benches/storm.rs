//! A thousand clients who come at once with one token that no worker knows yet.

use std::net::SocketAddr;

use tokio::task::JoinSet;

use crate::keep_alive::{KeepAlive, get};
use crate::peers::Peer;
use crate::report::{Goal, Section, Spread, Table, figure};
use crate::seeding;
use crate::servers::Server;
use crate::support::wait::now;
use crate::support::{Envoy, EnvoyConfig, Service};

const CLIENTS: usize = 1000;
const STORMS: usize = 10;
const WORKERS: u32 = 2;

/// What one storm gave.
struct Storm {
    /// How many were answered as they should be.
    answered: f64,
    /// How many requests went out for that, from all workers.
    callouts: f64,
    /// To the last answer.
    milliseconds: f64,
}

pub async fn run() -> Section {
    let mut table = Table::of(&["", "callouts in each storm", "answered 200", "to the last answer, ms"]);
    let mut goals = Vec::new();
    for peer in [Peer::Latchkey, Peer::ExtAuthzHttp] {
        let storms = storms(peer).await;
        let of = |figure: fn(&Storm) -> f64| Spread::of(storms.iter().map(figure));
        let (callouts, answered) = (of(|storm| storm.callouts), of(|storm| storm.answered));
        if peer == Peer::Latchkey {
            let each = callouts.highest / f64::from(WORKERS);
            goals = vec![
                Goal::at_most("1,000 clients, one new token: callouts of each worker", each, "", 1.0, 1.0),
                Goal::at_least("1,000 clients, one new token: answered", answered.lowest, "", 1000.0, 1000.0),
            ];
        }
        let counts = [figure(callouts.highest), figure(answered.lowest)];
        let time = of(|storm| storm.milliseconds).to_string();
        table.row([peer.name().to_owned()].into_iter().chain(counts).chain([time]));
    }
    Section {
        title: "A storm",
        text: format!(
            "{CLIENTS} clients with open connections to one Envoy with {WORKERS} workers, all of whom send the same new token at once; \
             {STORMS} storms, of which the worst counts for callouts and answers, and the median, the shortest and the longest time is given."
        ),
        goals,
        tables: vec![table],
    }
}

async fn storms(peer: Peer) -> Vec<Storm> {
    let service = Service::start().await;
    let tokens = seeding::tokens("storm", STORMS + 1);
    seeding::store_tokens(service.database_url(), &tokens).await;
    let servers = ["upstream", "authz", "authz-grpc"].map(Server::start);
    let upstream = SocketAddr::from(([127, 0, 0, 1], servers[0].port));
    let config = EnvoyConfig::new(service.edge_address(), upstream);
    let config = peer.configure(config, &tokens[0], [servers[1].port, servers[2].port]).concurrency(WORKERS);
    // As many as come at once are let through.
    let envoy = Envoy::start(config.change(many_requests)).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = KeepAlive::open(envoy.port()).await;
        // Every worker has been asked something before, and every connection is there.
        assert_eq!(client.ask(&get(&tokens[0])).await, 200);
        clients.push(client);
    }
    let mut storms = Vec::new();
    for token in &tokens[1..] {
        let before = callouts(peer, &envoy).await;
        let mut asking = JoinSet::new();
        let begun = now();
        for mut client in clients.drain(..) {
            let request = get(token);
            asking.spawn(async move { (client.ask(&request).await, now(), client) });
        }
        let (mut answered, mut last) = (0.0, begun);
        for (status, at, client) in asking.join_all().await {
            answered += if status == 200 { 1.0 } else { 0.0 };
            last = last.max(at);
            clients.push(client);
        }
        let milliseconds = (last - begun).as_secs_f64() * 1e3;
        storms.push(Storm { answered, callouts: callouts(peer, &envoy).await - before, milliseconds });
    }
    storms
}

/// Raises the limits of Envoy's clusters, which are 1024 requests at a time.
fn many_requests(bootstrap: &mut serde_json::Value) {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
    for cluster in clusters {
        let limits =
            serde_json::json!({"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096});
        cluster["circuit_breakers"] = serde_json::json!({"thresholds": [limits]});
    }
}

/// How many requests have gone out to decide on others.
async fn callouts(peer: Peer, envoy: &Envoy) -> f64 {
    if peer == Peer::ExtAuthzHttp {
        return envoy.stat("cluster.authz.upstream_rq_total").await as f64;
    }
    let mut callouts = 0;
    for end in ["ok", "bad_answer", "not_sent", "refused", "timeout", "unauthorized", "unreachable"] {
        callouts += envoy.metric(&format!("callouts.{end}")).await;
    }
    callouts as f64
}
