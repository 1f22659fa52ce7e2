//! The load: wrk on keep-alive connections, and the CPU time that processes took meanwhile.

use std::process::Command;
use std::time::Duration;

use crate::facts::cpu;
use crate::support::process::output_of;

/// What one round of load gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Microseconds of CPU time for each request: of Envoy, and of the services that it asked.
    pub envoy_us: f64,
    pub services_us: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Loads a port for some seconds, each request with one of these headers, in turn.
pub fn run(
    port: u16,
    headers: &[String],
    refused: bool,
    seconds: u64,
    envoy: u32,
    services: &[u32],
) -> Round {
    let before = (cpu(envoy), services.iter().map(|id| cpu(*id)).sum::<Duration>());
    let wrk = Wrk::run(port, "/orders", &in_turn(headers), 16, seconds);
    let after = (cpu(envoy), services.iter().map(|id| cpu(*id)).sum::<Duration>());
    assert!(wrk.failed == if refused { wrk.requests } else { 0.0 }, "{wrk:?}");
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / wrk.requests;
    Round {
        envoy_us: each(before.0, after.0),
        services_us: each(before.1, after.1),
        per_second: wrk.per_second,
        p50_us: wrk.p50_us,
        p99_us: wrk.p99_us,
    }
}

/// A script for wrk that sends the headers in turn.
pub fn in_turn(headers: &[String]) -> String {
    let list: Vec<String> = headers
        .iter()
        .map(|header| {
            let (name, value) = header.split_once(": ").expect("a header");
            format!("{{[\"{name}\"] = \"{value}\"}}")
        })
        .collect();
    format!(
        "local headers = {{{}}}\nlocal requests, n = {{}}, 0\n\
         init = function() for i, h in ipairs(headers) do requests[i] = wrk.format(\"GET\", nil, h) end end\n\
         request = function() n = n % #requests + 1; return requests[n] end\n",
        list.join(",\n")
    )
}

/// What wrk says of one run.
#[derive(Debug)]
pub struct Wrk {
    pub requests: f64,
    /// Those whose status was not 2xx or 3xx.
    pub failed: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Wrk {
    /// A command that loads a port as a script in Lua says, until its time is over.
    pub fn command(port: u16, path: &str, script: &str, connections: usize, seconds: u64) -> Command {
        let file = crate::support::test_dir::file("wrk", "lua");
        std::fs::write(&file, script).expect("the script is written");
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{connections}"), "--latency", &format!("-d{seconds}s"), "-s"]).arg(file);
        wrk.arg(format!("http://127.0.0.1:{port}{path}"));
        wrk
    }

    pub fn run(port: u16, path: &str, script: &str, connections: usize, seconds: u64) -> Self {
        let text = output_of(&mut Self::command(port, path, script, connections, seconds));
        let requests = number(&text, " requests in ", true);
        assert!(requests > 0.0 && !text.contains("Socket errors"), "{text}");
        let failed = text.contains("Non-2xx").then(|| number(&text, "Non-2xx or 3xx responses: ", false));
        Self {
            requests,
            failed: failed.unwrap_or_default(),
            per_second: number(&text, "Requests/sec:", false),
            p50_us: percentile(&text, "50%"),
            p99_us: percentile(&text, "99%"),
        }
    }
}

/// The number before or after a mark.
fn number(text: &str, mark: &str, before: bool) -> f64 {
    let (left, right) = text.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {text}"));
    let word = if before { left.split_whitespace().last() } else { right.split_whitespace().next() };
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number at {mark:?} in {text}"))
}

/// A latency of wrk's table, in microseconds.
fn percentile(text: &str, mark: &str) -> f64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(mark)).expect("wrk's latencies").trim();
    let unit = [("us", 1.0), ("ms", 1e3), ("s", 1e6)].into_iter().find(|(unit, _)| line.ends_with(unit));
    let (unit, factor) = unit.expect("a unit");
    line.trim_end_matches(unit).parse::<f64>().expect("a number") * factor
}
