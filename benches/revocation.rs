//! How long a revoked token is still accepted, anywhere: two Envoys with two workers each, all under load.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::keep_alive::{KeepAlive, get};
use crate::load::{Wrk, in_turn};
use crate::peers::Peer;
use crate::report::{Goal, Section, Table, figure, percentile, sorted};
use crate::seeding;
use crate::servers::Server;
use crate::support::process::Process;
use crate::support::wait::{now, until};
use crate::support::{Admin, Envoy, EnvoyConfig, Service, test_dir};

const WORKERS: u32 = 2;
/// How many connections ask each worker, and how often each of them does at most.
const PROBES: usize = 2;
const PERIOD: Duration = Duration::from_millis(2);
/// After how many refusals in a row a connection stops asking.
const ENOUGH: usize = 5;
/// How many connections load each Envoy, and with how many known tokens.
const LOAD: usize = 8;
const KNOWN: usize = 16;

/// Who takes a revocation.
enum Authority {
    Latchkey(Admin),
    /// The smallest possible authorization server, which remembers what was revoked.
    ExtAuthz(KeepAlive),
}

/// What one peer gave.
struct Series {
    peer: Peer,
    /// Milliseconds, from the shortest to the longest.
    late: Vec<f64>,
    /// What each Envoy answered under the load, in a second.
    per_second: f64,
}

pub async fn run(revocations: usize) -> Section {
    let mut all = Vec::new();
    for peer in [Peer::Latchkey, Peer::ExtAuthzHttp] {
        all.push(series(peer, revocations).await);
    }
    let mut table = Table::of(&[
        "from the 204 to the last acceptance",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "load, requests/s of each Envoy",
    ]);
    for it in &all {
        let figures =
            [percentile(&it.late, 50), percentile(&it.late, 99), it.late[it.late.len() - 1], it.per_second];
        table.row([it.peer.name().to_owned()].into_iter().chain(figures.map(figure)));
    }
    let late = &all[0].late;
    Section {
        title: "Revocation",
        text: format!(
            "Two Envoys with {WORKERS} workers each, loaded by `wrk -t1 -c{LOAD}` each with {KNOWN} known tokens; {revocations} tokens, \
             known to all workers, are revoked one after the other, while {PROBES} connections ask each worker every {} ms. The time is \
             from the arrival of the 204 to the arrival of the last answer that let the token pass, at any worker; 0 where none came \
             later than the 204. The peer asks a server that remembers what was revoked, and caches nothing.",
            PERIOD.as_millis()
        ),
        goals: vec![
            Goal::at_most(
                "revoked to last acceptance, 99th percentile",
                percentile(late, 99),
                "ms",
                250.0,
                50.0,
            ),
            Goal::at_most("revoked to last acceptance, longest", late[late.len() - 1], "ms", 1000.0, 1000.0),
        ],
        tables: vec![table],
    }
}

async fn series(peer: Peer, revocations: usize) -> Series {
    let service = Service::start().await;
    let tokens = seeding::tokens("revocation", revocations + KNOWN);
    seeding::store_tokens(service.database_url(), &tokens).await;
    let (revoked, known) = tokens.split_at(revocations);
    let servers = ["upstream", "authz-revocable", "authz-grpc"].map(Server::start);
    let mut authority = match peer {
        Peer::Latchkey => Authority::Latchkey(service.bootstrap()),
        _ => Authority::ExtAuthz(KeepAlive::open(servers[1].port).await),
    };
    let (mut envoys, mut probes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let upstream = SocketAddr::from(([127, 0, 0, 1], servers[0].port));
        let config = EnvoyConfig::new(service.edge_address(), upstream);
        let config =
            peer.configure(config, &known[0], [servers[1].port, servers[2].port]).concurrency(WORKERS);
        let envoy = Envoy::start(config).await;
        probes.extend(connections(&envoy).await);
        envoys.push(envoy);
    }
    let _load: Vec<Process> = envoys.iter().map(|envoy| load(envoy, known)).collect();
    for token in known {
        assert_eq!(ask_all(&mut probes, token).await, [200].repeat(probes.len()));
    }
    let (begun, before) = (now(), answered(&envoys).await);
    let mut late = Vec::new();
    for (number, token) in revoked.iter().enumerate() {
        late.push(revocation(&mut probes, token, authority.revoke(number, token)).await);
    }
    let per_second = (answered(&envoys).await - before) / begun.elapsed().as_secs_f64() / 2.0;
    for token in revoked {
        assert_eq!(
            ask_all(&mut probes, token).await,
            [401].repeat(probes.len()),
            "a revoked token is accepted again"
        );
    }
    Series { peer, late: sorted(late), per_second }
}

