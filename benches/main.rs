//! What a decision costs at Envoy, beside its peers in the same run. `make bench` runs it and writes `benches/RESULTS.md`.
//!
//! Every peer has an Envoy of its own with one worker, in front of the same upstream. Rounds are interleaved: in each, every
//! peer gets the same load in turn. What counts is the CPU time of the Envoy process for each request (`/proc/<pid>/stat`),
//! which other work on the machine disturbs least; throughput and latencies are of the whole machine, clients included.
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

mod load;
mod measure;
mod peers;
mod report;
mod servers;

use crate::measure::Measurement;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(servers::serve(&arguments[1])),
        // What `cargo test` and `cargo bench` pass is not meant for this program.
        _ => runtime.block_on(bench()),
    }
}

async fn bench() {
    let rounds = measure::number("BENCH_ROUNDS", 7);
    let seconds = measure::number("BENCH_SECONDS", 4);
    let mut report = report::Report::begin(rounds, seconds);
    let only = std::env::var("BENCH_ONLY").ok();
    for measurement in [Measurement::Cached, Measurement::Miss, Measurement::Garbage] {
        if only.as_ref().is_some_and(|only| !format!("{measurement:?}").eq_ignore_ascii_case(only)) {
            continue;
        }
        report.add(measurement, &measure::run(measurement, rounds, seconds).await);
    }
    report.write();
}
