//! The results, as tables of Markdown.

use std::fmt::Write;

use crate::load::Round;
use crate::measure::{Measurement, Series};
use crate::support::test_dir::root;

pub struct Report {
    text: String,
}

impl Report {
    pub fn begin(rounds: u64, seconds: u64) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let text = format!(
            "# What a decision costs\n\n\
             Written by `make bench`: {cores} cores ({}), Linux, Envoy 1.40.0 with one worker for each peer, `wrk -t1 -c16` with \
             keep-alive, an upstream in Rust that does nothing, all on one machine. Medians of {rounds} interleaved rounds of \
             {seconds} s after one to warm up, with the lowest and the highest round. CPU is that of the Envoy process for each \
             request; \"with services\" adds what Latchkey's service or the authorization server took. Throughput and latencies \
             are of the whole machine, where clients, Envoy and upstream share the cores.\n",
            model.map_or("unknown", |(_, name)| name)
        );
        Self { text }
    }

    /// Adds one measurement's table. Everything is held against its first peer.
    pub fn add(&mut self, measurement: Measurement, all: &[Series]) {
        let base = Summary::of(&all[0].rounds, |round| round.envoy_us).median;
        let rate = Summary::of(&all[0].rounds, |round| round.per_second).median;
        let _ = write!(
            self.text,
            "\n## {}\n\n| | Envoy's CPU, us/request | more than the first | with services, us | requests/s | of the first | p50, us | p99, us |\n\
             |---|---|---|---|---|---|---|---|\n",
            measurement.title()
        );
        for Series { peer, rounds } in all {
            let cpu = Summary::of(rounds, |round| round.envoy_us);
            let whole = Summary::of(rounds, |round| round.envoy_us + round.services_us);
            let per_second = Summary::of(rounds, |round| round.per_second);
            let (p50, p99) =
                (Summary::of(rounds, |round| round.p50_us), Summary::of(rounds, |round| round.p99_us));
            let _ = writeln!(
                self.text,
                "| {} | {:.1} ({:.1} to {:.1}) | {:+.1} us, {:+.1} % | {:.1} | {:.0} | {:.1} % | {:.0} | {:.0} |",
                peer.name(),
                cpu.median,
                cpu.lowest,
                cpu.highest,
                cpu.median - base,
                (cpu.median / base - 1.0) * 100.0,
                whole.median,
                per_second.median,
                per_second.median / rate * 100.0,
                p50.median,
                p99.median,
            );
        }
    }

    /// Prints the results. Those of a whole run are kept, too.
    pub fn write(&self) {
        println!("{}", self.text);
        if ["BENCH_ONLY", "BENCH_FILTERS"].iter().any(|choice| std::env::var_os(choice).is_some()) {
            return;
        }
        std::fs::write(root().join("benches/RESULTS.md"), &self.text).expect("the results are written");
    }
}

struct Summary {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Summary {
    fn of(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Self {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self { median: figures[last / 2], lowest: figures[0], highest: figures[last] }
    }
}
