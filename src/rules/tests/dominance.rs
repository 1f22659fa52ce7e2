//! No reading of a request needs less than another: random targets, against what servers make of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::models;
use super::*;

/// How many targets are tried, unless `LATCHKEY_TARGETS` says it.
const TARGETS: u64 = 20_000;

/// What targets are made of: segments that rules are about, and all that servers disagree about.
const PARTS: [&str; 62] = [
    "rest",
    "admin",
    "pub",
    "x",
    "/",
    "/",
    "/",
    "/",
    "/",
    "/rest",
    "/admin",
    "/pub",
    "/x",
    "/admin/x",
    "/rest/admin/",
    "/rest/pub/",
    "//",
    "/./",
    "/../",
    "/..",
    "/../",
    "..",
    ".",
    "\\",
    "\\..\\",
    "%5c",
    "%5C..",
    "%255c",
    ";",
    ";a=b",
    ";/",
    "/..;/",
    "/;",
    "%3b",
    "%253b",
    "?",
    "#",
    "%3f",
    "%23",
    "%253f",
    "%2523",
    "%2f",
    "%2F..%2f",
    "%252f",
    "%2e",
    "%2e%2e",
    "/%2e%2e/",
    "/.%2E/",
    "%252e%252e",
    "%25",
    "%c0%ae",
    "%c0%af",
    "/%c0%ae%c0%ae/",
    "%e0%80%af",
    "%u002f",
    "%u002e%u002e",
    "%uff0f",
    "%00",
    "%09",
    "%20",
    "%ff",
    "%61dmin",
];

/// A generator of numbers that are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn target(&mut self) -> Vec<u8> {
        let mut target = ["/", "/rest/", "/rest/pub/", "/pub/"][self.below(4)].to_owned();
        for _ in 0..=self.below(6) {
            target.push_str(PARTS[self.below(PARTS.len())]);
        }
        target.push_str(["", "", "/x", "/admin/x", "/rest/admin/x"][self.below(5)]);
        target.into_bytes()
    }
}

/// A rule, and whether it is about a path in the words of whoever wrote it.
type Written = (Rule, fn(&str) -> bool);

fn rule_sets() -> Vec<(Rules, Vec<Written>)> {
    let separated = |path: &str, case| PathPattern::separated_prefix(path.to_owned(), case).unwrap();
    let any = || PathPattern::Any;
    let sets: [Vec<Written>; 6] = [
        vec![(rule(prefix("/rest/admin/"), Auth::Required, &["admin"]), |path| {
            path.starts_with("/rest/admin/")
        })],
        vec![
            (rule(prefix("/rest/pub/"), Auth::Required, &[]), |path| path.starts_with("/rest/pub/")),
            (rule(any(), Auth::Required, &["admin"]), |_| true),
        ],
        vec![
            (rule(prefix("/pub/admin/"), Auth::Optional, &[]), |path| path.starts_with("/pub/admin/")),
            (rule(prefix("/pub/"), Auth::None, &[]), |path| path.starts_with("/pub/")),
            (rule(prefix("/rest/admin/"), Auth::Required, &["admin"]), |path| {
                path.starts_with("/rest/admin/")
            }),
        ],
        vec![
            (rule(exact("/rest/admin"), Auth::Required, &["admin"]), |path| path == "/rest/admin"),
            (rule(separated("/rest/pub", Case::Counts), Auth::None, &[]), |path| {
                path == "/rest/pub" || path.starts_with("/rest/pub/")
            }),
            (rule(prefix("/rest/"), Auth::Required, &["rest"]), |path| path.starts_with("/rest/")),
        ],
        vec![
            (rule(separated("/REST/Admin", Case::Ignored), Auth::Required, &["admin"]), |path| {
                let path = path.to_ascii_lowercase();
                path == "/rest/admin" || path.starts_with("/rest/admin/")
            }),
            (rule(prefix("/rest"), Auth::None, &[]), |path| path.starts_with("/rest")),
        ],
        vec![
            (rule(regex("/rest/.*/x"), Auth::Required, &["deep"]), |path| {
                path.starts_with("/rest/") && path.ends_with("/x") && path.len() >= "/rest//x".len()
            }),
            (rule(prefix("/rest/pub/"), Auth::None, &[]), |path| path.starts_with("/rest/pub/")),
            (rule(prefix("/rest/admin/"), Auth::Required, &["admin"]), |path| {
                path.starts_with("/rest/admin/")
            }),
            (rule(any(), Auth::Required, &["all"]), |_| true),
        ],
    ];
    let rules = |set: &Vec<Written>| Rules::new(set.iter().map(|(rule, _)| rule.clone()).collect());
    sets.into_iter().map(|set| (rules(&set), set)).collect()
}

