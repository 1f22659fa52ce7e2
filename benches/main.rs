//! What a decision costs, at Envoy and at the service, beside peers in the same run; and what revocations, storms and floods do.
//! `make bench` runs it and writes `benches/RESULTS.md`.
//!
//! Where peers are held against each other, rounds are interleaved: in each, every one gets the same load in turn. What counts
//! then is the CPU time of the process for each request (`/proc/<pid>/stat`), which other work on the machine disturbs least;
//! throughput and latencies are of the whole machine, clients included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot run says so by failing"
)]

#[allow(dead_code, unused_imports, reason = "the tool box of the end-to-end tests")]
#[path = "../tests/support/mod.rs"]
mod support;

mod facts;
mod feeds;
mod flood;
mod h2;
mod keep_alive;
mod load;
mod measure;
mod memory;
mod peers;
mod report;
mod revocation;
mod seeding;
mod servers;
mod storm;
mod verify;

use crate::measure::Measurement;
use crate::report::{Report, Section};

/// What is measured, in the order of the report. `BENCH_ONLY` picks some by these names.
const ALL: [&str; 9] =
    ["cached", "miss", "garbage", "revocation", "storm", "memory", "flood", "verify", "feeds"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(servers::serve(&arguments[1])),
        Some("flood") => runtime.block_on(flood::pour(&arguments[1..])),
        // What `cargo test` and `cargo bench` pass is not meant for this program.
        _ => runtime.block_on(bench()),
    }
}

async fn bench() {
    let mut report = Report::begin("What a decision costs", "make bench");
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| !ALL.contains(name)) {
        panic!("BENCH_ONLY: {unknown} is none of {}", ALL.join(", "));
    }
    for name in ALL {
        if only.is_empty() || only.contains(&name) {
            report.add(section(name).await);
        }
    }
    if only.is_empty() && std::env::var_os("BENCH_FILTERS").is_none() {
        report.write("RESULTS.md");
    }
}

async fn section(name: &str) -> Section {
    let (rounds, seconds) = (number("BENCH_ROUNDS", 5), number("BENCH_SECONDS", 4));
    match name {
        "cached" => measure::run(Measurement::Cached, rounds, seconds).await,
        "miss" => measure::run(Measurement::Miss, rounds, seconds).await,
        "garbage" => measure::run(Measurement::Garbage, rounds, seconds).await,
        "revocation" => revocation::run(number("BENCH_REVOCATIONS", 500)).await,
        "storm" => storm::run().await,
        "memory" => memory::run().await,
        "flood" => flood::run().await,
        "verify" => verify::run(rounds, seconds).await,
        _ => feeds::run(5).await,
    }
}

/// A number from the environment.
fn number<N: std::str::FromStr>(variable: &str, default: N) -> N {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable} is a number"))
}
