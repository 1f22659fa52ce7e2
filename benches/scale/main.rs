//! The service on large databases beside small ones: what grows with the number of tokens, and how much.
//! `make scale` runs it and writes `benches/SCALE.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot run says so by failing"
)]

#[allow(dead_code, reason = "shared with the other benchmark")]
#[path = "../facts.rs"]
mod facts;
mod fill;
mod measure;
#[allow(dead_code, reason = "shared with the other benchmark")]
#[path = "../report.rs"]
mod report;
#[allow(dead_code, unused_imports, reason = "the tool box of the end-to-end tests")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod writer;

use crate::measure::{Figures, NAMES};
use crate::report::{Goal, Report, Section, Table, figure};
use crate::support::Service;
use crate::support::postgres::Cluster;

/// How many tokens the small database has, which the large one is held against.
const SMALL: u64 = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(bench());
}

async fn bench() {
    let mut report = Report::begin("The service with many tokens", "make scale");
    let postgres = number("SCALE_POSTGRES", 10_000_000);
    let sqlite = number("SCALE_SQLITE", 1_000_000);
    // What is committed is on the disk, as where it is used.
    let cluster = Cluster::start(true);
    report.add(compare("PostgreSQL", postgres, async || Service::on(&cluster.database()).await).await);
    report.add(compare("SQLite", sqlite, Service::start).await);
    report.write("SCALE.md");
}

/// Measures a small database and a large one.
async fn compare(name: &'static str, large: u64, start: impl AsyncFn() -> Service) -> Section {
    let mut all = Vec::new();
    for tokens in [SMALL, large] {
        let mut service = start().await;
        let token = fill::fill(&mut service, tokens).await;
        all.push(Figures::of(&mut service, &token, tokens).await);
    }
    let (few, many) = (&all[0], &all[1]);
    let counts = [SMALL, large].map(|tokens| format!("{tokens} tokens"));
    let mut table = Table::of(&["", &counts[0], &counts[1], "times"]);
    for (what, (few, many)) in NAMES.iter().zip(few.all.iter().zip(&many.all)) {
        table.row([(*what).to_owned(), figure(*few), figure(*many), figure(many / few)]);
    }
    let goal = |figures: &Figures, tokens: u64| {
        let what =
            format!("{name}, {tokens} tokens: what a batch adds to the longest wait of another writer");
        Goal::at_most(what, figures.longest_added(), "ms", 100.0, 100.0)
    };
    let text = format!(
        "The real service, ten tokens to a user; a twentieth are revoked, as many never expire, and up to {} are due for deletion. \
         Requests come one after the other, from a client on the same machine; figures are medians unless they say otherwise. \
         While the scheduler deletes what is due, another client makes tokens, one after the other; so it does for three seconds \
         before, with no deletion. Commits wait for the disk.",
        fill::MOST_DUE
    );
    Section { title: name, text, goals: vec![goal(few, SMALL), goal(many, large)], tables: vec![table] }
}

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable} is a number"))
}
