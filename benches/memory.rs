//! What cached tokens take of one worker's memory.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;

use crate::facts;
use crate::keep_alive::ask_each;
use crate::peers::Peer;
use crate::report::{Goal, Section, Table};
use crate::seeding;
use crate::servers::Server;
use crate::support::{Envoy, EnvoyConfig, Service};

const MIB: f64 = 1024.0;
/// How many tokens, and how many MiB they may take and are to take at most.
const SIZES: [(usize, f64, f64); 2] = [(10_000, 16.0, 8.0), (100_000, 64.0, 32.0)];
const CONNECTIONS: usize = 16;

/// The memory of one Envoy, in MiB.
struct Memory {
    linear: f64,
    resident: f64,
    /// What the filter says that its entries take.
    counted: f64,
}

pub async fn run() -> Section {
    let most = SIZES[SIZES.len() - 1].0;
    let service = Service::start().await;
    let tokens = seeding::tokens("memory", most);
    seeding::store_tokens(service.database_url(), &tokens).await;
    let mut table = Table::of(&[
        "cached tokens",
        "VM's linear memory, MiB",
        "the same with an empty cache",
        "Envoy's resident memory, MiB",
        "the same with an empty cache",
        "difference",
        "bytes for each token",
        "entries as the filter counts them, MiB",
    ]);
    let mut goals = Vec::new();
    for (count, must, aim) in SIZES {
        let tokens: Arc<[String]> = tokens[..count].into();
        let full = memory(&service, &tokens, count).await;
        let empty = memory(&service, &tokens, 0).await;
        let difference = full.resident - empty.resident;
        let taken = full.linear.max(difference);
        goals.push(Goal::at_most(
            format!("memory of a worker's VM with {count} cached tokens"),
            taken,
            "MiB",
            must,
            aim,
        ));
        let each = difference * MIB * MIB / count as f64;
        let figures = [full.linear, empty.linear, full.resident, empty.resident, difference];
        let figures = figures.map(|mib| format!("{mib:.1}"));
        table.row(
            [count.to_string()]
                .into_iter()
                .chain(figures)
                .chain([format!("{each:.0}"), format!("{:.1}", full.counted)]),
        );
    }
    Section {
        title: "Memory",
        text: "An Envoy with one worker is asked with so many valid tokens, each once, and keeps them all; another, whose cache is set \
               to hold none, is asked with the same, and makes the same look-ups. The VM's linear memory is all that the filter can \
               have: its data, its stack and its heap, as far as it is in RAM (`/proc/<pid>/smaps`). The difference of the two \
               processes' resident memory holds what V8 and Envoy keep for it, too. The larger of the VM's linear memory and that \
               difference is held against the goal. (Envoy has no stat of a VM's memory.)"
            .to_owned(),
        goals,
        tables: vec![table],
    }
}

/// Asks a new Envoy with each token once, which it keeps as far as there is room.
async fn memory(service: &Service, tokens: &Arc<[String]>, room: usize) -> Memory {
    let upstream = Server::start("upstream");
    let config = EnvoyConfig::new(service.edge_address(), SocketAddr::from(([127, 0, 0, 1], upstream.port)));
    let config = Peer::Latchkey.configure(config.plugin("cache", json!({"max_tokens": room})), "", [1, 1]);
    let envoy = Envoy::start(config).await;
    assert_eq!(ask_each(envoy.port(), tokens.clone(), CONNECTIONS, 200).await, tokens.len());
    // The first come before the change feed has been heard, and are not kept.
    let first: Arc<[String]> = tokens[..tokens.len() / 10].into();
    assert_eq!(ask_each(envoy.port(), first.clone(), CONNECTIONS, 200).await, first.len());
    let kept = usize::try_from(envoy.metric("cache_entries").await).expect("a number of entries");
    assert_eq!(kept, room.min(tokens.len()));
    Memory {
        linear: facts::linear_memory(envoy.process_id()) / MIB,
        resident: facts::resident(envoy.process_id()) / MIB,
        counted: envoy.metric("cache_bytes").await as f64 / MIB / MIB,
    }
}
