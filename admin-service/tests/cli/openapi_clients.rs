//! The description in the hands of others' programs: a generated client exports the audit log, and a tester that makes
//! requests up finds no answer that is not described. Both are Python programs of PyPI, in an environment of their own.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::shell::Shell;
use crate::support::stderr;

/// The environment's programs, installed if they are not; `None` where that cannot be, which is said.
fn programs() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let installed = Command::new(root.join("scripts/setup.sh")).arg("openapi-clients").output().unwrap();
    if installed.status.success() {
        return Some(root.join(".run/openapi-clients/bin"));
    }
    eprintln!("NOT RUN: {}", stderr(&installed));
    None
}

fn assert_done(what: &str, output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}: {text}\n{}", stderr(output));
}

#[test]
fn a_generated_client_exports_the_audit_log() {
    let Some(programs) = programs() else { return };
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let description = shell.place.write("openapi.json", &shell.print(&["openapi"]));
    let generated = Command::new(programs.join("openapi-python-client"))
        .args(["generate", "--meta", "none", "--path", &description, "--output-path"])
        .arg(shell.place.path("generated_client"))
        .current_dir(shell.place.path(""))
        .output();
    assert_done("openapi-python-client", &generated.unwrap());
    let script = r#"
import json, os
from generated_client import AuthenticatedClient
from generated_client.api.audit import export_audit
client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["TOKEN"], headers={"accept": "text/plain"})
lines = export_audit.sync(client=client)
actions = [json.loads(line)["action"] for line in lines.splitlines()]
assert actions[-1] == "user.created", actions
"#;
    let script = shell.place.write("use_it.py", script);
    let used = Command::new(programs.join("python"))
        .arg(script)
        .env("URL", shell.url())
        .env("TOKEN", &shell.token)
        .current_dir(shell.place.path(""))
        .output();
    assert_done("the generated client", &used.unwrap());
}

#[test]
fn made_up_requests_get_no_answer_that_is_not_described() {
    let Some(programs) = programs() else { return };
    let shell = Shell::start();
    let description = shell.place.write("openapi.json", &shell.print(&["openapi"]));
    let tried = Command::new(programs.join("schemathesis"))
        .args(["run", &description, "--url", &shell.url(), "--seed", "11", "--max-examples", "10"])
        // What a schema cannot say: which cursor belongs to a list, that `until` is later than `since`, which zones there are,
        // and that of two fields one is given.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1", "--no-color"])
        .args(["--generation-deterministic", "--header", &format!("Authorization: Bearer {}", shell.token)])
        .current_dir(shell.place.path(""))
        .output();
    assert_done("schemathesis", &tried.unwrap());
}
