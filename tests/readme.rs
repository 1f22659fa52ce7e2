//! The README's shell blocks, as a reader would paste them: all that are marked `sh`, in order, in one shell beside the demo.
//! A request succeeds, unless its line says another status (`# 401`). What is marked otherwise is not run.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::make_run::Demo;
use crate::support::test_dir::{self, root};

/// The README with its shell blocks alone, each in its own lines, and the ports of this demo in place of the usual ones.
fn script(readme: &str, demo: &Demo) -> String {
    let (mut script, mut inside) = (String::new(), false);
    for line in readme.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script += line,
            _ => {}
        }
        script.push('\n');
    }
    for (usual, port) in ["10000", "8100", "8101"].iter().zip(demo.ports) {
        script = script.replace(&format!("127.0.0.1:{usual}"), &format!("127.0.0.1:{port}"));
    }
    script
}

/// The status that a line says its request gets; `None`: it succeeds.
fn expected(line: &str) -> Option<u16> {
    let (_, comment) = line.split_once(" # ")?;
    comment
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
        .filter(|status| (400..600).contains(status))
}

/// What stands for `curl`: notes the status of each request with its line. A gateway may know of a change a moment later, and on
/// a busy machine answers 503, so it is asked again until it gives what is expected.
const CURL: &str = r#"
set -eo pipefail
exec 9>"$STATUSES"
curl() {
    local line=${BASH_LINENO[0]} answer=$STATUSES.answer tries=0 status wanted
    wanted=${EXPECTED[$line]:-[23]*}
    while :; do
        status=$(command curl --noproxy '*' --max-time 60 "$@" --output "$answer" --write-out '%{http_code}') || true
        case $status in $wanted) break ;; esac
        case $* in *"127.0.0.1:$GATEWAY/"*) ;; *) break ;; esac
        [ $((tries += 1)) -lt 600 ] || break
        sleep 0.1
    done
    printf '%s %s\n' "$line" "$status" >&9
    cat "$answer"
}
"#;

/// Runs a script in a folder that looks like the checkout with the demo's state.
fn run(script: &str, demo: &Demo) -> (std::process::Output, String) {
    let place = test_dir::file("readme", "dir");
    std::fs::create_dir(&place).expect("a folder");
    for (name, target) in [("dist", root().join("dist")), (".run", demo.state.clone())] {
        std::os::unix::fs::symlink(target, place.join(name)).expect("a link");
    }
    let mut prelude = String::from("declare -A EXPECTED=(");
    for (line, text) in (1..).zip(script.lines()) {
        if let Some(status) = expected(text) {
            let _ = write!(prelude, "[{line}]={status} ");
        }
    }
    prelude += ")\n";
    prelude += CURL;
    let (commands, before) = (test_dir::file("readme", "commands"), test_dir::file("readme", "prelude"));
    std::fs::write(&commands, script).expect("the script");
    std::fs::write(&before, prelude).expect("the prelude");
    let statuses = test_dir::file("readme", "statuses");
    let mut bash = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LATCHKEY_")) {
        bash.env_remove(name);
    }
    bash.args(["-c", r#"source "$1"; source "$2""#, "readme"]).arg(&before).arg(&commands);
    bash.current_dir(&place).env("STATUSES", &statuses).env("GATEWAY", demo.ports[0].to_string());
    let output = bash.output().expect("bash runs");
    let statuses = std::fs::read_to_string(&statuses).expect("the statuses");
    assert_nothing_for_git(&place);
    (output, statuses)
}

/// What the commands leave behind, git does not show.
fn assert_nothing_for_git(place: &Path) {
    for entry in std::fs::read_dir(place).expect("a folder").flatten() {
        let name = entry.file_name();
        let ignored = Command::new("git")
            .args(["check-ignore", "-q", "--no-index"])
            .arg(&name)
            .current_dir(root())
            .status();
        // A folder of this name is ignored as one.
        let folder = [".run", "dist"].contains(&&*name.to_string_lossy());
        assert!(folder || ignored.expect("git runs").success(), "{} lands in git status", name.display());
    }
}

#[tokio::test]
async fn what_the_readme_says_to_type_works_as_it_stands_there() {
    let demo = Demo::new();
    let mut running = demo.start_with(&[("TOKEN_PREFIX", "null")]).await;
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let script = script(&readme, &demo);
    let lines: Vec<&str> = script.lines().collect();
    let (output, statuses) = run(&script, &demo);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "a command fails: {said}\n{printed}");
    let mut count = 0;
    for (line, status) in statuses.lines().map(|line| line.split_once(' ').expect("two numbers")) {
        let (number, status): (usize, u16) =
            (line.parse().expect("a line"), status.parse().expect("a status"));
        let text = lines[number - 1];
        match expected(text) {
            Some(wanted) => assert_eq!(status, wanted, "line {number}: {text}"),
            None => assert!((200..400).contains(&status), "line {number} gets {status}: {text}\n{printed}"),
        }
        count += 1;
    }
    assert!(count >= 25, "only {count} requests were found in the README");
    assert!(printed.contains(r#"{"active":true"#), "the token of the introspection example is not active");
    running.signal("TERM");
    running.wait().await;
}

#[test]
fn no_document_has_a_secret_written_to_a_file_that_others_can_read() {
    for name in ["README.md", "envoy/README.md", "gateways/nginx.conf", "envoy/compose.yaml"] {
        let text = std::fs::read_to_string(root().join(name)).expect("a document");
        for line in text.lines().filter(|line| line.contains("openssl rand") && line.contains(" > ")) {
            assert!(line.contains("umask 077"), "{name}: {line}");
        }
        assert!(!text.contains("bootstrap > "), "{name}: use `bootstrap --out`");
    }
}
