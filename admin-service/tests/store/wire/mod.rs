//! Faults by wire: a proxy between the store and PostgreSQL fails each write at each of its points. Nothing is lost, nothing is
//! done twice, and the answer is honest.

mod operations;
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use latchkey_admin::store::{Store, StoreError};
use sqlx::Row;

use crate::postgres::Cluster;
use crate::support::Fixture;
use operations::{OF_SQLITE, OF_THE_CLOCK, Subject, WORKS, adds, call, prepare};
use proxy::{Fault, Point, Proxy};

/// What passes by trying again, which the store does.
const PASSING: [Fault; 2] = [Fault::Error("40001"), Fault::Error("40P01")];
/// What does not, on this connection.
const LASTING: [Fault; 4] = [Fault::Error("25006"), Fault::Fatal("57P01"), Fault::Error("53300"), Fault::Cut];
/// What may become of the answer to `COMMIT`.
const LOST: [Fault; 2] = [Fault::Fatal("57P01"), Fault::Cut];

#[test]
fn every_write_of_the_store_is_put_to_the_test_of_faults_by_wire() {
    let mut found = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    for file in std::fs::read_dir(sources).unwrap().map(|file| file.unwrap().path()) {
        let module = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let works = text.lines().filter_map(|line| line.strip_prefix("impl Work for "));
        found.extend(works.map(|line| {
            let end = line.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
            format!("{module}::{}", &line[..end])
        }));
    }
    let listed: BTreeSet<String> =
        WORKS.iter().chain(&OF_SQLITE).chain(&OF_THE_CLOCK).map(ToString::to_string).collect();
    assert_eq!(found, listed, "list it in operations.rs, with a call");
}

/// One kind of write on a database of its own.
struct Trial<'a> {
    work: &'static str,
    db: Fixture,
    proxy: &'a Proxy,
    /// By way of the proxy.
    store: Store,
    calls: u32,
    /// What one call changes.
    effect: State,
}

/// Counts of what there is in the database.
type State = BTreeMap<String, i64>;

impl<'a> Trial<'a> {
    async fn begin(work: &'static str, cluster: &Cluster, proxy: &'a Proxy) -> Self {
        let url = cluster.database();
        let database = url.split('?').next().unwrap().rsplit('/').next().unwrap();
        let by_proxy = format!("postgres://latchkey@{}/{database}?sslmode=disable", proxy.address);
        let db = Fixture::on(url.parse().unwrap(), url, None).await;
        let mut restrictions = db.store.restrictions().await.unwrap();
        restrictions.max_tokens_per_user = None;
        db.store.put_restrictions(&crate::support::origin(), &restrictions).await.unwrap();
        let store = db.store_at(&by_proxy.parse().unwrap()).await;
        let mut trial = Self { work, db, proxy, store, calls: 0, effect: State::new() };
        let (subject, before) = trial.prepared().await;
        trial.call(&subject).await.unwrap();
        trial.effect = trial.since(&before).await;
        assert!(!trial.effect.is_empty(), "{work} changes nothing that is looked at");
        trial
    }

    async fn prepared(&mut self) -> (Subject, State) {
        self.calls += 1;
        let subject = prepare(self.work, &self.db, self.calls).await;
        (subject, state(&self.db).await)
    }

    async fn call(&self, subject: &Subject) -> Result<(), StoreError> {
        call(self.work, &self.store, subject).await
    }

    async fn since(&self, before: &State) -> State {
        let mut changed = state(&self.db).await;
        for (what, count) in before {
            *changed.entry(what.clone()).or_default() -= count;
        }
        changed.retain(|_, count| *count != 0);
        changed
    }

    /// One call that is spoiled; `false`: it has no such point.
    async fn spoiled(&mut self, point: Point, fault: Fault) -> bool {
        let (subject, before) = self.prepared().await;
        let rows = self.db.everything().await;
        let what = format!("{}, {point:?}, {fault:?}", self.work);
        self.proxy.spoil(point, fault);
        let outcome = self.call(&subject).await;
        if self.proxy.is_unspoilt() {
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            return false;
        }
        match outcome {
            Ok(()) => assert_eq!(self.since(&before).await, self.effect, "{what}: acknowledged"),
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable(_)), "{what}: {error}");
                assert!(!PASSING.contains(&fault), "{what}: it passes by trying again");
                if point == Point::AfterCommit {
                    assert_eq!(self.since(&before).await, self.effect, "{what}: not wholly there");
                } else {
                    assert!(self.db.everything().await == rows, "{what}: refused, and something is there");
                }
                self.again(&subject, &before, &what, point).await;
            }
        }
        true
    }

    /// What a caller does who was answered 503.
    async fn again(&self, subject: &Subject, before: &State, what: &str, point: Point) {
        let outcome = self.call(subject).await;
        if point != Point::AfterCommit {
            outcome.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        } else if let Err(StoreError::Unavailable(error)) = outcome {
            panic!("{what}, again: {error}");
        }
        if point != Point::AfterCommit || !adds(self.work) {
            assert_eq!(self.since(before).await, self.effect, "{what}, again");
        }
    }
}

