//! A throw-away PostgreSQL for tests: a cluster in a temporary folder, reached by a Unix socket, gone with the test
//! process however that ends. `LATCHKEY_TEST_POSTGRES_URL` names a server to use instead: the URL of any database
//! there, of a user who may make others.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The server to use instead of a cluster of one's own.
const SERVER: &str = "LATCHKEY_TEST_POSTGRES_URL";
/// The user that owns a cluster.
const OWNER: &str = "latchkey";

/// A cluster, or a server that is used in its stead.
#[derive(Debug)]
pub struct Cluster {
    /// The cluster's folder, and the process that removes it; `None` for a server from outside.
    own: Option<Own>,
    /// The URL of a database, up to the name and after it.
    url: (String, String),
    databases: AtomicU32,
}

#[derive(Debug)]
struct Own {
    programs: PathBuf,
    folder: PathBuf,
    settings: String,
    guard: Child,
}

/// The one cluster of a test process that needs nothing special of it. It would not survive a power loss, and need not;
/// tests of what survives start one of their own.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var(SERVER) {
        Ok(url) => Cluster::outside(&url),
        Err(_) => Cluster::start(false),
    })
}

impl Cluster {
    /// Starts a cluster of one's own. Without `fsync` it does not survive a power loss, and is faster.
    pub fn start(fsync: bool) -> Self {
        let reached = |folder: &Path| {
            let url = (format!("postgres://{OWNER}@localhost/"), format!("?host={}", folder.display()));
            (url, format!("-c listen_addresses='' -c fsync={fsync}"))
        };
        Self::make(reached, Own::initialize)
    }

    /// Starts a cluster of one's own that is reached by a port of 127.0.0.1, for [`Cluster::standby`].
    pub fn primary(port: u16) -> Self {
        Self::make(by_port(port), Own::initialize)
    }

    /// Starts a standby of this cluster, by another port, without which this cluster acknowledges nothing from now on. It
    /// reaches this cluster by an address of the caller's, perhaps a relay's.
    pub fn standby(&self, port: u16, by: SocketAddr) -> Self {
        let by = format!("postgres://{OWNER}@{by}/postgres");
        let standby = Self::make(by_port(port), |own| {
            let mut copy = user_command(own.programs.join("pg_basebackup"));
            copy.args(["-R", "-X", "stream", "-c", "fast", "-d", &by, "-D"]).arg(own.data());
            output(&mut copy);
        });
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let own = self.own.as_ref().expect("only a cluster of one's own can be promoted");
        output(own.pg_ctl().args(["-w", "-s", "promote"]));
    }

    /// Kills the server and all that it has started, as the end of its machine does.
    pub fn kill(&self) {
        let server = self.process();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        // The server first: it would start its children again. Of them some may have ended meanwhile.
        output(Command::new("kill").args(["-KILL", &server]));
        let mut rest = Command::new("kill");
        let _ = rest.arg("-KILL").args(children.split_whitespace()).stderr(Stdio::null()).status();
    }

