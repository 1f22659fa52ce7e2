//! The load: wrk on keep-alive connections, and the CPU time that processes took meanwhile.

use std::process::Command;
use std::time::Duration;

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
    let script = script(headers);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c16", "--latency", &format!("-d{seconds}s"), "-s", &script]);
    let text = output_of(wrk.arg(format!("http://127.0.0.1:{port}/orders")));
    let after = (cpu(envoy), services.iter().map(|id| cpu(*id)).sum::<Duration>());
    let requests = number(&text, " requests in ", true);
    let failed =
        if text.contains("Non-2xx") { number(&text, "Non-2xx or 3xx responses: ", false) } else { 0.0 };
    assert!(requests > 0.0 && failed == if refused { requests } else { 0.0 }, "{text}");
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / requests;
    Round {
        envoy_us: each(before.0, after.0),
        services_us: each(before.1, after.1),
        per_second: number(&text, "Requests/sec:", false),
        p50_us: percentile(&text, "50%"),
        p99_us: percentile(&text, "99%"),
    }
}

/// A script for wrk that sends the headers in turn.
fn script(headers: &[String]) -> String {
    let path = crate::support::test_dir::file("wrk", "lua");
    let list: Vec<String> = headers
        .iter()
        .map(|header| {
            let (name, value) = header.split_once(": ").expect("a header");
            format!("{{[\"{name}\"] = \"{value}\"}}")
        })
        .collect();
    let text = format!(
        "local headers = {{{}}}\nlocal requests, n = {{}}, 0\n\
         init = function() for i, h in ipairs(headers) do requests[i] = wrk.format(\"GET\", nil, h) end end\n\
         request = function() n = n % #requests + 1; return requests[n] end\n",
        list.join(",\n")
    );
    std::fs::write(&path, text).expect("the script is written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The CPU time that a process and its threads took so far (proc(5), `stat`, in ticks of 10 ms).
fn cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    let (_, rest) = stat.rsplit_once(") ").expect("the format of proc(5)");
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("a number of ticks");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
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
