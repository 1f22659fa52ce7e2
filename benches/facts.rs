//! What the operating system says of processes: CPU time and memory (proc(5)).

use std::fs::read_to_string;
use std::time::Duration;

/// The CPU time that a process and its threads took so far, in ticks of 10 ms.
pub fn cpu(id: u32) -> Duration {
    let stat = stat(id).expect("the process runs");
    Duration::from_millis(10 * (stat.ticks[0] + stat.ticks[1]))
}

/// The CPU time that a process took so far, with its children that run and those that have ended.
pub fn cpu_with_children(id: u32) -> Duration {
    let whole = |stat: &Stat| Duration::from_millis(10 * stat.ticks.iter().sum::<u64>());
    let processes = std::fs::read_dir("/proc").expect("proc(5)").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(stat).filter(|it| it.id == id || it.parent == id).map(|it| whole(&it)).sum()
}

struct Stat {
    id: u32,
    parent: u32,
    /// User and system time: its own, and that of children that it has waited for.
    ticks: [u64; 4],
}

/// `None` for a process that has ended.
fn stat(id: u32) -> Option<Stat> {
    let stat = read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ").expect("the format of proc(5)");
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |field: usize| fields[field].parse::<u64>().expect("a number");
    let parent = fields[1].parse().expect("the parent's id");
    Some(Stat { id, parent, ticks: [11, 12, 13, 14].map(number) })
}

/// The memory of a process that is in RAM, in KiB.
pub fn resident(id: u32) -> f64 {
    let status = read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    kib(line)
}

/// The linear memory of the largest of an Envoy's VMs, as much of it as is in RAM, in KiB. V8 puts each in front of gigabytes
/// of addresses that nobody may touch, by which it is found among the mappings.
pub fn linear_memory(id: u32) -> f64 {
    const GUARD: u64 = 4 << 30;
    let smaps = read_to_string(format!("/proc/{id}/smaps")).expect("the process runs");
    let (mut largest, mut before): (f64, f64) = (0.0, 0.0);
    for line in smaps.lines() {
        match mapping(line) {
            Some((size, false)) if size >= GUARD => largest = largest.max(before),
            Some(_) => before = 0.0,
            None => before += line.strip_prefix("Rss:").map_or(0.0, kib),
        }
    }
    assert!(largest > 0.0, "no VM's memory is found");
    largest
}

/// The size of a mapping, and whether it may be written, from the line that begins its part of `smaps`.
fn mapping(line: &str) -> Option<(u64, bool)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(to)? - address(from)?, rest.starts_with("rw")))
}

/// `    123 kB`
fn kib(text: &str) -> f64 {
    text.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB")
}