    /// The server's process.
    fn process(&self) -> String {
        let own = self.own.as_ref().expect("only a cluster of one's own has a known process");
        let file = fs::read_to_string(own.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    /// Starts a cluster that is reached in some way, with certain settings, once its data is made.
    fn make(reached: impl FnOnce(&Path) -> ((String, String), String), make_data: impl FnOnce(&Own)) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("latchkey-pg-").tempdir().unwrap().keep();
        if let Some((uid, gid)) = account() {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        // The guard waits for the end of its input, which comes when this
        // process ends or drops the cluster, and cleans up.
        let clean_up =
            r#"cat >/dev/null; "$1/pg_ctl" -D "$2/data" -m immediate stop >/dev/null 2>&1; rm -rf "$2""#;
        let guard = user_command("sh")
            .args(["-c", clean_up, "guard"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (url, settings) = reached(&folder);
        let settings = format!(
            "{settings} -c unix_socket_directories='{}' -c shared_buffers=64MB -c max_connections=200",
            folder.display()
        );
        let own = Own { programs, folder, settings, guard };
        make_data(&own);
        let cluster = Self { own: Some(own), url, databases: AtomicU32::new(0) };
        cluster.resume();
        cluster
    }

    /// Uses a server from outside.
    fn outside(url: &str) -> Self {
        let (base, parameters) =
            url.split_once('?').map_or((url, String::new()), |(base, rest)| (base, format!("?{rest}")));
        let (server, _) = base.rsplit_once('/').expect("the URL of a test server names a database");
        Self { own: None, url: (format!("{server}/"), parameters), databases: AtomicU32::new(0) }
    }

    /// Where its data and its log are; only of a cluster of one's own.
    pub fn folder(&self) -> PathBuf {
        self.own.as_ref().expect("a cluster of one's own").folder.clone()
    }

    /// Makes an empty database and says its URL.
    pub fn database(&self) -> String {
        let name =
            format!("latchkey_{}_{}", std::process::id(), self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database by its name.
    pub fn url(&self, name: &str) -> String {
        format!("{}{name}{}", self.url.0, self.url.1)
    }

    /// Runs SQL in a database, and says what it prints: rows in lines, columns separated by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let programs = self.own.as_ref().map_or_else(programs, |own| own.programs.clone());
        let mut psql = user_command(programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url(database)]);
        output(&mut psql)
    }

    /// Stops the server at once, as a crash would. `resume` brings it back.
    pub fn crash(&self) {
        let own = self.own.as_ref().expect("only a cluster of one's own can be stopped");
        output(own.pg_ctl().args(["-m", "immediate", "stop"]));
    }

    /// Stops the server in good order: its standbys have got all that it has acknowledged.
    pub fn stop(&self) {
        let own = self.own.as_ref().expect("only a cluster of one's own can be stopped");
        output(own.pg_ctl().args(["-m", "fast", "-w", "stop"]));
    }

    /// Starts a server that was stopped as a standby of another, at its old address.
    pub fn come_back_as_standby(&self, of: SocketAddr) {
        let own = self.own.as_ref().expect("only a cluster of one's own can be started");
        let settings = format!(
            "primary_conninfo = 'host={} port={} user={OWNER}'\nsynchronous_standby_names = ''\n",
            of.ip(),
            of.port()
        );
        let file = own.data().join("postgresql.auto.conf");
        let kept = fs::read_to_string(&file).unwrap();
        fs::write(&file, kept + &settings).unwrap();
        fs::write(own.data().join("standby.signal"), "").unwrap();
        self.resume();
    }

    /// Starts the server, and waits until it takes connections.
    pub fn resume(&self) {
        let own = self.own.as_ref().expect("only a cluster of one's own can be started");
        let mut start = own.pg_ctl();
        start.args(["-w", "-s", "-o", &own.settings, "-l"]).arg(own.folder.join("log")).arg("start");
        output(&mut start);
    }
}

impl Own {
    /// Makes the data of an empty cluster.
    fn initialize(&self) {
        output(user_command(self.programs.join("initdb")).args(["-N", "-U", OWNER, "-D"]).arg(self.data()));
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn pg_ctl(&self) -> Command {
        let mut pg_ctl = user_command(self.programs.join("pg_ctl"));
        pg_ctl.arg("-D").arg(self.data());
        pg_ctl
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            drop(own.guard.stdin.take());
            let _ = own.guard.wait();
        }
    }
}

/// How a cluster is reached by a port of 127.0.0.1; it survives a power loss.
fn by_port(port: u16) -> impl FnOnce(&Path) -> ((String, String), String) {
    move |_| {
        let url = (format!("postgres://{OWNER}@127.0.0.1:{port}/"), String::new());
        // In its folder, and not in /dev/shm, where a server that is killed leaves its part behind.
        let shared = "-c dynamic_shared_memory_type=mmap";
        (url, format!("-c listen_addresses=127.0.0.1 -c port={port} {shared}"))
    }
}

/// A command as the user who may run a server: PostgreSQL refuses to be root.
pub fn user_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = account() {
        command.uid(uid).gid(gid);
    }
    command
}

/// What a command prints; a test fails with what it says when it fails.
fn output(command: &mut Command) -> String {
    // Through files, not pipes: a server that a command leaves behind would hold a pipe open.
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let status = command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap()).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(status.success(), "{command:?} failed: {}", contents(err));
    contents(out).trim_end().to_owned()
}

fn contents(mut file: fs::File) -> String {
    use io::{Read, Seek};
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).unwrap();
    text
}

/// The user to become when root: `postgres`, which PostgreSQL's packages make, or `nobody`.
pub fn account() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

/// The folder with PostgreSQL's programs: the newest of a package, or one on `PATH`.
pub fn programs() -> PathBuf {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = packaged
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(found.into_iter().rev().map(|(_, folder)| folder));
    let complete =
        |folder: &Path| ["initdb", "pg_ctl", "psql"].iter().all(|program| folder.join(program).is_file());
    folders.find(|folder| complete(folder)).expect(
        "PostgreSQL's programs (initdb, pg_ctl, psql) are not found: install the package \"postgresql\" \
         (Debian, Ubuntu) or \"postgresql-server\" (Fedora), or name a server in LATCHKEY_TEST_POSTGRES_URL",
    )
}
