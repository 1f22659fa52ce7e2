//! Rule 7, durable: what was acknowledged is there after `kill -9`, and what was not has left nothing half done.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::database::Database;
use crate::support::service::{Edge, Made, Settings};
use crate::support::{Admin, Service, postgres, wait};

const WRITERS: usize = 4;

#[tokio::test]
async fn durable_everything_acknowledged_is_there_after_100_kills_during_writes_on_sqlite() {
    let url = Settings::default().database_url;
    survive(&url, 100).await;
    let mut database = Database::open(&url).await;
    assert_eq!(database.column("PRAGMA integrity_check").await, ["ok"]);
    assert!(database.rows("PRAGMA foreign_key_check").await.is_empty());
}

#[tokio::test]
async fn durable_everything_acknowledged_is_there_after_10_kills_during_writes_on_postgres() {
    survive(&postgres::shared().database(), 10).await;
}

/// What the service has acknowledged.
#[derive(Default)]
pub struct Acknowledged {
    pub users: BTreeSet<String>,
    /// Tokens that live, and those that are revoked.
    pub live: Vec<Made>,
    pub revoked: Vec<Made>,
    /// Tokens whose revocation was asked for and not acknowledged: they may be revoked or not.
    pub unanswered: BTreeSet<String>,
    /// The highest revision that a verdict has named.
    pub revision: u64,
    pub changes: usize,
}

/// What the writers of one round share.
struct Round {
    admin: Admin,
    /// Where the edge listener is asked.
    edge: Edge,
    book: Mutex<Acknowledged>,
    /// One permit for each acknowledged change.
    changes: Semaphore,
}

/// Writes and kills so often, and looks after each restart at what was acknowledged since the one before.
async fn survive(url: &str, kills: usize) {
    let mut service = Service::on(url).await;
    let admin = service.bootstrap();
    admin.restrict(json!({"max_tokens_per_user": null})).await;
    let mut all = Acknowledged::default();
    for round in 0..kills {
        let book = write_until_killed(&mut service, &admin, round).await;
        service.start_again().await;
        assert_kept(&service, &admin, &book, all.revision).await;
        all.add(book);
    }
    let (changes, revoked) = (all.changes, all.revoked.len());
    assert!(changes >= kills * 3 && revoked >= kills / 2, "only {changes} changes and {revoked} revocations");
    assert_whole(url, &all).await;
}

impl Acknowledged {
    fn add(&mut self, round: Self) {
        self.users.extend(round.users);
        self.live.extend(round.live);
        self.revoked.extend(round.revoked);
        self.unanswered.extend(round.unanswered);
        self.revision = self.revision.max(round.revision);
        self.changes += round.changes;
    }
}

/// Several writers at once, and a kill in the middle of what they do: after so many acknowledgements, which differ from
/// round to round.
async fn write_until_killed(service: &mut Service, admin: &Admin, number: usize) -> Acknowledged {
    let round = Arc::new(Round {
        admin: admin.clone(),
        edge: service.edge(),
        book: Mutex::default(),
        changes: Semaphore::new(0),
    });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(&round), format!("user-{number}-{writer}")));
    }
    let enough = 3 + u32::try_from(number).expect("few rounds") * 7 % 23;
    let changes = timeout(wait::PATIENCE, round.changes.acquire_many(enough)).await;
    changes.expect("the writers get on").expect("an open semaphore").forget();
    service.kill().await;
    writers.join_all().await;
    Arc::into_inner(round).expect("the writers have ended").book.into_inner().expect("the book")
}

impl Round {
    /// Notes an acknowledged change.
    fn note(&self, change: impl FnOnce(&mut Acknowledged)) {
        let mut book = self.book.lock().expect("the book");
        change(&mut book);
        book.changes += 1;
        self.changes.add_permits(1);
    }
}

