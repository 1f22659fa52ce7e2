//! The set-up of `envoy/compose.yaml`, by `docker compose` or `docker-compose`, under a name and on ports of its own.

use std::process::{Command, Stdio};

use super::client::{Answer, Caller};
use super::docker;
use super::envoy::IMAGE;
use super::envoy_config::EDGE_SECRET;
use super::process::output_of;
use super::service::{Admin, is_up};
use super::test_dir::{self, root};
use super::{ports, wait};

/// A running set-up.
pub struct Compose {
    project: String,
    /// As given to `--profile`; `None`: the one that `up` starts by itself.
    profile: Option<&'static str>,
    gateway: u16,
    envoy_metrics: u16,
    /// The ports of the service's management API, and of its metrics: of the two replicas, where there are some.
    management: [u16; 2],
    service_metrics: [u16; 2],
}

impl Compose {
    /// Starts it, and waits until service and Envoy are ready.
    pub async fn up() -> Self {
        Self::start(None).await
    }

    /// The same with two replicas on PostgreSQL.
    pub async fn up_on_postgres() -> Self {
        docker::docker(&["image", "inspect", "--format", "{{.Id}}", "postgres:15"]);
        Self::start(Some("postgres")).await
    }

    async fn start(profile: Option<&'static str>) -> Self {
        docker::docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
        let compose = Self {
            project: docker::unique_name("compose"),
            profile,
            gateway: ports::free(),
            envoy_metrics: ports::free(),
            management: [ports::free(), ports::free()],
            service_metrics: [ports::free(), ports::free()],
        };
        output_of(compose.command().args(["up", "--detach", "--no-build"]));
        compose.ready().await;
        compose
    }

    /// Waits until both answer that they are ready.
    pub async fn ready(&self) {
        let replicas = if self.profile.is_some() { 2 } else { 1 };
        let services = self
            .service_metrics
            .iter()
            .take(replicas)
            .map(|port| ("the service in compose is ready", *port, "/readyz"));
        for (what, port, path) in
            services.chain([("Envoy in compose is ready", self.envoy_metrics, "/ready")])
        {
            let caller = Caller::http1(&format!("http://127.0.0.1:{port}"));
            wait::until(what, async || {
                let answer = Answer::try_to(caller.get(path)).await.ok()?;
                is_up(&answer).then_some(())
            })
            .await;
        }
    }

    /// Runs a compose command and gives its stdout.
    pub fn run(&self, arguments: &[&str]) -> String {
        output_of(self.command().args(arguments))
    }

    /// What `docker inspect` says of one of the services' containers, by a Go template.
    pub fn inspect(&self, service: &str, template: &str) -> String {
        let container = self.run(&["ps", "--quiet", service]);
        docker::docker(&["inspect", "--format", template, container.trim()])
    }

    pub fn gateway(&self) -> Caller {
        Caller::http1(&format!("http://127.0.0.1:{}", self.gateway))
    }

    pub fn envoy_metrics(&self) -> Caller {
        Caller::http1(&format!("http://127.0.0.1:{}", self.envoy_metrics))
    }

    pub fn admin(&self, token: &str) -> Admin {
        self.admins(token).0
    }

    /// An administrator at each replica.
    pub fn admins(&self, token: &str) -> (Admin, Admin) {
        let [one, other] = self.management.map(|port| Admin::new(&format!("http://127.0.0.1:{port}"), token));
        (one, other)
    }

    fn command(&self) -> Command {
        let mut command = program();
        command.arg("-f").arg(root().join("envoy/compose.yaml")).args(["-p", &self.project]);
        command.args(self.profile.iter().flat_map(|profile| ["--profile", profile]));
        command.env("LATCHKEY_EDGE_SECRET", EDGE_SECRET).env("LATCHKEY_IMAGE", docker::service_image());
        let ports = [
            ("GATEWAY_PORT", self.gateway),
            ("MANAGEMENT_PORT", self.management[0]),
            ("MANAGEMENT_PORT_2", self.management[1]),
            ("ENVOY_METRICS_PORT", self.envoy_metrics),
            ("METRICS_PORT", self.service_metrics[0]),
            ("METRICS_PORT_2", self.service_metrics[1]),
        ];
        command.envs(ports.map(|(key, port)| (key, port.to_string())));
        command
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if let Ok(logs) = self.command().args(["logs", "--no-color"]).output() {
            let _ = std::fs::write(test_dir::file("compose", "log"), [logs.stdout, logs.stderr].concat());
        }
        let mut down = self.command();
        let _ = down
            .args(["down", "--volumes", "--timeout", "5"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// `docker compose`, else `docker-compose`.
fn program() -> Command {
    let mut plugin = Command::new("docker");
    let answers = plugin.args(["compose", "version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if answers.is_ok_and(|status| status.success()) {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    } else {
        Command::new("docker-compose")
    }
}
