//! The one launcher of Envoy: in Docker, or as a process, as `LATCHKEY_ENVOY` says (`docker`, `process`, a path); without
//! it in Docker where an engine answers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::client::{Answer, Caller};
use super::docker::{self, Network};
use super::envoy_config::EnvoyConfig;
use super::filter::{self, Filter};
use super::process::{Process, output_of};
use super::reference::Reference;
use super::test_dir::{self, root};
use super::{ports, wait};

/// The counters that workers bring up to date at their ticks, which come every 250 ms; and the time of some of those.
const TOLD_AT_TICKS: [&str; 2] = ["passed", "cache_hits"];
const TICKS: Duration = Duration::from_millis(600);

pub const IMAGE: &str = "envoyproxy/envoy:v1.40.0";

/// How Envoy is started.
#[derive(Clone, Debug, PartialEq)]
pub enum Launcher {
    Docker,
    Process(PathBuf),
}

impl Launcher {
    pub fn chosen() -> &'static Self {
        static CHOSEN: OnceLock<Launcher> = OnceLock::new();
        CHOSEN.get_or_init(|| match std::env::var("LATCHKEY_ENVOY").as_deref() {
            Ok("docker") => Self::Docker,
            Err(_) | Ok("") if docker::answers() => Self::Docker,
            Err(_) | Ok("" | "process") => Self::Process(pinned()),
            Ok(path) => Self::Process(PathBuf::from(path)),
        })
    }

    /// A command that runs Envoy; in Docker as a container `name`, with the files it needs under the paths they have here.
    fn command(
        &self,
        name: &str,
        network: &[String],
        files: &[&Path],
        environment: &[(String, String)],
    ) -> Command {
        let mut command = match self {
            Self::Process(path) => Command::new(path),
            Self::Docker => {
                let mut docker = Command::new("docker");
                docker.args(["run", "--rm", "--name", name, "--user", &whoami()]);
                docker.args(["--entrypoint", "/usr/local/bin/envoy"]).args(network);
                for file in files {
                    docker.arg("--volume").arg(format!("{0}:{0}:ro", file.display()));
                }
                // By name only: the value is taken from the environment below, and is on no command line.
                docker.args(environment.iter().flat_map(|(key, _)| ["--env", key]));
                docker.arg(IMAGE);
                docker
            }
        };
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// The path of the pinned Envoy, as `make run` finds it.
fn pinned() -> PathBuf {
    let mut script = Command::new(root().join("scripts/envoy.sh"));
    PathBuf::from(output_of(script.env_remove("LATCHKEY_ENVOY")).trim())
}

/// `uid:gid` of this process, whose files Envoy reads.
fn whoami() -> String {
    let id = |flag: &str| output_of(Command::new("id").arg(flag)).trim().to_owned();
    format!("{}:{}", id("-u"), id("-g"))
}

/// A configuration to start Envoy with, its ports filled in.
pub struct Bootstrap {
    pub text: String,
    /// `json` or `yaml`.
    pub format: &'static str,
    pub concurrency: u32,
    /// Further arguments of Envoy, such as log levels.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Folders that it reads files from.
    pub folders: Vec<PathBuf>,
}

impl Bootstrap {
    /// Writes it into the test's directory.
    fn write(&self) -> PathBuf {
        let file = test_dir::file("envoy", self.format);
        std::fs::write(&file, &self.text).expect("Envoy's configuration is written");
        file
    }
}

/// A running Envoy.
pub struct Envoy {
    process: Process,
    launcher: Launcher,
    container: String,
    gateway: u16,
    admin: u16,
    restart: Box<dyn Fn() -> Process + Send + Sync>,
}

impl Envoy {
    /// Starts one and waits until it is ready.
    pub async fn start(config: EnvoyConfig) -> Self {
        let mut envoy = Self::launch_config(config);
        envoy.ready().await;
        envoy
    }

    /// Starts the reference configuration, `envoy/envoy.yaml`, and waits until it is ready.
    pub async fn start_reference(reference: &Reference) -> Self {
        Self::start_bootstrap(&reference.bootstrap(), [reference.gateway, reference.admin]).await
    }

    /// Starts any configuration, with the ports of its gateway and of its admin interface, and waits until it is ready.
    pub async fn start_bootstrap(bootstrap: &Bootstrap, ports: [u16; 2]) -> Self {
        let mut envoy = Self::launch(bootstrap, ports, None);
        envoy.ready().await;
        envoy
    }

    /// As [`Envoy::start_reference`], in a container on a bridge network, with its ports published on loopback; Docker only.
    pub async fn start_reference_on(network: &Network, reference: &Reference) -> Self {
        let mut envoy =
            Self::launch(&reference.bootstrap(), [reference.gateway, reference.admin], Some(network));
        envoy.ready().await;
        envoy
    }

    /// Starts one that is expected not to come up, and gives its log.
    pub async fn fail_to_start(config: EnvoyConfig) -> String {
        let mut envoy = Self::launch_config(config);
        let status = envoy.process.wait().await;
        assert!(!status.success(), "Envoy ended well:\n{}", envoy.log());
        envoy.log()
    }

    fn launch_config(config: EnvoyConfig) -> Self {
        let ports = [ports::free(), ports::free()];
        Self::launch(&config.build(ports[0], ports[1]), ports, None)
    }

    fn launch(bootstrap: &Bootstrap, [gateway, admin]: [u16; 2], network: Option<&Network>) -> Self {
        let launcher = if network.is_some() { Launcher::Docker } else { Launcher::chosen().clone() };
        let file = bootstrap.write();
        let log = test_dir::file("envoy", "log");
        let container =
            if launcher == Launcher::Docker { docker::unique_name("envoy") } else { String::new() };
        let network = network_arguments(network, &[gateway, admin]);
        let (concurrency, environment) = (bootstrap.concurrency.to_string(), bootstrap.environment.clone());
        let files: Vec<PathBuf> =
            [vec![file.clone(), Filter::chosen().file()], bootstrap.folders.clone()].concat();
        let arguments = bootstrap.arguments.clone();
        let restart = {
            let (launcher, container) = (launcher.clone(), container.clone());
            Box::new(move || {
                let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                let mut command = launcher.command(&container, &network, &files, &environment);
                command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", &concurrency]);
                command.args(&arguments);
                // The access log is written at once, so that tests can wait for a line of it.
                Process::start("Envoy", command.args(["--file-flush-interval-msec", "20"]), &log)
            })
        };
        Self { process: restart(), launcher, container, gateway, admin, restart }
    }

    async fn ready(&mut self) {
        let admin = Caller::http1(&format!("http://127.0.0.1:{}", self.admin));
        wait::until("Envoy is ready", async || {
            self.process.assert_running();
            let answer = admin.get("/ready").send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Its process; only where it runs as one.
    pub fn process_id(&self) -> u32 {
        assert!(matches!(self.launcher, Launcher::Process(_)), "in Docker the process is not ours");
        self.process.id()
    }

    /// The gateway's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.gateway
    }

    pub fn http1(&self) -> Caller {
        Caller::http1(&format!("http://127.0.0.1:{}", self.gateway))
    }

    pub fn http2(&self) -> Caller {
        Caller::http2(&format!("http://127.0.0.1:{}", self.gateway))
    }

    /// Both, with their names, for tests that hold for each.
    pub fn both(&self) -> [(&'static str, Caller); 2] {
        [("HTTP/1.1", self.http1()), ("HTTP/2", self.http2())]
    }

    /// Where the admin interface is.
    pub fn admin_address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.admin).into()
    }

    /// What the admin interface answers to a GET.
    pub async fn admin(&self, path: &str) -> String {
        let admin = Caller::http1(&format!("http://127.0.0.1:{}", self.admin));
        let answer = admin.get(path).send().await.expect("Envoy's admin interface answers");
        answer.text().await.expect("an answer of Envoy's admin interface")
    }

    /// The filter's counter or gauge `latchkey.<name>` (`refused.expired`, for instance), all workers together; 0 if it
    /// is not there. What workers count of every request they tell a little later, which is waited for.
    pub async fn metric(&self, name: &str) -> u64 {
        if !TOLD_AT_TICKS.contains(&name) {
            return self.told(name).await;
        }
        let (mut value, mut since) = (self.told(name).await, wait::now());
        wait::until("the workers have told what they counted", async || {
            let now = self.told(name).await;
            if now != value {
                (value, since) = (now, wait::now());
            }
            (since.elapsed() > TICKS).then_some(())
        })
        .await;
        value
    }

    /// The same as Envoy has been told so far.
    async fn told(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").await;
        let value = stats.lines().find_map(|line| filter::metric(line, name));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// How often the filter has died, or has panicked.
    pub async fn deaths(&self) -> u64 {
        self.stat(Filter::chosen().deaths()).await
    }

    /// Any counter or gauge of Envoy's, by its full name; 0 if it is not there.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").await;
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until no worker lets a token pass any more, and gives one of the refusals. A cached verdict may serve until the
    /// worker has heard of the change.
    pub async fn until_refused(&self, token: &str) -> Answer {
        self.until_answered(token, 401).await
    }

    /// Waits until every worker lets a token pass, and gives one of the answers.
    pub async fn until_passed(&self, token: &str) -> Answer {
        self.until_answered(token, 200).await
    }

    async fn until_answered(&self, token: &str, status: u16) -> Answer {
        wait::until(&format!("every worker answers with {status}"), async || {
            let mut last = None;
            for _ in 0..16 {
                // A connection of its own, which any worker may get.
                let answer = Answer::to(self.http1().get("/").bearer_auth(token)).await;
                if answer.status != status {
                    return None;
                }
                last = Some(answer);
            }
            last
        })
        .await
    }

    /// Waits until the gateway holds exactly so many requests.
    pub async fn until_in_flight(&self, requests: u64) {
        wait::until(&format!("the gateway holds {requests} requests"), async || {
            (self.stat("http.gateway.downstream_rq_active").await == requests).then_some(())
        })
        .await;
    }

    /// Everything it has logged, access log included.
    pub fn log(&self) -> String {
        self.process.log_text()
    }

    /// Sends a signal by name: `TERM`, `KILL`.
    pub fn signal(&self, signal: &str) {
        match self.launcher {
            Launcher::Docker => {
                docker::docker(&["kill", "--signal", signal, &self.container]);
            }
            Launcher::Process(_) => self.process.signal(signal),
        }
    }

    /// Kills it, as by SIGKILL.
    pub async fn kill(&mut self) {
        self.signal("KILL");
        self.process.wait().await;
    }

    /// Starts it again, with the same configuration and ports, after [`Envoy::kill`].
    pub async fn start_again(&mut self) {
        docker_gone(&self.launcher, &self.container);
        self.process = (self.restart)();
        self.ready().await;
    }

    /// What `envoy --mode validate` says of a bootstrap: its output, as an error if it refuses.
    pub fn validate(bootstrap: &Bootstrap) -> Result<String, String> {
        let launcher = Launcher::chosen();
        let (file, environment) = (bootstrap.write(), &bootstrap.environment);
        let name =
            if *launcher == Launcher::Docker { docker::unique_name("validate") } else { String::new() };
        let network = ["--network".to_owned(), "none".to_owned()];
        let mut command = launcher.command(&name, &network, &[&file, &Filter::chosen().file()], environment);
        let output = command.args(["--mode", "validate", "-c"]).arg(file).output().expect("Envoy runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        docker_gone(&self.launcher, &self.container);
    }
}

fn docker_gone(launcher: &Launcher, container: &str) {
    if *launcher == Launcher::Docker {
        docker::remove_container(container);
    }
}

fn network_arguments(network: Option<&Network>, published: &[u16]) -> Vec<String> {
    let Some(network) = network else {
        return vec!["--network".to_owned(), "host".to_owned()];
    };
    let publish = published.iter().map(|port| format!("--publish=127.0.0.1:{port}:{port}"));
    publish.chain([format!("--network={}", network.name)]).collect()
}
