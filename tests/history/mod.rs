//! Three service processes on one PostgreSQL, under random changes from many clients at once: nothing acknowledged is lost, every
//! feed tells of each revision once and in order, no limit is overrun at any moment, and each replica soon knows what
//! another has acknowledged.

mod check;
mod clients;
mod faults;
mod readers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use check::{Change, Counted, Record, Token};
use clients::{Client, Scene, USERS, user};

use crate::support::database::Database;
use crate::support::random::{Random, seed};
use crate::support::{Service, postgres};

const CLIENTS: usize = 12;
const ROAMING_READERS: usize = 2;
const TIME: Duration = Duration::from_secs(20);
/// What another replica needs at most to know of a change, half of the time, on a machine with little else to do: there a
/// change takes [`USUAL`]. Where changes take longer, everything does.
const PROMPT: Duration = Duration::from_millis(200);
/// And always.
const AT_LAST: Duration = Duration::from_secs(2);
/// What half of the changes take at most on such a machine, with all these clients.
const USUAL: Duration = Duration::from_millis(100);

#[tokio::test]
async fn exact_three_processes_on_postgres_keep_one_history_under_random_concurrent_changes() {
    let seed = seed();
    println!("LATCHKEY_TEST_SEED={seed}");
    let url = postgres::shared().database();
    let (one, two, three) = tokio::join!(Service::on(&url), Service::on(&url), Service::on(&url));
    let record = run(&url, &[one, two, three], seed).await;
    let faults = record.faults();
    assert!(faults.is_empty(), "with LATCHKEY_TEST_SEED={seed}: {faults:#?}");
    assert_prompt("a feed knew", record.delays(), record.busy);
}

/// Changes things for a while, and gives all that is known of it.
async fn run(url: &str, services: &[Service], seed: u64) -> Record {
    let admin = services[0].bootstrap();
    for number in 0..USERS {
        admin.create_user(&user(number)).await;
    }
    admin.restrict(json!({"max_tokens_per_user": 5})).await;
    let edges: Vec<_> = services.iter().map(Service::edge).collect();
    let admins = services.iter().map(|service| service.admin_with(&admin.token)).collect();
    let scene = Arc::new(Scene::new(admins, edges.clone(), 5));
    let start = readers::position(&edges[0]).await;
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let places = edges.iter().map(|edge| vec![edge.clone()]);
    let places = places.chain(std::iter::repeat_n(edges.clone(), ROAMING_READERS));
    let readers: Vec<_> = places
        .zip(1000..)
        .map(|(edges, number)| {
            let random = Random::new(seed, number);
            tokio::spawn(readers::read(edges, random, scene.begun, start.clone(), Arc::clone(&last)))
        })
        .collect();
    let clients: JoinSet<()> =
        (0..CLIENTS).map(|number| Client::new(&scene, seed, number).run(TIME)).collect();
    clients.join_all().await;
    let mut record = stored(url, start.1).await;
    last.store(record.revision, Ordering::Relaxed);
    for reader in readers {
        record.feeds.push(reader.await.expect("a reader gets to the end"));
    }
    let book = Arc::into_inner(scene).expect("the clients have ended").into_book();
    record.acknowledged = book.acknowledged;
    record.limits = book.limits;
    for counted in &mut record.counted {
        counted.asked = book.asked.get(&counted.token).copied().unwrap_or_default();
    }
    assert_busy(&record, book.refused);
    record.busy = busy(book.calls);
    assert_prompt("a verdict was the new one", book.verdicts, record.busy);
    record
}

