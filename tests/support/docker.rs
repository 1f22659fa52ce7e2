//! The Docker engine, by its command line. What is made has this process's id in its name, so that what a killed run
//! left behind is found and removed by the next.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::output_of;
use super::test_dir::root;

/// What every name begins with; the id of the test process follows.
const PREFIX: &str = "latchkey-e2e-";

/// Whether an engine answers.
pub fn answers() -> bool {
    let mut version = Command::new("docker");
    version.args(["version", "--format", "{{.Server.Version}}"]);
    version.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Fails a test that needs containers where the launcher is another: it must not seem to have passed.
pub fn require() {
    let chosen = super::envoy::Launcher::chosen();
    assert!(
        *chosen == super::envoy::Launcher::Docker,
        "this test needs Docker, and Envoy runs as {chosen:?}: leave it out with `--skip in_docker::`, as `make test` does"
    );
}

/// Runs `docker` with these arguments and gives its stdout; panics if it fails.
pub fn docker(arguments: &[&str]) -> String {
    output_of(Command::new("docker").args(arguments)).trim().to_owned()
}

/// A name that no other run has; the first call in a run removes what dead runs left.
pub fn unique_name(kind: &str) -> String {
    static SWEPT: OnceLock<()> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    SWEPT.get_or_init(remove_leftovers);
    format!("{PREFIX}{}-{kind}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes containers, networks and volumes of test processes that are no more.
fn remove_leftovers() {
    let filter = format!("name={PREFIX}");
    for (kind, all, name) in [
        ("container", "--all", "{{.Names}}"),
        ("network", "--no-trunc", "{{.Name}}"),
        ("volume", "--quiet", "{{.Name}}"),
    ] {
        let names = docker(&[kind, "ls", all, "--filter", &filter, "--format", name]);
        for name in names.lines().filter(|name| is_orphan(name)) {
            match kind {
                "container" => remove_container(name),
                _ => quietly(&[kind, "rm", name]),
            }
        }
    }
}

/// Whether a name is one of ours, made by a process that has ended.
fn is_orphan(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Removes a container, running or not, if it is there.
pub fn remove_container(name: &str) {
    quietly(&["rm", "--force", "--volumes", name]);
}

/// For taking down: failures are no news, and must not panic in a `Drop`.
pub fn quietly(arguments: &[&str]) {
    let _ = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// A bridge network of its own, on which containers find each other by name.
pub struct Network {
    pub name: String,
}

impl Network {
    pub fn create() -> Self {
        let name = unique_name("net");
        docker(&["network", "create", &name]);
        Self { name }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        quietly(&["network", "rm", &self.name]);
    }
}

/// The service's image, built from `dist/` once in a run; gives its name.
pub fn service_image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        super::dist::program();
        let image = "latchkey:e2e";
        let mut build = Command::new("docker");
        build.current_dir(root()).args(["build", "-q", "-t", image, "-f", "admin-service/Dockerfile", "."]);
        output_of(&mut build);
        image.to_owned()
    })
}
