//! Databases that move: a server that takes no writes is no source of verdicts, and the one that takes them is found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use latchkey::wire::RefusalReason;
use latchkey_admin::clock::Sources;
use latchkey_admin::domain::token::{Expiry, Token};
use latchkey_admin::domain::user::NewUser;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::{DatabaseUrl, OpenError, ReadOnlyRole, Store, StoreError, StoreOptions};
use latchkey_admin::telemetry::Stopwatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::postgres::Cluster;
use crate::support::{Fixture, admin_token, eventually, name, new_token, origin};

/// How long a server's word may count that it takes writes.
const BOUND: Duration = Duration::from_secs(2);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Two servers, the second a standby of the first.
struct Pair {
    ports: [u16; 2],
    servers: [Cluster; 2],
    database: String,
}

impl Pair {
    fn start() -> Self {
        let ports = [free_port(), free_port()];
        let first = Cluster::primary(ports[0]);
        let url = first.database();
        let second = first.standby(ports[1], local(ports[0]));
        let database = url.rsplit('/').next().unwrap().to_owned();
        Self { ports, servers: [first, second], database }
    }

    fn url(&self, hosts: &str) -> String {
        format!("postgres://latchkey@{hosts}/{}", self.database)
    }

    /// The second becomes the primary, and the first comes back as its standby.
    fn switch(&self) {
        self.servers[0].stop();
        self.servers[1].promote();
        self.servers[0].come_back_as_standby(local(self.ports[1]));
    }

    /// A store on the second server itself.
    async fn second(&self) -> Store {
        open(&self.url(&format!("127.0.0.1:{}", self.ports[1]))).await.unwrap()
    }
}

async fn open(url: &str) -> Result<Store, OpenError> {
    Store::open(&url.parse::<DatabaseUrl>().unwrap(), StoreOptions::default(), Sources::system()).await
}

/// A name for a server that can be moved to another one: connections from then on go there, and those of before stay.
async fn movable(target: SocketAddr) -> (SocketAddr, watch::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (sender, targets) = watch::channel(target);
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = *targets.borrow();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(target).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, sender)
}

fn standby(error: &StoreError) -> bool {
    error.no_writes().is_some_and(|server| server.role == ReadOnlyRole::Standby)
}

async fn create(store: &Store) -> Result<Token, StoreError> {
    store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await
}

/// A store's verdicts on a token, all the time, each with when it was asked for after the beginning.
fn watch_verdicts(
    store: &Store,
    token: &Token,
    since: Stopwatch,
) -> tokio::task::JoinHandle<Vec<(Duration, Outcome)>> {
    let (store, hash) = (store.clone(), token.hash);
    tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let asked = since.elapsed();
            match store.verify(hash).await {
                Ok(verdict) => {
                    let last = matches!(verdict.outcome, Outcome::Refused(RefusalReason::Revoked, _));
                    seen.push((asked, verdict.outcome));
                    if last {
                        return seen;
                    }
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_primary_that_comes_back_as_a_standby_gives_no_verdicts_and_writes_go_on_when_its_name_has_moved() {
    let pair = Pair::start();
    let (by, name) = movable(local(pair.ports[0])).await;
    let url = pair.url(&by.to_string());
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let token = db.token("alice").await;
    assert!(db.is_valid(&token).await);

    pair.switch();
    pair.second().await.revoke_token(&origin(), token.id).await.unwrap();
    let revoked = Stopwatch::start();
    let watching = watch_verdicts(&db.store, &token, revoked);
    // The name still leads to the old primary.
    eventually("the word of a standby", async || db.store.ping().await.is_err_and(|error| standby(&error)))
        .await;
    assert!(standby(&create(&db.store).await.unwrap_err()));

    name.send_replace(local(pair.ports[1]));
    let moved = Stopwatch::start();
    eventually("a write", async || create(&db.store).await.is_ok()).await;
    println!("writes went on {:?} after the name moved", moved.elapsed());
    let seen = watching.await.unwrap();
    let wrong = seen.iter().find(|(at, outcome)| *at > BOUND && matches!(outcome, Outcome::Valid(_)));
    assert!(wrong.is_none(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_servers_the_one_that_takes_writes_is_used_at_the_start_and_after_a_switch() {
    let pair = Pair::start();
    let [first, second] = pair.ports.map(local);
    // The standby comes first in the URL.
    let url = pair.url(&format!("{second},{first}"));
    let store = open(&url).await.unwrap();
    store.bootstrap(&name("admin"), &admin_token()).await.unwrap();
    store.create_user(&origin(), &NewUser::named(name("alice"))).await.unwrap();
    let token = create(&store).await.unwrap();

    pair.switch();
    let promoted = Stopwatch::start();
    eventually("a write", async || create(&store).await.is_ok()).await;
    println!("writes went on {:?} after the switch", promoted.elapsed());
    pair.second().await.revoke_token(&origin(), token.id).await.unwrap();
    let verdict = store.verify(token.hash).await.unwrap();
    assert!(matches!(verdict.outcome, Outcome::Refused(RefusalReason::Revoked, _)), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_is_refused_at_the_start_and_waited_for_until_it_is_promoted() {
    let pair = Pair::start();
    let first = open(&pair.url(&local(pair.ports[0]).to_string())).await.unwrap();
    first.close().await;
    let url = pair.url(&local(pair.ports[1]).to_string());
    let error = open(&url).await.unwrap_err();
    assert!(error.to_string().contains("is a standby, which takes no writes; name the primary"), "{error}");
    let waiting = tokio::spawn(async move {
        let url: DatabaseUrl = url.parse().unwrap();
        Store::open_within(&url, StoreOptions::default(), Sources::system(), Duration::from_secs(300)).await
    });
    pair.servers[0].stop();
    pair.servers[1].promote();
    waiting.await.unwrap().unwrap().position().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_read_only_gives_no_verdicts_and_is_used_again_when_it_is_writable() {
    let cluster = Cluster::start(false);
    let url = cluster.database();
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let token = db.token("alice").await;
    assert!(db.is_valid(&token).await);
    let set = |value: &str| {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        cluster.sql("postgres", "SELECT pg_reload_conf()");
    };
    set("on");
    let turned = Stopwatch::start();
    let refused = async || db.store.verify(token.hash).await.is_err_and(|error| error.no_writes().is_some());
    eventually("the refusal of a server that is read-only", refused).await;
    println!("no verdicts {:?} after it turned read-only", turned.elapsed());
    assert_eq!(
        create(&db.store).await.unwrap_err().no_writes().map(|server| server.role),
        Some(ReadOnlyRole::ReadOnly)
    );
    set("off");
    eventually("a verdict", async || db.store.verify(token.hash).await.is_ok()).await;
    create(&db.store).await.unwrap();
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_has_cut_cost_no_write_and_nothing_is_done_twice() {
    let cluster = Cluster::start(false);
    let url = cluster.database();
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let store = Arc::new(db.store.clone());
    for round in 1..=5 {
        // Several connections, all of which are cut.
        let pings = (0..4).map(|_| {
            tokio::spawn({
                let store = Arc::clone(&store);
                async move { store.ping().await }
            })
        });
        for ping in pings.collect::<Vec<_>>() {
            ping.await.unwrap().unwrap();
        }
        cluster.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
        create(&store).await.unwrap();
        let tokens =
            cluster.sql(db.url.to_string().rsplit('/').next().unwrap(), "SELECT COUNT(*) FROM tokens");
        assert_eq!(tokens, round.to_string());
    }
}
