//! Real servers to stand behind a gateway: Flask, Node, Tomcat and Jetty, each with the same handlers, which answer with what
//! ran and what was read. `scripts/setup.sh upstreams` installs them; what is missing is said, and skipped.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Caller;
use super::process::Process;
use super::test_dir::root;
use super::{ports, test_dir, wait};

/// Where Debian puts what Java needs.
const JARS: &str = "/usr/share/java";
const TOMCAT: &[&str] = &["tomcat10-embed-core"];
const JETTY: &[&str] = &[
    "jetty9-server",
    "jetty9-servlet",
    "jetty9-http",
    "jetty9-io",
    "jetty9-util",
    "jetty9-util-ajax",
    "jetty9-security",
    "servlet-api",
];

/// Which server, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    Flask,
    /// With a middleware that takes method and path from headers.
    FlaskOverrides,
    Node,
    /// With a router that decodes the path once, and minds no case.
    NodeFolds,
    Tomcat,
    Jetty,
}

impl Software {
    /// Those that read requests as they do unless told otherwise.
    pub const ORDINARY: [Self; 5] = [Self::Flask, Self::Node, Self::NodeFolds, Self::Tomcat, Self::Jetty];

    /// The command that runs it on a port; what is missing, if it cannot.
    fn command(self, port: u16) -> Result<Command, String> {
        let file = |name: &str| root().join("tests/support/servers").join(name);
        let port = port.to_string();
        let script = |program: &Path, name: &str, arguments: &[&str]| {
            runs(program, &["--version"])?;
            let mut command = Command::new(program);
            command.arg(file(name)).arg(&port).args(arguments);
            Ok(command)
        };
        let python = root().join(".run/upstreams/bin/python");
        match self {
            Self::Flask => script(&python, "flask_server.py", &[]),
            Self::FlaskOverrides => script(&python, "flask_server.py", &["overrides"]),
            Self::Node => script(Path::new("node"), "node_server.mjs", &[]),
            Self::NodeFolds => script(Path::new("node"), "node_server.mjs", &["folds"]),
            Self::Tomcat => java(TOMCAT, &file("TomcatServer.java"), &port),
            Self::Jetty => java(JETTY, &file("JettyServer.java"), &port),
        }
    }
}

/// An error that names the program, unless it runs.
fn runs(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let ran = output.is_ok_and(|output| output.status.success());
    if ran { Ok(()) } else { Err(format!("{} does not run", program.display())) }
}

/// Compiles and runs a program of one file.
fn java(jars: &[&str], file: &Path, port: &str) -> Result<Command, String> {
    runs(Path::new("javac"), &["--version"])?;
    let jars: Vec<PathBuf> = jars.iter().map(|jar| Path::new(JARS).join(format!("{jar}.jar"))).collect();
    if let Some(missing) = jars.iter().find(|jar| !jar.is_file()) {
        return Err(format!("{} is missing", missing.display()));
    }
    let folder = test_dir::file("java", "d");
    std::fs::create_dir_all(&folder).expect("a folder for the server");
    let mut command = Command::new("java");
    // It is short-lived: what matters is that it starts soon, and that many fit beside each other.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx96m", "-cp"]);
    command.arg(std::env::join_paths(jars).expect("paths without colons"));
    command.arg(file).arg(port).arg(folder);
    Ok(command)
}

/// A running server.
pub struct Server {
    pub software: Software,
    pub address: SocketAddr,
    process: Process,
}

impl Server {
    /// Starts one, and waits until it answers; `None`, and a line that says so, where it is not installed.
    pub async fn start(software: Software) -> Option<Self> {
        let server = Self::launch(software)?;
        Some(server.answering().await)
    }

    /// Starts several at a time, those that are installed.
    pub async fn start_all(software: &[Software]) -> Vec<Self> {
        let launched: Vec<_> = software.iter().filter_map(|software| Self::launch(*software)).collect();
        let mut servers = Vec::new();
        for server in launched {
            servers.push(server.answering().await);
        }
        servers
    }

    fn launch(software: Software) -> Option<Self> {
        let port = ports::free();
        match software.command(port) {
            Ok(mut command) => {
                let log = test_dir::file(&format!("{software:?}"), "log");
                let process = Process::start(&format!("{software:?}"), &mut command, &log);
                Some(Self { software, address: SocketAddr::from(([127, 0, 0, 1], port)), process })
            }
            Err(missing) => {
                skip(software, &missing);
                None
            }
        }
    }

    async fn answering(mut self) -> Self {
        let caller = Caller::http1(&format!("http://{}", self.address));
        wait::until(&format!("{:?} answers", self.software), async || {
            self.process.assert_running();
            caller.get("/public/").send().await.ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .await;
        self
    }
}

/// Says what is not tested, and why, whatever the test runner does with the output of tests that pass. Where everything is
/// installed, as scripts/test.sh knows, it is an error.
fn skip(software: Software, missing: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line =
        format!("SKIPPED, in {test}: {software:?}, as {missing}. Get it with scripts/setup.sh upstreams.");
    assert!(std::env::var("LATCHKEY_TEST_UPSTREAMS").as_deref() != Ok("all"), "{line}");
    let _ = writeln!(std::io::stderr(), "{line}");
}
