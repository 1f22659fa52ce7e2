//! Ten thousand waiting feeds at one service process: what each costs it, and how soon all of them are told of a revocation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use latchkey::token::TokenHash;
use latchkey::wire::{CHANGES_PATH, ChangesResponse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::facts;
use crate::h2::Http2;
use crate::report::{Goal, Section, Spread, Table, percentile, sorted};
use crate::revocation::revoke;
use crate::seeding;
use crate::support::wait::{now, until};
use crate::support::{Answer, Service};

/// How many wait.
const FEEDS: usize = 10_000;
/// How many connect at a time.
const AT_ONCE: usize = 100;

/// One feed has heard of these tokens, at this time.
struct Heard {
    at: Instant,
    token_hashes: Vec<TokenHash>,
}

/// What one revocation gave.
struct Round {
    /// Milliseconds from the sending of the revocation until feeds were told, from the shortest to the longest.
    told: Vec<f64>,
    /// How many of them had passed when it was acknowledged.
    acknowledged: f64,
    /// Milliseconds of CPU time that the service took.
    cpu: f64,
    /// KiB of memory for each feed that waits.
    memory: f64,
}

pub async fn run(revocations: usize) -> Section {
    let mut service = Service::start().await;
    let process = service.process().id();
    let tokens = seeding::tokens("feeds", revocations);
    seeding::store_tokens(service.database_url(), &tokens).await;
    let admin = service.bootstrap();
    admin.expect(200, Method::GET, "/me", None).await;
    let before = facts::resident(process);
    let (mut feeds, _following) = open(service.edge_address().port()).await;
    let mut rounds = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        until("all feeds wait", async || (waiting(&service).await == FEEDS).then_some(())).await;
        let memory = (facts::resident(process) - before) / FEEDS as f64;
        let cpu = facts::cpu(process);
        let [sent, acknowledged] = revoke(&admin, number).await;
        let told = all_told(&mut feeds, TokenHash::of(token.as_bytes())).await;
        let cpu = (facts::cpu(process) - cpu).as_secs_f64() * 1e3;
        let after = |at: Instant| at.saturating_duration_since(sent).as_secs_f64() * 1e3;
        let told = sorted(told.into_iter().map(after));
        rounds.push(Round { told, acknowledged: after(acknowledged), cpu, memory });
    }
    section(&rounds)
}

/// The times at which each feed was told of a token.
async fn all_told(feeds: &mut UnboundedReceiver<Heard>, hash: TokenHash) -> Vec<Instant> {
    let mut told = Vec::new();
    while told.len() < FEEDS {
        let heard = feeds.recv().await.expect("feeds go on");
        if heard.token_hashes.contains(&hash) {
            told.push(heard.at);
        }
    }
    told
}

fn section(rounds: &[Round]) -> Section {
    let mut table = Table::of(&[
        "revocation",
        "204, ms",
        "first told, ms",
        "half, ms",
        "99 %, ms",
        "all, ms",
        "service's CPU, ms",
        "KiB for each feed",
    ]);
    for (number, Round { told, acknowledged, cpu, memory }) in rounds.iter().enumerate() {
        let times = [0, 50, 99, 100].map(|percent| percentile(told, percent));
        let figures =
            [*acknowledged].into_iter().chain(times).chain([*cpu]).map(|figure| format!("{figure:.0}"));
        table.row([(number + 1).to_string()].into_iter().chain(figures).chain([format!("{memory:.1}")]));
    }
    let slowest = Spread::of(rounds.iter().map(|round| round.told[FEEDS - 1])).highest;
    let most = Spread::of(rounds.iter().map(|round| round.memory)).highest;
    Section {
        title: "10,000 waiting feeds",
        text: format!(
            "One service process on SQLite, {FEEDS} connections by HTTP/2 with one feed waiting on each, all from this machine, whose \
             clients share its cores; {} revocations, and each feed asks again as soon as it was told. Times are from the sending of \
             the revocation to the arrival of a feed's answer that names the token; memory is what the service's resident memory had \
             grown by since no feed waited, for each feed.",
            rounds.len()
        ),
        goals: vec![
            Goal::at_most(
                "10,000 feeds: all told of a revocation (the slowest)",
                slowest,
                "ms",
                1000.0,
                250.0,
            ),
            Goal::at_most("10,000 feeds: memory for each (the most)", most, "KiB", 32.0, 16.0),
        ],
        tables: vec![table],
    }
}

/// Opens the feeds, which tell what they hear, and go on until the tasks are dropped.
async fn open(port: u16) -> (UnboundedReceiver<Heard>, JoinSet<()>) {
    let (tell, heard) = unbounded_channel();
    let mut client = Http2::open(port).await;
    let beginning = ask(&mut client, &format!("{CHANGES_PATH}?wait_ms=0")).await;
    let beginning = Arc::new(beginning);
    let mut following = JoinSet::new();
    for _ in 0..FEEDS / AT_ONCE {
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE {
            opening.spawn(Http2::open(port));
        }
        for client in opening.join_all().await {
            following.spawn(follow(client, beginning.clone(), tell.clone()));
        }
    }
    (heard, following)
}

/// One feed, as the filter follows it.
async fn follow(mut client: Http2, beginning: Arc<ChangesResponse>, tell: UnboundedSender<Heard>) {
    let (epoch, mut revision) = (beginning.epoch.clone(), beginning.revision);
    drop(beginning);
    loop {
        let path = format!("{CHANGES_PATH}?epoch={epoch}&after={revision}&wait_ms=60000");
        let answer = ask(&mut client, &path).await;
        let heard = Heard { at: now(), token_hashes: answer.token_hashes };
        revision = answer.revision;
        if tell.send(heard).is_err() {
            return;
        }
    }
}

/// Asks until there is an answer: on a busy disk the service may not hear its database for a while.
async fn ask(client: &mut Http2, path: &str) -> ChangesResponse {
    loop {
        let (status, answer) = client.ask(Method::GET, path, Bytes::new()).await;
        if status == 200 {
            return serde_json::from_slice(&answer).expect("an answer of the feed");
        }
        assert_eq!(status, 503, "{answer:?}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// How many feeds wait, as the service says.
async fn waiting(service: &Service) -> usize {
    let metrics = Answer::to(service.monitor().get("/metrics")).await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("latchkey_feeds_waiting "));
    line.map_or(0, |number| number.parse().expect("a number"))
}
