//! Two PostgreSQL servers under Patroni with synchronous replication, an etcd for what Patroni knows, and an HAProxy that leads to
//! the one that Patroni calls primary: programs of Debian's packages, on loopback, in a folder that goes with the test process.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, Caller};
use crate::support::postgres::{account, programs, user_command};
use crate::support::process::Process;
use crate::support::{ports, test_dir, wait};

/// How long Patroni may take for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
const DATABASE: &str = "latchkey";

/// Whether all the programs are here; says so if they are not.
pub fn is_installed() -> bool {
    let missing: Vec<_> =
        ["etcd", "patroni", "haproxy"].into_iter().filter(|it| find(it).is_none()).collect();
    if !missing.is_empty() {
        eprintln!(
            "SKIPPED: {missing:?} are not installed (Debian: apt-get install etcd-server patroni haproxy)."
        );
    }
    missing.is_empty()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// A server and its Patroni.
pub struct Node {
    name: &'static str,
    postgres: u16,
    rest: u16,
    folder: PathBuf,
    log: PathBuf,
    /// None while it is killed.
    patroni: Option<Process>,
    http: Caller,
}

/// All of it.
pub struct PatroniCluster {
    pub nodes: [Node; 2],
    proxy: u16,
    /// Ended with this value, in this order.
    _haproxy: Process,
    _etcd: Process,
    folder: PathBuf,
    guard: Child,
}

impl PatroniCluster {
    /// Starts it, and waits until one server leads and the other follows synchronously.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("latchkey-patroni-").tempdir().unwrap().keep();
        give(&folder);
        let guard = guard(&folder);
        let etcd_port = ports::free();
        let etcd = start_etcd(&folder, etcd_port);
        let mut nodes = ["one", "two"].map(|name| Node::new(name, &folder, etcd_port));
        let proxy = ports::free();
        let haproxy = start_haproxy(&folder, proxy, &nodes);
        nodes[0].start();
        wait::until_within(PATIENCE, "the first server leads", async || nodes[0].leads().await.then_some(()))
            .await;
        nodes[1].start();
        let cluster = Self { nodes, proxy, _haproxy: haproxy, _etcd: etcd, folder, guard };
        cluster.until_synchronous().await;
        let create = format!("CREATE DATABASE {DATABASE}");
        cluster.sql(cluster.leader().await, &create);
        cluster
    }

    /// The database by way of HAProxy.
    pub fn url_by_proxy(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{DATABASE}?sslmode=disable", self.proxy)
    }

    /// The same by both servers' names.
    pub fn url_of_both(&self) -> String {
        let [one, two] = &self.nodes;
        format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{DATABASE}?sslmode=disable",
            one.postgres, two.postgres
        )
    }

    /// The database at the server that leads now.
    pub async fn url_of_leader(&self) -> String {
        let leader = &self.nodes[self.leader().await];
        format!("postgres://postgres@127.0.0.1:{}/{DATABASE}?sslmode=disable", leader.postgres)
    }

    /// Which server leads.
    pub async fn leader(&self) -> usize {
        wait::until_within(PATIENCE, "a server leads", async || {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.leads().await {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// Waits until the other server has all that the leader acknowledges.
    pub async fn until_synchronous(&self) {
        wait::until_within(PATIENCE, "one server follows synchronously", async || {
            for node in &self.nodes {
                if node.status("/sync").await == Some(200) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Has Patroni make the other server the leader, as an operator does; comes back when it says that it has.
    pub async fn switch_over(&self) {
        let leader = self.leader().await;
        let body = json!({"leader": self.nodes[leader].name, "candidate": self.nodes[1 - leader].name});
        wait::until_within(PATIENCE, "Patroni switches over", async || {
            let asked = self.nodes[leader].http.request(Method::POST, "/switchover").json(&body);
            let answer = Answer::try_to(asked).await.ok()?;
            // Refused while it finds the other server too far behind.
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Kills the leader's Patroni and server at once, as the end of its machine does; says which one it was.
    pub async fn kill_leader(&mut self) -> usize {
        let leader = self.leader().await;
        self.nodes[leader].kill();
        leader
    }

    /// Starts what was killed again.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node].start();
    }

    fn sql(&self, node: usize, sql: &str) {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[node].postgres);
        let run = user_command(programs().join("psql")).args(["-X", "-q", "-c", sql, &url]).status();
        assert!(run.is_ok_and(|status| status.success()), "{sql}");
    }
}

impl Drop for PatroniCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.patroni = None;
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    fn new(name: &'static str, folder: &Path, etcd: u16) -> Self {
        let (postgres, rest) = (ports::free(), ports::free());
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        give(&folder);
        let http = Caller::http1(&format!("http://127.0.0.1:{rest}"));
        let log = test_dir::file("patroni", "log");
        let node = Self { name, postgres, rest, folder, log, patroni: None, http };
        let config = node.config(etcd).to_string();
        fs::write(node.folder.join("patroni.json"), config).unwrap();
        node
    }

    /// YAML takes JSON.
    fn config(&self, etcd: u16) -> Value {
        let folder = self.folder.display();
        let address = |port: u16| format!("127.0.0.1:{port}");
        let user = |name: &str| json!({"username": name, "password": "none"});
        json!({
            "scope": "latchkey", "name": self.name,
            "restapi": {"listen": address(self.rest), "connect_address": address(self.rest)},
            "etcd3": {"host": address(etcd)},
            "bootstrap": {
                "dcs": {
                    "ttl": 20, "loop_wait": 1, "retry_timeout": 5, "synchronous_mode": true,
                    "postgresql": {"use_pg_rewind": true, "parameters": {"wal_log_hints": "on", "shared_buffers": "32MB",
                        "max_connections": 100, "wal_keep_size": "256MB"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, "no-sync"],
            },
            "postgresql": {
                "listen": address(self.postgres), "connect_address": address(self.postgres),
                "data_dir": format!("{folder}/data"), "bin_dir": programs().display().to_string(), "pgpass": format!("{folder}/pgpass"),
                "authentication": {"superuser": user("postgres"), "replication": user("replicator"), "rewind": user("rewinder")},
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
                "parameters": {"unix_socket_directories": folder.to_string(), "dynamic_shared_memory_type": "mmap"},
            },
        })
    }

    fn start(&mut self) {
        let mut command = user_command(find("patroni").expect("patroni"));
        command.arg(self.folder.join("patroni.json")).env("PYTHONDONTWRITEBYTECODE", "1");
        let patroni = Process::start("patroni", &mut command, &self.log);
        fs::write(self.folder.join("patroni.pid"), patroni.id().to_string()).unwrap();
        self.patroni = Some(patroni);
    }

    /// What it answers to a health check; `None` for nothing.
    async fn status(&self, path: &str) -> Option<u16> {
        let asked = self.http.get(path).timeout(Duration::from_secs(5));
        Answer::try_to(asked).await.ok().map(|answer| answer.status)
    }

    pub async fn leads(&self) -> bool {
        self.patroni.is_some() && self.status("/primary").await == Some(200)
    }

    fn kill(&mut self) {
        // First who would start the server again.
        self.patroni = None;
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("a running server");
        let server = file.lines().next().expect("its process").to_owned();
        let killed = Command::new("kill").args(["-KILL", &server]).status();
        assert!(killed.is_ok_and(|status| status.success()), "the server cannot be killed");
    }
}

/// Has the user own a folder who runs servers.
fn give(folder: &Path) {
    if let Some((uid, gid)) = account() {
        chown(folder, Some(uid), Some(gid)).unwrap();
    }
}

/// Waits for the end of its input, which comes when this process ends or drops the cluster, and ends what is left.
fn guard(folder: &Path) -> Child {
    let clean_up = r#"cat >/dev/null
        for pid in "$2"/*.pid "$2"/*/patroni.pid; do [ -f "$pid" ] && kill -KILL "$(cat "$pid")" 2>/dev/null; done
        for data in "$2"/*/data; do "$1/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1; done
        rm -rf "$2"/*"#;
    let mut command = user_command("sh");
    command.args(["-c", clean_up, "guard"]).args([programs().as_path(), folder]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).spawn().unwrap()
}

/// Notes a process for the guard.
fn guarded(process: Process, name: &str, folder: &Path) -> Process {
    fs::write(folder.join(format!("{name}.pid")), process.id().to_string()).unwrap();
    process
}

fn start_etcd(folder: &Path, port: u16) -> Process {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", ports::free()));
    let mut command = user_command(find("etcd").expect("etcd"));
    command.arg("--data-dir").arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    guarded(Process::start("etcd", &mut command, &test_dir::file("etcd", "log")), "etcd", folder)
}

/// As the README says that users of Patroni set it.
fn start_haproxy(folder: &Path, port: u16, nodes: &[Node; 2]) -> Process {
    let server = |node: &Node| {
        format!("    server {} 127.0.0.1:{} check port {}\n", node.name, node.postgres, node.rest)
    };
    let config = format!(
        "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n\
         listen postgres\n    bind 127.0.0.1:{port}\n    option httpchk GET /primary\n    http-check expect status 200\n    \
         default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions\n{}{}",
        server(&nodes[0]),
        server(&nodes[1])
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let mut command = user_command(find("haproxy").expect("haproxy"));
    command.arg("-db").arg("-f").arg(&file);
    guarded(Process::start("haproxy", &mut command, &test_dir::file("haproxy", "log")), "haproxy", folder)
}
