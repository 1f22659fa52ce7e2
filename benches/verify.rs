//! What a look-up costs the service, of a million tokens, beside the least that its web framework takes for any answer.

use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::{MAX_TOKEN_HASHES, VERIFY_PATH};

use crate::facts;
use crate::h2;
use crate::load::Wrk;
use crate::report::{Goal, Section, Spread, Table, figure};
use crate::seeding;
use crate::servers::Server;
use crate::support::Service;
use crate::support::database::Database;
use crate::support::envoy_config::EDGE_SECRET;
use crate::support::postgres::Cluster;

/// How many tokens are stored.
const TOKENS: usize = 1_000_000;
/// Connections, as of so many Envoy workers, and requests under way on each.
const CONNECTIONS: [usize; 2] = [4, 8];

/// Who is asked.
struct Subject {
    name: &'static str,
    port: u16,
    process: u32,
    /// The database's main process, where it has one.
    database: Option<u32>,
    /// How many tokens each request is for. The handler looks at none, and its request counts as one.
    tokens: usize,
}

/// What one round gave: microseconds of CPU time for each token, and tokens in a second.
#[derive(Clone, Copy)]
struct Round {
    service_us: f64,
    database_us: f64,
    per_second: f64,
}

/// By which protocol is asked.
#[derive(Clone, Copy)]
enum Protocol {
    Http2,
    Http1,
}

pub async fn run(rounds: u64, seconds: u64) -> Section {
    let handler = Server::start("axum");
    let cluster = Cluster::start(false);
    let (mut sqlite, mut postgres) = (Service::start().await, Service::on(&cluster.database()).await);
    let hashes: Vec<TokenHash> = (0..TOKENS).map(hash).collect();
    for service in [&sqlite, &postgres] {
        seeding::store(service.database_url(), &hashes).await;
    }
    // What PostgreSQL does by itself after a while.
    Database::open(postgres.database_url()).await.run("VACUUM ANALYZE tokens").await;
    let (port, process) = (handler.port, handler.id());
    let handler = Subject { name: "an empty axum handler", port, process, database: None, tokens: 1 };
    let (port, process) = (sqlite.edge_address().port(), sqlite.process().id());
    let sqlite = |name, tokens| Subject { name, port, process, database: None, tokens };
    let (port, process) = (postgres.edge_address().port(), postgres.process().id());
    let database = Some(main_process(&cluster));
    let postgres = |name, tokens| Subject { name, port, process, database, tokens };
    let subjects = [
        handler,
        sqlite("verify, SQLite", 1),
        postgres("verify, PostgreSQL", 1),
        sqlite("verify of 64, SQLite", MAX_TOKEN_HASHES),
        postgres("verify of 64, PostgreSQL", MAX_TOKEN_HASHES),
    ];
    let (mut goals, mut tables) = (Vec::new(), Vec::new());
    for protocol in [Protocol::Http2, Protocol::Http1] {
        let mut all: [Vec<Round>; 5] = Default::default();
        for round in 0..=rounds {
            for (subject, rounds) in subjects.iter().zip(&mut all) {
                let took = self::round(subject, protocol, seconds).await;
                if round > 0 {
                    eprintln!("verify, round {round}, {}: {:.1} us", subject.name, took.service_us);
                    rounds.push(took);
                }
            }
        }
        goals.extend(shares(protocol, &subjects, &all));
        tables.push(table(protocol, &subjects, &all));
    }
    Section { title: "A look-up at the service", text: text(rounds, seconds), goals, tables }
}

fn text(rounds: u64, seconds: u64) -> String {
    let [connections, streams] = CONNECTIONS;
    format!(
        "`POST {VERIFY_PATH}`, each request for another of 1,000,000 stored tokens of 1,000 users, or for 64 others: by HTTP/2 as filters ask, over \
         {connections} connections with {streams} requests under way on each, and by HTTP/1.1 over {} connections (wrk). Medians of \
         {rounds} interleaved rounds of {seconds} s after one to warm up, with the lowest and the highest. Figures are of \
         one token. The handler is a route of axum's that reads the body and answers nothing: its are of one request. The goals are of the service's process alone; PostgreSQL's processes stand \
         beside it.",
        connections * streams
    )
}