impl Authority {
    /// Revokes a token, and gives the time when that was acknowledged.
    async fn revoke(&mut self, number: usize, token: &str) -> Instant {
        match self {
            Self::Latchkey(admin) => revoke(admin, number).await[1],
            Self::ExtAuthz(server) => {
                let request = String::from_utf8(get(token)).expect("a request").replacen("GET", "DELETE", 1);
                assert_eq!(server.ask(request.as_bytes()).await, 204);
                now()
            }
        }
    }
}

/// Revokes a stored token by its place, and gives the times when that was asked and acknowledged. A busy disk may take longer
/// than the service waits; then it is asked again.
pub async fn revoke(admin: &Admin, number: usize) -> [Instant; 2] {
    until("the token is revoked", async || {
        let sent = now();
        let answer = admin.call(Method::DELETE, &format!("/tokens/{}", seeding::id(number)), None).await;
        assert!([204, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 204).then_some([sent, now()])
    })
    .await
}

/// Milliseconds from the acknowledgement of a revocation to the last acceptance of the token. All workers know it first.
async fn revocation(probes: &mut Vec<KeepAlive>, token: &str, revoke: impl Future<Output = Instant>) -> f64 {
    assert_eq!(ask_all(probes, token).await, [200].repeat(probes.len()));
    let acknowledged = Arc::new(OnceLock::new());
    let mut asking = JoinSet::new();
    for probe in probes.drain(..) {
        asking.spawn(until_refused(probe, get(token), acknowledged.clone()));
    }
    let at = revoke.await;
    acknowledged.set(at).expect("it is set once");
    let mut late = Duration::ZERO;
    for (probe, accepted) in asking.join_all().await {
        late = late.max(accepted.map_or(Duration::ZERO, |accepted| accepted.saturating_duration_since(at)));
        probes.push(probe);
    }
    late.as_secs_f64() * 1e3
}

/// Asks until the token is refused for good, and gives the time of the last acceptance.
async fn until_refused(
    mut probe: KeepAlive,
    request: Vec<u8>,
    acknowledged: Arc<OnceLock<Instant>>,
) -> (KeepAlive, Option<Instant>) {
    let (mut accepted, mut refused) = (None, 0);
    while refused < ENOUGH {
        let sent = now();
        match probe.ask(&request).await {
            200 => (accepted, refused) = (Some(now()), 0),
            401 => refused += usize::from(acknowledged.get().is_some()),
            other => panic!("the gateway answered {other}"),
        }
        sleep_until((sent + PERIOD).into()).await;
    }
    (probe, accepted)
}

/// What each connection is answered.
async fn ask_all(probes: &mut [KeepAlive], token: &str) -> Vec<u16> {
    let request = get(token);
    let mut statuses = Vec::new();
    for probe in probes {
        statuses.push(probe.ask(&request).await);
    }
    statuses
}

/// Connections to an Envoy, so many to each worker: its stats tell which of them has taken one.
async fn connections(envoy: &Envoy) -> Vec<KeepAlive> {
    let mut workers: Vec<Vec<KeepAlive>> = (0..WORKERS).map(|_| Vec::new()).collect();
    while workers.iter().any(|worker| worker.len() < PROBES) {
        let before = taken(envoy).await;
        let connection = KeepAlive::open(envoy.port()).await;
        let after = until("a worker has taken the connection", async || {
            Some(taken(envoy).await).filter(|it| *it != before)
        })
        .await;
        let worker = before.iter().zip(&after).position(|(before, after)| before != after).expect("a worker");
        if workers[worker].len() < PROBES {
            workers[worker].push(connection);
        }
    }
    workers.into_iter().flatten().collect()
}

/// How many connections each worker has taken.
async fn taken(envoy: &Envoy) -> Vec<u64> {
    let mut taken = Vec::new();
    for worker in 0..WORKERS {
        let name = format!("listener.127.0.0.1_{}.worker_{worker}.downstream_cx_total", envoy.port());
        taken.push(envoy.stat(&name).await);
    }
    taken
}

/// How many requests the Envoys have had.
async fn answered(envoys: &[Envoy]) -> f64 {
    let mut answered = 0;
    for envoy in envoys {
        answered += envoy.stat("http.gateway.downstream_rq_total").await;
    }
    answered as f64
}

fn load(envoy: &Envoy, tokens: &[String]) -> Process {
    let headers: Vec<String> = tokens.iter().map(|token| format!("authorization: Bearer {token}")).collect();
    let mut wrk = Wrk::command(envoy.port(), "/orders", &in_turn(&headers), LOAD, 3600);
    Process::start("wrk", &mut wrk, &test_dir::file("wrk", "log"))
}