/// What the database has after the revision at which it began.
async fn stored(url: &str, base: u64) -> Record {
    let mut database = Database::open(url).await;
    let revision = u64::try_from(database.number("SELECT revision FROM history").await).expect("a revision");
    let mut changes = BTreeMap::<u64, BTreeSet<String>>::new();
    let touched = "SELECT CAST(revision AS TEXT), encode(token_hash, 'hex') FROM changes WHERE revision > ";
    for row in database.rows(&format!("{touched}{base}")).await {
        changes.entry(row[0].parse().expect("a revision")).or_default().insert(row[1].clone());
    }
    let tokens = "SELECT t.id, encode(t.hash, 'hex'), u.name, t.name, t.scopes, CAST(t.revoked_at IS NOT NULL AS TEXT) \
        FROM tokens t JOIN users u ON u.id = t.user_id";
    let token = |row: Vec<String>| {
        let [id, hash, user, name, scopes, ended] = row.try_into().expect("six columns");
        (id, Token { hash, user, name, scopes, ended: ended == "true" })
    };
    let tokens = database.rows(tokens).await.into_iter().map(token).collect();
    let users = database.rows("SELECT name, CAST(active AS TEXT) FROM users").await;
    let users = users.into_iter().map(|row| (row[0].clone(), row[1] == "1")).collect();
    let counted = counted(&mut database).await;
    Record { base, revision, changes, tokens, users, counted, ..Record::default() }
}

/// What the audit log says of live tokens.
async fn counted(database: &mut Database) -> Vec<Counted> {
    let entries = "SELECT CAST(at AS TEXT), action, subject, details FROM audit \
        WHERE action IN ('token.created', 'token.revoked', 'token.rotated') ORDER BY id";
    let counted = |row: Vec<String>| {
        let [at, action, token, details] = row.try_into().expect("four columns");
        let details: Value = serde_json::from_str(&details).expect("details in JSON");
        let user = details["user"].as_str().expect("a user").to_owned();
        Counted { at: at.parse().expect("a time"), asked: 0, user, token, made: action == "token.created" }
    };
    database.rows(entries).await.into_iter().map(counted).collect()
}

/// Panics unless there was enough of everything for a fault to show.
fn assert_busy(record: &Record, [by_limit, by_others]: [usize; 2]) {
    let count = |is: fn(&Change) -> bool| record.acknowledged.iter().filter(|it| is(&it.change)).count();
    let made = count(|change| matches!(change, Change::Made { .. }));
    let scoped = count(|change| matches!(change, Change::Scoped { .. }));
    let ended = count(|change| matches!(change, Change::Ended { .. }));
    let toggled = count(|change| matches!(change, Change::User { .. }));
    let (revisions, limits) = (record.revision - record.base, record.limits.len());
    println!(
        "{} acknowledged: {made} tokens made, {scoped} patched, {ended} ended, {toggled} users toggled; {limits} limits; \
         refused {by_limit} by a limit, {by_others} by what others did; {revisions} revisions",
        record.acknowledged.len()
    );
    let least = made.min(scoped).min(ended).min(toggled);
    assert!(least >= 20 && limits >= 3 && by_limit >= 10 && revisions >= 100, "too little has happened");
}

/// How many times slower this machine is now than one with little to do; at least 1.
fn busy(mut calls: Vec<Duration>) -> f64 {
    calls.sort();
    let median = calls[calls.len() / 2];
    let busy = (median.as_secs_f64() / USUAL.as_secs_f64()).max(1.0);
    println!(
        "half of {} calls took up to {median:?}: the machine counts as {busy:.1} times slower",
        calls.len()
    );
    busy
}

/// Prints how long it took, and panics if that was too long for a machine that is so many times slower.
fn assert_prompt(what: &str, mut delays: Vec<Duration>, busy: f64) {
    delays.sort();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    let (median, most) = (at(50), at(100));
    println!("{what} after {median:?} (median), {:?} (99 %), {most:?} (most) of {}", at(99), delays.len());
    // The slowest of thousands may have waited for a processor alone, so on a busy machine it says nothing.
    let in_time = busy > 1.0 || most <= AT_LAST;
    assert!(
        median <= PROMPT.mul_f64(busy) && in_time,
        "too late on a machine that is {busy:.1} times slower"
    );
}