/// One round of load on one of them.
async fn round(subject: &Subject, protocol: Protocol, seconds: u64) -> Round {
    let cpu =
        || (facts::cpu(subject.process), subject.database.map_or(Duration::ZERO, facts::cpu_with_children));
    let (time, before) = (Duration::from_secs(seconds), cpu());
    let answered = match protocol {
        Protocol::Http2 => {
            let body = if subject.tokens == 1 { question } else { batch };
            h2::load(subject.port, VERIFY_PATH, CONNECTIONS, time, body).await
        }
        Protocol::Http1 => {
            let connections = CONNECTIONS[0] * CONNECTIONS[1];
            tokio::task::block_in_place(|| {
                Wrk::run(subject.port, VERIFY_PATH, &script(subject.tokens), connections, seconds)
            })
            .requests
        }
    };
    let after = cpu();
    let answered = answered * f64::from(u8::try_from(subject.tokens).expect("few tokens"));
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / answered;
    Round {
        service_us: each(before.0, after.0),
        database_us: each(before.1, after.1),
        per_second: answered / time.as_secs_f64(),
    }
}

/// The goals: how much of the handler's throughput for each CPU second; of many tokens at once, how much of its request each takes.
fn shares(protocol: Protocol, subjects: &[Subject], all: &[Vec<Round>]) -> Vec<Goal> {
    let goal = |(subject, rounds): (&Subject, &Vec<Round>)| {
        let shares = rounds.iter().zip(&all[0]).map(|(round, handler)| handler.service_us / round.service_us);
        if subject.tokens > 1 {
            let what = format!("{}, {}: CPU for each token", subject.name, protocol.name());
            let cost = Spread::of(shares.map(|share| 1.0 / share)).median;
            return Goal::at_most(what, cost, "of a request of the handler", 1.0, 0.5);
        }
        let what = format!("{}, {}: of the handler's requests per CPU second", subject.name, protocol.name());
        Goal::at_least(what, Spread::of(shares).median * 100.0, "%", 25.0, 50.0)
    };
    subjects.iter().zip(all).skip(1).map(goal).collect()
}

fn table(protocol: Protocol, subjects: &[Subject], all: &[Vec<Round>]) -> Table {
    let mut table = Table::of(&[
        protocol.name(),
        "per CPU second",
        "CPU, us",
        "database's CPU, us",
        "in sum",
        "per second",
    ]);
    for (subject, rounds) in subjects.iter().zip(all) {
        let of = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
        table.row([
            subject.name.to_owned(),
            of(|round| 1e6 / round.service_us).to_string(),
            of(|round| round.service_us).to_string(),
            figure(of(|round| round.database_us).median),
            figure(of(|round| round.service_us + round.database_us).median),
            figure(of(|round| round.per_second).median),
        ]);
    }
    table
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http2 => "HTTP/2",
            Self::Http1 => "HTTP/1.1",
        }
    }
}

/// The number of the token that a request is for.
const STRIDE: usize = 7919;

/// The process from which all of PostgreSQL's come.
fn main_process(cluster: &Cluster) -> u32 {
    let file =
        std::fs::read_to_string(cluster.folder().join("data/postmaster.pid")).expect("a running server");
    file.lines().next().and_then(|line| line.trim().parse().ok()).expect("the id of a process")
}

/// The hash of a stored token, by its number. wrk's script computes the same.
fn hash(number: usize) -> TokenHash {
    let word = u32::try_from(number * 2_654_435_761 % (1 << 32)).expect("32 bits").to_be_bytes();
    TokenHash::from_bytes([word; 8].concat().try_into().expect("32 bytes"))
}

fn question(number: usize) -> String {
    format!("{{\"token_hash\":\"{}\"}}", hash(number * STRIDE % TOKENS))
}

/// A question about as many tokens as one may be about.
fn batch(number: usize) -> String {
    let numbers = (number * MAX_TOKEN_HASHES..).take(MAX_TOKEN_HASHES);
    let hashes: Vec<_> = numbers.map(|number| format!("\"{}\"", hash(number * STRIDE % TOKENS))).collect();
    format!("{{\"token_hashes\":[{}]}}", hashes.join(","))
}

/// The same questions for wrk.
fn script(tokens: usize) -> String {
    let body = match tokens {
        1 => "'{\"token_hash\":' .. hash() .. '}'".to_owned(),
        _ => format!("'{{\"token_hashes\":[' .. hash() .. {}']}}'", "',' .. hash() .. ".repeat(tokens - 1)),
    };
    format!(
        "wrk.method = 'POST'\nwrk.headers['authorization'] = 'Bearer {EDGE_SECRET}'\nwrk.headers['content-type'] = 'application/json'\nlocal n = 0\n\
         hash = function()\n  n = n + 1\n\
         \x20 local word = string.format('%08x', (n * {STRIDE} % {TOKENS}) * 2654435761 % 4294967296)\n\
         \x20 return '\"' .. word:rep(8) .. '\"'\nend\n\
         request = function() return wrk.format(nil, nil, nil, {body}) end\n"
    )
}
