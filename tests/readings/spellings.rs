//! Random spellings of paths from an alphabet of what servers read differently. A seed repeats them.

use super::attempt::Request;
use crate::support::random::Random;

const PATHS: [&str; 5] = ["/rest/admin/x", "/rest/pub/x", "/public/x", "/rest/x/admin", "/rest/pub/x/y"];
const SEGMENTS: [&str; 26] = [
    "rest",
    "admin",
    "pub",
    "public",
    "x",
    "..",
    "..",
    ".",
    "",
    "%2e%2e",
    "%2E.",
    "%252e%252e",
    "..;",
    "..;a=b",
    ".;",
    ";",
    ";a",
    ";%3f",
    ";%23",
    "%2e%2e;",
    "..%3b",
    "%3f",
    "%c0%ae%c0%ae",
    "..%00",
    "%5c..",
    "a\\..",
];
const SLASHES: [&str; 10] = ["/", "/", "/", "/", "//", "%2f", "%252f", "\\", "%5c", "%c0%af"];
const PIECES: [&str; 28] = [
    "/",
    "//",
    "/.",
    "/..",
    "/../",
    "/./",
    "%2f",
    "%252f",
    "%5c",
    "\\",
    ";",
    ";a=b",
    "%3b",
    "%3f",
    "%23",
    "%253f",
    "%2523",
    "?",
    "%2e",
    "%252e",
    "%00",
    "%09",
    "%20",
    "%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "/x/..",
    "/%2e%2e",
];

/// So many spellings of a seed.
pub fn requests(seed: u64, count: usize) -> Vec<Request> {
    let mut random = Random::new(seed, 0);
    (0..count).map(|_| Request::get(&spelling(&mut random))).collect()
}

fn spelling(random: &mut Random) -> String {
    let mut path = if random.below(2) == 0 { made_up(random) } else { pick(random, &PATHS).to_owned() };
    for _ in 0..random.below(4) {
        path = changed(random, &path);
    }
    path
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

/// A path of any segments, of which the last leads to where there is something to find.
fn made_up(random: &mut Random) -> String {
    let mut path = pick(random, &["", "/rest", "/rest/pub", "/public"]).to_owned();
    for _ in 0..1 + random.below(5) {
        path.push_str(pick(random, &SLASHES));
        path.push_str(pick(random, &SEGMENTS));
    }
    path.push_str(pick(random, &["", "/admin/x", "/rest/admin/x", "/admin", "/public/x"]));
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// The path with something put into it, or with one of its characters in other words.
fn changed(random: &mut Random, path: &str) -> String {
    let at = 1 + random.below(path.len());
    let (before, after) = path.split_at(at.min(path.len()));
    match (random.below(3), after.chars().next()) {
        (0, Some(first)) => {
            let escape = if random.below(3) == 0 { "%25" } else { "%" };
            format!("{before}{escape}{:02x}{}", first as u32, &after[1..])
        }
        _ => format!("{before}{}{after}", pick(random, &PIECES)),
    }
}