async fn state(db: &Fixture) -> State {
    let counts = [
        ("users", "SELECT COUNT(*) FROM users"),
        ("disabled", "SELECT COUNT(*) FROM users WHERE active = 0"),
        ("deleted", "SELECT COUNT(*) FROM users WHERE deleted = 1"),
        ("own limits", "SELECT COUNT(*) FROM users WHERE own_max_tokens IS NOT NULL"),
        ("tokens", "SELECT COUNT(*) FROM tokens"),
        ("revoked", "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NOT NULL"),
        ("rotated", "SELECT COUNT(*) FROM tokens WHERE rotated_to IS NOT NULL"),
        ("in use", "SELECT COUNT(*) FROM tokens WHERE in_use_since IS NOT NULL"),
        ("scoped", "SELECT COUNT(*) FROM tokens WHERE scopes = 'read'"),
        ("used", "SELECT COUNT(*) FROM tokens WHERE last_used_at IS NOT NULL"),
        ("changes", "SELECT COUNT(*) FROM changes"),
        ("revision", "SELECT revision FROM history"),
        ("edges", "SELECT COUNT(*) FROM edges"),
        ("uses", "SELECT CAST(COALESCE(SUM(allowed + denied), 0) AS BIGINT) FROM usage_hours"),
        ("leases", "SELECT COUNT(*) FROM leases"),
        ("runs", "SELECT COUNT(*) FROM jobs"),
    ];
    // In one statement, for this is asked some thousand times.
    let all = counts.map(|(_, sql)| format!("({sql})")).join(", ");
    let rows = db.sql(&format!("SELECT {all}")).await;
    let counts = counts.iter().enumerate().map(|(place, (what, _))| ((*what).to_owned(), rows[0].get(place)));
    let mut state: State = counts.collect();
    for row in db.sql("SELECT action, COUNT(*) FROM audit GROUP BY action").await {
        state.insert(format!("audit {}", row.get::<String, _>(0)), row.get(1));
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_wire_does_to_a_write_it_is_done_once_or_not_at_all_and_the_answer_is_honest() {
    let cluster = Cluster::start(false);
    let proxy = Proxy::before(cluster.folder().join(".s.PGSQL.5432")).await;
    let mut spoiled = 0;
    for (number, work) in WORKS.into_iter().enumerate() {
        let mut trial = Trial::begin(work, &cluster, &proxy).await;
        let mut requests = 0;
        loop {
            let lasting = LASTING[(requests + number) % LASTING.len()];
            let passing = PASSING[(requests + number) % PASSING.len()];
            if !trial.spoiled(Point::Request(requests), passing).await {
                break;
            }
            trial.spoiled(Point::Request(requests), lasting).await;
            requests += 1;
            spoiled += 2;
        }
        assert!(requests >= 2, "{work} has {requests} requests");
        for fault in PASSING.into_iter().chain(LASTING) {
            assert!(trial.spoiled(Point::InsteadOfCommit, fault).await);
            spoiled += 1;
        }
        for fault in LOST {
            assert!(trial.spoiled(Point::AfterCommit, fault).await);
            spoiled += 1;
        }
        trial.store.close().await;
        trial.db.store.close().await;
    }
    println!("{spoiled} transactions of {} kinds were spoiled", WORKS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_no_place_for_a_moment_is_asked_again_and_the_write_is_done_once() {
    let cluster = Cluster::start(false);
    let proxy = Proxy::before(cluster.folder().join(".s.PGSQL.5432")).await;
    let mut trial = Trial::begin("tokens::Create", &cluster, &proxy).await;
    let (subject, before) = trial.prepared().await;
    // The connection that there is goes, and the next two are refused.
    proxy.refuse(2);
    proxy.spoil(Point::Request(0), Fault::Cut);
    trial.call(&subject).await.unwrap();
    assert_eq!(proxy.left_to_refuse(), 0);
    assert_eq!(trial.since(&before).await, trial.effect);
}
