//! `make run`, by its script: what a newcomer sees first, and what is left when it has ended.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;

use crate::support::client::Caller;
use crate::support::process::Process;
use crate::support::service::Admin;
use crate::support::test_dir::root;
use crate::support::{Answer, dist, ports, secrets, test_dir, wait};

const PORTS: [&str; 6] = [
    "GATEWAY_PORT",
    "MANAGEMENT_PORT",
    "EDGE_PORT",
    "METRICS_PORT",
    "ENVOY_ADMIN_PORT",
    "ENVOY_METRICS_PORT",
];
const PATH: &str = "/rest/api/2/myself";

/// A demo on ports and in a directory of its own.
pub struct Demo {
    pub ports: [u16; 6],
    pub state: PathBuf,
}

impl Demo {
    pub fn new() -> Self {
        let state = test_dir::file("state", "dir");
        std::fs::create_dir(&state).expect("a directory for the demo's state");
        Self { ports: [(); 6].map(|()| ports::free()), state }
    }

    /// Starts the script.
    fn launch(&self) -> Process {
        self.launch_with(&[])
    }

    /// Starts the script with more variables.
    fn launch_with(&self, variables: &[(&str, &str)]) -> Process {
        dist::program();
        // A shell that starts the tests in the background has them ignore SIGINT, and no script can undo that.
        let mut run = Command::new("env");
        run.arg("--default-signal=INT").arg(root().join("scripts/run.sh"));
        run.env_remove("LATCHKEY_ENVOY").env("SKIP_BUILD", "1").env("STATE_DIR", &self.state);
        run.envs(variables.iter().copied());
        run.envs(PORTS.iter().zip(self.ports.map(|port| port.to_string())));
        Process::start("make run", &mut run, &test_dir::file("run", "log"))
    }

    /// Starts it, and waits until it has said what to try.
    async fn start(&self) -> Process {
        self.start_with(&[]).await
    }

    /// The same with more variables.
    pub async fn start_with(&self, variables: &[(&str, &str)]) -> Process {
        let mut run = self.launch_with(variables);
        wait::until("the demo says what to try", async || {
            run.assert_running();
            run.log_text().contains("Ctrl-C ends it all").then_some(())
        })
        .await;
        for file in ["admin-token", "alice-token", "edge-secret"] {
            self.secret(file);
        }
        run
    }

    fn secret(&self, file: &str) -> String {
        let path = self.state.join(file);
        let mode = path.metadata().expect("a file of the demo").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let text = std::fs::read_to_string(&path).expect("a file of the demo");
        let line = text.strip_suffix('\n').expect("a whole line");
        assert!(!line.is_empty() && !line.contains('\n'), "{} is not one line", path.display());
        secrets::note(line);
        line.to_owned()
    }

    async fn myself(&self, token: &str) -> u16 {
        let gateway = Caller::http1(&format!("http://127.0.0.1:{}", self.ports[0]));
        Answer::to(gateway.get(PATH).bearer_auth(token)).await.status
    }

    fn api(&self) -> Admin {
        Admin::new(&format!("http://127.0.0.1:{}", self.ports[1]), &self.secret("admin-token"))
    }

    fn assert_nothing_listens(&self) {
        for (name, port) in PORTS.iter().zip(self.ports) {
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{name} {port} is still taken");
        }
    }
}

#[tokio::test]
async fn the_demo_starts_ends_on_a_signal_and_goes_on_with_the_same_state() {
    let demo = Demo::new();
    let mut first = demo.start().await;
    let (admin, alice) = (demo.secret("admin-token"), demo.secret("alice-token"));
    demo.secret("edge-secret");
    assert_eq!(demo.myself(&alice).await, 200);
    assert_eq!(demo.myself("lk_wrong").await, 401);
    first.signal("INT");
    assert!(first.wait().await.success());
    demo.assert_nothing_listens();

    let mut second = demo.start().await;
    assert_eq!((demo.secret("admin-token"), demo.secret("alice-token")), (admin.clone(), alice.clone()));
    assert_eq!(demo.myself(&alice).await, 200);
    revoke_all(&demo.api(), "alice").await;
    wait::until("the revoked token is refused", async || (demo.myself(&alice).await == 401).then_some(()))
        .await;
    second.signal("TERM");
    assert!(second.wait().await.success());
    demo.assert_nothing_listens();

    let mut third = demo.start().await;
    assert_eq!(demo.secret("admin-token"), admin);
    assert_ne!(demo.secret("alice-token"), alice, "a revoked token was kept");
    assert_eq!(demo.myself(&demo.secret("alice-token")).await, 200);
    third.signal("TERM");
    third.wait().await;
}

async fn revoke_all(api: &Admin, user: &str) {
    let page = api.expect(200, Method::GET, &format!("/users/{user}/tokens"), None).await;
    for token in page["items"].as_array().expect("a page of tokens") {
        api.revoke(token["id"].as_str().expect("an id")).await;
    }
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence_and_nothing_is_started() {
    let demo = Demo::new();
    let taken = TcpListener::bind(("127.0.0.1", demo.ports[3])).expect("a free port");
    let mut run = demo.launch();
    assert!(!run.wait().await.success());
    let log = run.log_text();
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(
        errors[0].contains(&format!("Port {} ", demo.ports[3])) && errors[0].contains("METRICS_PORT="),
        "{log}"
    );
    drop(taken);
    demo.assert_nothing_listens();
    assert!(!Path::new(&demo.state.join("latchkey.db")).exists(), "it went on after all");
}

#[tokio::test]
async fn a_part_that_fails_ends_the_whole_and_its_last_words_are_shown() {
    let demo = Demo::new();
    std::fs::write(demo.state.join("latchkey.db"), "this is no database, and long enough to be read as one")
        .expect("a file");
    let mut run = demo.launch();
    assert!(!run.wait().await.success());
    let log = run.log_text();
    assert!(log.contains("error: service has ended"), "{log}");
    assert!(log.to_lowercase().contains("database"), "the service's own words are missing: {log}");
    demo.assert_nothing_listens();
}
