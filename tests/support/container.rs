//! The service in a container of its own, from the image that users build, on a bridge network.

use std::process::Command;

use super::client::{Answer, Caller};
use super::docker::{self, Network, docker};
use super::envoy_config::EDGE_SECRET;
use super::process::output_of;
use super::service::{Admin, is_up};
use super::{ports, test_dir, wait};

/// The host name under which Envoy looks for it.
const ALIAS: &str = "latchkey";

/// A running container of the service; management and metrics ports are published on loopback.
pub struct ServiceContainer {
    name: String,
    management: u16,
    metrics: u16,
}

impl ServiceContainer {
    pub async fn start(network: &Network) -> Self {
        let image = docker::service_image();
        let (name, management, metrics) = (docker::unique_name("service"), ports::free(), ports::free());
        let mut run = Command::new("docker");
        run.args(["run", "--detach", "--name", &name, "--read-only"]);
        run.args(["--network", &network.name, "--network-alias", ALIAS]);
        run.args([
            format!("--publish=127.0.0.1:{management}:8100"),
            format!("--publish=127.0.0.1:{metrics}:8102"),
        ]);
        for listener in ["LISTEN=0.0.0.0:8100", "EDGE_LISTEN=0.0.0.0:8101", "METRICS_LISTEN=0.0.0.0:8102"] {
            run.arg(format!("--env=LATCHKEY_{listener}"));
        }
        run.args(["--env", "LATCHKEY_EDGE_SECRET"]).env("LATCHKEY_EDGE_SECRET", EDGE_SECRET);
        output_of(run.arg(image));
        let service = Self { name, management, metrics };
        service.ready().await;
        service
    }

    /// Waits until the published metrics port says that the service is ready.
    pub async fn ready(&self) {
        let metrics = Caller::http1(&format!("http://127.0.0.1:{}", self.metrics));
        wait::until("the service's container is ready", async || {
            let answer = Answer::try_to(metrics.get("/readyz")).await.ok()?;
            is_up(&answer).then_some(())
        })
        .await;
    }

    /// Makes the first administrator, inside the container.
    pub fn bootstrap(&self) -> Admin {
        let token = docker(&["exec", &self.name, "/latchkey", "bootstrap"]);
        Admin::new(&format!("http://127.0.0.1:{}", self.management), &token)
    }

    /// Cuts it off from everything.
    pub fn disconnect(&self, network: &Network) {
        docker(&["network", "disconnect", &network.name, &self.name]);
    }

    /// Gives it its network back.
    pub fn connect(&self, network: &Network) {
        docker(&["network", "connect", "--alias", ALIAS, &network.name, &self.name]);
    }

    /// Freezes it, connections left open.
    pub fn pause(&self) {
        docker(&["pause", &self.name]);
    }

    pub fn unpause(&self) {
        docker(&["unpause", &self.name]);
    }
}

impl Drop for ServiceContainer {
    fn drop(&mut self) {
        if let Ok(logs) = Command::new("docker").args(["logs", &self.name]).output() {
            let _ = std::fs::write(test_dir::file("service", "log"), [logs.stdout, logs.stderr].concat());
        }
        docker::remove_container(&self.name);
    }
}
