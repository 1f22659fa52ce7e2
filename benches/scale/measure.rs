//! What is measured of one database.

use std::time::Duration;

use latchkey::wire::VERIFY_PATH;
use reqwest::Method;
use serde_json::json;

use crate::facts;
use crate::fill::{EACH, due, hash};
use crate::report::{percentile, sorted};
use crate::support::client::{Answer, Caller};
use crate::support::envoy_config::EDGE_SECRET;
use crate::support::wait::now;
use crate::support::{Admin, Service};
use crate::writer::Writer;

/// How often each request is made, and each look-up.
const TIMES: u64 = 30;
const LOOK_UPS: u64 = 1_000;
/// The names of the figures, in their order.
pub const NAMES: [&str; 19] = [
    "start-up, until it is ready, ms",
    "verify, us",
    "verify, 99th percentile, us",
    "list of a user's tokens, ms",
    "search: one user's, active, ms",
    "search: text that one token has, first page, ms",
    "search: text that none has, first page, ms",
    "search: expired, ms",
    "search: revoked, ms",
    "search: expires within 30 days, ms",
    "search: never used for 30 days, ms",
    "stats, until the first count is there, ms",
    "stats, ms",
    "delete-expired, us for each token",
    "another writer, alone, 99th percentile, ms",
    "another writer, alone, longest, ms",
    "another writer, while expired tokens are deleted, 99th percentile, ms",
    "another writer, while expired tokens are deleted, longest, ms",
    "memory of the service in the end, MiB",
];

/// The figures of one database, in the order of [`NAMES`].
pub struct Figures {
    pub all: Vec<f64>,
}

impl Figures {
    /// Measures a service that is stopped and whose database is filled.
    pub async fn of(service: &mut Service, token: &str, tokens: u64) -> Self {
        let begun = now();
        service.start_again().await;
        let mut all = vec![millis(begun.elapsed())];
        let admin = service.admin_with(token);
        all.extend(look_ups(service, tokens).await);
        for path in paths(tokens) {
            all.push(request(&admin, &path, TIMES).await);
        }
        all.push(first_count(&admin).await);
        all.push(request(&admin, "/stats", TIMES).await);
        all.extend(deletion(&admin, tokens).await);
        all.push(facts::resident(service.process().id()) / 1024.0);
        service.signal("TERM");
        service.process().wait().await;
        assert_eq!(all.len(), NAMES.len());
        eprintln!("{tokens} tokens: {all:?}");
        Self { all }
    }

    /// By how many milliseconds the longest wait of another writer is longer while batches are deleted.
    pub fn longest_added(&self) -> f64 {
        (self.all[17] - self.all[15]).max(0.0)
    }
}

fn paths(tokens: u64) -> Vec<String> {
    let user = tokens / EACH / 2;
    let soon = time_in(30 * 86_400);
    let long_ago = time_in(-30 * 86_400);
    vec![
        format!("/users/user{user}/tokens"),
        format!("/tokens?user=user{user}&status=active"),
        format!("/tokens?q=number%20{}", tokens / 2 + 3),
        "/tokens?q=nothing-has-this".to_owned(),
        "/tokens?status=expired".to_owned(),
        "/tokens?status=revoked".to_owned(),
        format!("/tokens?expires_before={soon}"),
        format!("/tokens?last_used_before={long_ago}"),
    ]
}

/// The time so many seconds from now, in RFC 3339.
fn time_in(seconds: i64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("{seconds} seconds")])
        .output();
    String::from_utf8(output.expect("date runs").stdout).expect("text").trim().to_owned()
}

/// The median time of a request, in milliseconds.
async fn request(admin: &Admin, path: &str, times: u64) -> f64 {
    let mut took = Vec::new();
    for _ in 0..times {
        let begun = now();
        admin.expect(200, Method::GET, path, None).await;
        took.push(millis(begun.elapsed()));
    }
    percentile(&sorted(took), 50)
}

/// How long it is until somebody gets the first count: where that takes longer than an answer waits, it asks for another try.
async fn first_count(admin: &Admin) -> f64 {
    let begun = now();
    while admin.call(Method::GET, "/stats", None).await.status == 503 {}
    millis(begun.elapsed())
}

/// The median and the 99th percentile of look-ups of stored tokens all over, in microseconds.
async fn look_ups(service: &Service, tokens: u64) -> [f64; 2] {
    let edge = Caller::http1(&format!("http://{}", service.edge_address()));
    let mut took = Vec::new();
    for number in 0..LOOK_UPS {
        let question = json!({"token_hash": hash(number * 7_919_937 % tokens)});
        let begun = now();
        let answer = Answer::to(edge.post(VERIFY_PATH).bearer_auth(EDGE_SECRET).json(&question)).await;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("unknown"), "{answer:?}");
    }
    let sorted = sorted(took);
    [50, 99].map(|percent| percentile(&sorted, percent))
}

/// What deleting a token that is due takes, in microseconds, and what another writer waits alone and meanwhile.
async fn deletion(admin: &Admin, tokens: u64) -> [f64; 5] {
    let alone = Writer::alone(admin).await;
    let writer = Writer::start(admin);
    let begun = now();
    admin.call(Method::POST, "/scheduler/run", None).await;
    let deleted = loop {
        let state = admin.expect(200, Method::GET, "/scheduler", None).await;
        if let Some(deleted) = state["last_deleted"].as_u64() {
            break deleted;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = begun.elapsed();
    let meanwhile = writer.stop().await;
    assert_eq!(deleted, due(tokens));
    let each = took.as_secs_f64() * 1e6 / f64::from(u32::try_from(deleted).expect("a small number"));
    let [alone, meanwhile] =
        [alone, meanwhile].map(|sorted| [percentile(&sorted, 99), sorted[sorted.len() - 1]]);
    [each, alone[0], alone[1], meanwhile[0], meanwhile[1]]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