/// What the rules ask of a path that a server has read, whatever was sent.
fn written(set: &[Written], path: &[u8]) -> Requirement {
    // One character for each byte, so that none hides another.
    let path: String = path.iter().copied().map(char::from).collect();
    let rule = set.iter().find(|(_, is_about)| is_about(&path));
    rule.map_or_else(Requirement::default, |(rule, _)| rule.requirement.clone())
}

/// How many random targets get through `needs` with less than the rules ask for what each model reads, with an example.
fn hits(seed: u64, targets: u64, needs: impl Fn(&Rules, &[Written], &[u8]) -> Requirement) -> Vec<Hits> {
    let sets = rule_sets();
    let mut random = Random(seed);
    let mut hits: Vec<_> =
        models::ALL.iter().map(|(model, _)| Hits { model, count: 0, example: String::new() }).collect();
    for _ in 0..targets {
        let (rules, set) = &sets[random.below(sets.len())];
        let target = random.target();
        let found = needs(rules, set, &target);
        for ((_, read), hits) in models::ALL.iter().zip(&mut hits) {
            let Some(path) = read(&target) else { continue };
            if !found.covers(&written(set, &path)) {
                hits.count += 1;
                hits.example = format!("{} is {}", target.escape_ascii(), path.escape_ascii());
            }
        }
    }
    hits.retain(|hits| hits.count > 0);
    hits
}

/// Which model reads a path that needs more than was asked for.
#[derive(Debug)]
struct Hits {
    model: &'static str,
    count: u64,
    example: String,
}

#[test]
fn whatever_passes_has_what_the_rules_ask_for_the_path_that_any_server_reads() {
    let targets: u64 = std::env::var("LATCHKEY_TARGETS").map_or(TARGETS, |text| text.parse().unwrap());
    let threads =
        std::thread::available_parallelism().map_or(1, |threads| u64::try_from(threads.get()).unwrap());
    let asked_little = AtomicU64::new(0);
    let try_out = &|seed| {
        hits(seed, targets.div_ceil(threads), |rules, _, target| {
            let path = Some(target);
            let needs = rules.requirement(&Target { path, ..get("") }).into_owned();
            asked_little.fetch_add(u64::from(needs != rules.everything), Ordering::Relaxed);
            needs
        })
    };
    std::thread::scope(|scope| {
        let tried: Vec<_> = (0..threads).map(|seed| scope.spawn(move || try_out(seed))).collect();
        for hits in tried.into_iter().map(|thread| thread.join().unwrap()) {
            assert!(hits.is_empty(), "{hits:#?}");
        }
    });
    // To ask for everything always would be no art.
    let asked_little = asked_little.into_inner();
    assert!(asked_little > targets / 3, "{asked_little} of {targets}");
}

/// The one reading that does everything which some server does, all at once: each step hides what others see.
fn most_helpful(target: &[u8]) -> Vec<u8> {
    let decode = |path: Vec<u8>| steps::decode(&path).unwrap_or(path);
    let path = decode(decode(decode(target.split(|byte| *byte == b'?').next().unwrap().to_vec())));
    let mut segments: Vec<&[u8]> = Vec::new();
    let end = path.iter().position(|byte| b"?#".contains(byte)).unwrap_or(path.len());
    for segment in path[..end].split(|byte| b"/\\".contains(byte)) {
        match segment.split(|byte| *byte == b';').next().unwrap() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let slash: &[u8] = if path[..end].ends_with(b"/") { b"/" } else { b"" };
    [b"/", segments.join(&b'/').as_slice(), slash].concat()
}

#[test]
fn the_models_tell_that_one_reading_stands_for_no_other() {
    let as_sent_and_read = |_: &Rules, set: &[Written], target: &[u8]| {
        written(set, before_query(target)).and(&written(set, &most_helpful(target)))
    };
    let hits = hits(0, TARGETS / 4, as_sent_and_read);
    assert!(hits.len() >= 12, "{hits:#?}");
    assert!(hits.iter().all(|hits| hits.model != "as sent"), "{hits:#?}");
}

fn before_query(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap()
}
