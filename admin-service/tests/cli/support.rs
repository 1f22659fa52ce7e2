//! Runs the program in a folder of its own, and waits for what it does.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(120);

/// Has `serve` listen on ports that are free.
pub const FREE_PORTS: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];

/// A folder for one test, in which the program runs.
pub struct Place(tempfile::TempDir);

/// A running `latchkey serve`, killed with its test.
pub struct Serving {
    pub child: Child,
    pub log: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The program, with no setting of the machine's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LATCHKEY_"))
        {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs SQL in the database, beside whatever else uses it.
    pub fn sql(&self, sql: &str) {
        self.sql_in("latchkey.db", sql);
    }

    /// Runs SQL in a database of another name.
    pub fn sql_in(&self, name: &str, sql: &str) {
        let path = self.path(name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut database = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
            database.execute("BEGIN IMMEDIATE").await.unwrap();
            database.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
            database.execute("COMMIT").await.unwrap();
            database.close().await.unwrap();
        });
    }

    /// Keeps everybody else from writing in the database, until it is dropped.
    pub fn locked(&self) -> (SqliteConnection, tokio::runtime::Runtime) {
        let path = self.path("latchkey.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut database = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
            database.execute("BEGIN IMMEDIATE").await.unwrap();
            database
        });
        (connection, runtime)
    }

    /// Makes the administrator.
    pub fn bootstrap(&self) -> String {
        let output = self.run(&["bootstrap"]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts the service on free ports, and waits until it says that it serves.
    pub fn serve(&self, args: &[&str]) -> Serving {
        self.serve_beside(args, "log")
    }

    /// The same, with a log of its own.
    pub fn serve_beside(&self, args: &[&str], log: &str) -> Serving {
        self.serve_by(|_| (), args, log)
    }

    /// The same, started in another way.
    pub fn serve_by(&self, edit: impl FnOnce(&mut Command), args: &[&str], log: &str) -> Serving {
        let serving = self.start_logging(edit, args, log);
        wait_for("the service to serve", || {
            serving.lines().iter().any(|line| line["message"] == "latchkey serves")
        });
        serving
    }

    /// Starts the service on free ports.
    pub fn start(&self, args: &[&str]) -> Serving {
        self.start_logging(|_| (), args, "log")
    }

    fn start_logging(&self, edit: impl FnOnce(&mut Command), args: &[&str], log: &str) -> Serving {
        let log = self.path(log);
        let level = if args.contains(&"--log-level") { &[][..] } else { &["--log-level", "trace"] };
        let mut command = self.command(&["serve", "--log-format", "json"]);
        command
            .args(level)
            .args(FREE_PORTS)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        edit(&mut command);
        Serving { child: command.spawn().unwrap(), log }
    }
}

impl Serving {
    /// The log so far; a line that is still being written is left out.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The address of a listener: `api`, `edge` or `metrics`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let lines = self.lines();
        let line = lines.iter().find(|line| line["message"] == "latchkey serves").unwrap();
        line[listener].as_str().unwrap().parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the service to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Sends a request in HTTP/1.1 and gives the whole answer.
    pub fn ask(&self, listener: &str, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address(listener)).unwrap();
        let length = body.len();
        write!(stream, "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Begins a request whose body never comes; the answer to `expect` shows that it is under way.
    pub fn stuck_request(&self, token: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address("api")).unwrap();
        let head = format!(
            "POST /api/v1/users HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut buffer = [0; 25];
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&buffer));
        stream
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !condition() {
        assert!(now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
pub fn now() -> Instant {
    Instant::now()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks that the program refused with this exit code and one line, which says `text`, and printed nothing.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, text: &str) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("latchkey: ") && message.ends_with(".\n"), "{message}");
    assert!(message.contains(text), "{text:?} is not in {message:?}");
    assert!(output.stdout.is_empty());
}
