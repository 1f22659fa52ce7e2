//! Rule 7, durable, at length: the service and PostgreSQL itself are killed again and again under all kinds of changes, and at
//! the end everything is compared with what was acknowledged, the audit log entry by entry. `make soak` kills 1,000, 200 and 50
//! times; LATCHKEY_SOAK_SQLITE_KILLS, LATCHKEY_SOAK_POSTGRES_KILLS and LATCHKEY_SOAK_SERVER_KILLS say how often.

pub mod audit;
pub mod book;
mod disk;
mod faults;
pub mod load;

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::postgres::{self, Cluster};
use crate::support::service::{Edge, Settings};
use crate::support::{Admin, Answer, Service, wait};
use audit::Stored;
use book::{Book, Change, Request, State};
use load::Load;

/// How often something is to be done: what a variable says, or a few times.
pub fn times(variable: &str, few: usize) -> usize {
    let times = std::env::var(variable).ok();
    times.map_or(few, |times| times.parse().unwrap_or_else(|_| panic!("{variable} is a whole number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_nothing_acknowledged_is_lost_by_kills_under_every_kind_of_change_on_sqlite() {
    let url = Settings::default().database_url;
    kill_the_service(&url, times("LATCHKEY_SOAK_SQLITE_KILLS", 12)).await;
    let mut database = Database::open(&url).await;
    assert_eq!(database.column("PRAGMA integrity_check").await, ["ok"]);
    assert!(database.rows("PRAGMA foreign_key_check").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_nothing_acknowledged_is_lost_by_kills_under_every_kind_of_change_on_postgres() {
    kill_the_service(&postgres::shared().database(), times("LATCHKEY_SOAK_POSTGRES_KILLS", 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_nothing_acknowledged_is_lost_when_postgres_itself_is_killed_under_every_kind_of_change() {
    let kills = times("LATCHKEY_SOAK_SERVER_KILLS", 3);
    let cluster = Cluster::start(true);
    let url = cluster.database();
    let mut service = Service::on(&url).await;
    let admin = prepared(&service).await;
    let book = Arc::<Book>::default();
    let load = Load::start(&admin, &book, "pg");
    for kill in 0..kills {
        load.gets_on(enough(kill)).await;
        let from = book.sizes();
        cluster.crash();
        cluster.resume();
        load.gets_on(1).await;
        assert_kept(&service, &book, from.1.saturating_sub(50)).await;
    }
    load.gets_on(20).await;
    let unavailable = load.unavailable();
    load.end().await;
    service.process().assert_running();
    println!("{kills} kills of PostgreSQL; {unavailable} answers were 503");
    assert_whole(&service, &admin, &url, &book).await;
}

/// An administrator, with restrictions under which everything may be made, and what is expired is deleted at once.
async fn prepared(service: &Service) -> Admin {
    allow_everything(service.bootstrap()).await
}

/// Sets such restrictions.
pub async fn allow_everything(admin: Admin) -> Admin {
    let delete_expired = json!({"enabled": true, "after": "0s", "every": "1s"});
    admin.restrict(json!({"max_tokens_per_user": null, "delete_expired": delete_expired})).await;
    admin
}

/// How many acknowledgements there are before a kill, which differs from one to the next.
fn enough(kill: usize) -> usize {
    3 + kill * 7 % 29
}

/// Kills the service so often under load, and looks after each restart at what is new.
async fn kill_the_service(url: &str, kills: usize) {
    let mut service = Service::on(url).await;
    let admin = prepared(&service).await;
    let book = Arc::<Book>::default();
    let begun = wait::now();
    for kill in 0..kills {
        let from = book.sizes();
        let load = Load::start(&admin, &book, &kill.to_string());
        load.gets_on(enough(kill)).await;
        service.kill().await;
        load.end().await;
        service.start_again().await;
        repeat(&admin, &book, from.0).await;
        assert_kept(&service, &book, from.1).await;
    }
    println!("{kills} kills in {:?}", begun.elapsed());
    assert_whole(&service, &admin, url, &book).await;
}

/// What a client does that got no answer, where it can: it asks again.
async fn repeat(admin: &Admin, book: &Book, from: usize) {
    for (number, request) in book.unanswered(from) {
        let ticket = format!("{}-again", request.tickets[0]);
        let Some((method, path, body, may_be)) = repeated(&request) else { continue };
        book.asks_again(number, &ticket);
        let asked = admin.request(method.clone(), &path, body).header("x-request-id", &ticket);
        let answer = Answer::to(asked).await;
        assert!(may_be.contains(&answer.status), "{method} {path} again: {answer:?}");
        let made = match &request.change {
            Change::Import { secrets, .. } => {
                let new = &answer.json()["imported"];
                assert!(
                    new == &json!(0) || new == &json!(secrets.len()),
                    "half an import was there: {answer:?}"
                );
                load::stored(&answer.json(), secrets)
            }
            _ => Vec::new(),
        };
        book.acknowledged(number, made);
    }
}

/// How a request is sent again, and how that may be answered; `None` for what is not done once by that.
fn repeated(request: &Request) -> Option<(Method, String, Option<Value>, &'static [u16])> {
    match &request.change {
        Change::CreateUser { name } => {
            Some((Method::POST, "/users".to_owned(), Some(json!({"name": name})), &[201, 409]))
        }
        Change::Revoke { id } => Some((Method::DELETE, format!("/tokens/{id}"), None, &[204])),
        Change::Import { user, secrets } => {
            let (path, body) = load::import_of(user, secrets);
            Some((Method::POST, path, Some(body), &[200]))
        }
        _ => None,
    }
}

/// Asks the service about the tokens of the book, from one of them on.
pub async fn assert_kept(service: &Service, book: &Book, from: usize) {
    let edge = service.edge();
    for token in book.tokens(from) {
        let verdict = verdict(&edge, &token.secret).await;
        let (valid, revoked) = (!verdict["token"].is_null(), verdict["reason"] == "revoked");
        // What it is now: clients may be at it.
        let as_acknowledged = match (token.state, book.state(&token.id)) {
            (State::Ended(_), _) => revoked,
            (_, Some(State::Live)) => valid,
            _ => valid || revoked,
        };
        assert!(as_acknowledged, "{token:?}: {verdict}");
    }
}

async fn verdict(edge: &Edge, token: &str) -> Value {
    let what = "the service gives a verdict";
    let answer = wait::until(what, async || {
        let answer = edge.verify(token).await.expect("the service answers");
        (answer.status != 503).then_some(answer)
    });
    let answer = answer.await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// At the end: all tokens are as acknowledged, the scheduler does the rest of its work, and the database is compared with the
/// book. Says what there was.
pub async fn assert_whole(service: &Service, admin: &Admin, url: &str, book: &Book) {
    assert_kept(service, book, 0).await;
    let mut database = Database::open(url).await;
    let name = "SELECT COUNT(*) FROM tokens WHERE name = 'short'";
    wait::until_within(wait::PATIENCE * 3, "the scheduler has deleted what is due", async || {
        (database.number(name).await == 0).then_some(())
    })
    .await;
    database.close().await;
    // Nothing changes while the tables are read one after the other.
    let off = json!({"enabled": false, "after": "0s", "every": "1h"});
    admin.restrict(json!({"delete_expired": off})).await;
    let (faults, counts) = Stored::read(url).await.compare(book);
    println!("{counts:?}");
    assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    assert!(counts.acknowledged >= 20 && counts.deleted > 0, "too little has happened: {counts:?}");
}