/// Makes a user, and then tokens for it, of which it revokes every second one, until an answer fails to come.
async fn write(round: Arc<Round>, user: String) -> Option<()> {
    let admin = &round.admin;
    admin.answered(201, Method::POST, "/users", Some(json!({"name": user}))).await?;
    round.note(|book| book.users.extend([user.clone()]));
    let path = format!("/users/{user}/tokens");
    let mut revoke = false;
    loop {
        let made = Made::of(admin.answered(201, Method::POST, &path, Some(json!({"name": "token"}))).await?);
        round.note(|book| book.live.push(made.clone()));
        revoke = !revoke;
        if revoke {
            round.book.lock().expect("the book").unanswered.insert(made.id.clone());
            admin.answered(204, Method::DELETE, &format!("/tokens/{}", made.id), None).await?;
            round.note(|book| {
                book.unanswered.remove(&made.id);
                book.live.retain(|token| token.id != made.id);
                book.revoked.push(made.clone());
            });
            let verdict = round.edge.verdict(&made.token).await?;
            assert_eq!(verdict["reason"], "revoked", "{verdict}");
            let mut book = round.book.lock().expect("the book");
            book.revision = book.revision.max(verdict["revision"].as_u64().expect("a revision"));
        }
    }
}

/// Asks the service about every user and every token of the book.
pub async fn assert_kept(service: &Service, admin: &Admin, book: &Acknowledged, revision: u64) {
    let (edge, revision) = (service.edge(), revision.max(book.revision));
    for user in &book.users {
        admin.expect(200, Method::GET, &format!("/users/{user}"), None).await;
    }
    for token in &book.live {
        let verdict = verdict(&edge, token).await;
        let (id, reason) = (&verdict["token"]["id"], &verdict["reason"]);
        let known = id == &json!(token.id);
        let either = book.unanswered.contains(&token.id) && reason == "revoked";
        assert!(known || either, "an acknowledged token is not there: {verdict}");
    }
    for token in &book.revoked {
        let verdict = verdict(&edge, token).await;
        assert_eq!(verdict["reason"], "revoked", "an acknowledged revocation is not there: {verdict}");
        assert!(verdict["revision"].as_u64() >= Some(revision), "the revision went back: {verdict}");
    }
}

async fn verdict(edge: &Edge, token: &Made) -> Value {
    edge.verdict(&token.token).await.expect("the service answers")
}

/// Looks into the database: everything acknowledged is there, and whatever is there is whole, with its audit entry, its
/// revision and its change.
pub async fn assert_whole(url: &str, all: &Acknowledged) {
    let mut database = Database::open(url).await;
    let [users, tokens, revoked, changed] = [
        ("SELECT name FROM users", "user.created"),
        ("SELECT id FROM tokens", "token.created"),
        ("SELECT id FROM tokens WHERE revoked_at IS NOT NULL", "token.revoked"),
        ("SELECT t.id FROM changes c JOIN tokens t ON t.hash = c.token_hash", "token.revoked"),
    ];
    for (rows, action) in [users, tokens, revoked, changed] {
        let audited = format!("SELECT subject FROM audit WHERE action = '{action}'");
        let (rows_found, audited) = (database.set(rows).await, database.set(&audited).await);
        let half: Vec<_> = rows_found.symmetric_difference(&audited).collect();
        // `bootstrap` makes the first user and token, with entries of its own.
        assert!(half.is_empty(), "half done ({rows}; {action}): {half:?}");
    }
    assert!(database.set(users.0).await.is_superset(&all.users));
    let ids = |tokens: &[Made]| tokens.iter().map(|token| token.id.clone()).collect::<BTreeSet<_>>();
    let (found, ended) = (database.set(tokens.0).await, database.set(revoked.0).await);
    assert!(found.is_superset(&ids(&all.live)) && ended.is_superset(&ids(&all.revoked)));
    let surplus: Vec<_> =
        ids(&all.live).intersection(&ended).filter(|id| !all.unanswered.contains(*id)).cloned().collect();
    assert!(surplus.is_empty(), "revoked, though nobody asked for it: {surplus:?}");

    let revision = database.number("SELECT revision FROM history").await;
    let revisions =
        database.column("SELECT CAST(revision AS TEXT) FROM changes ORDER BY changes.revision").await;
    let without_gaps: Vec<_> = (1..=revision).map(|revision| revision.to_string()).collect();
    assert_eq!(revisions, without_gaps);
    assert!(u64::try_from(revision).expect("a revision") >= all.revision);
}
