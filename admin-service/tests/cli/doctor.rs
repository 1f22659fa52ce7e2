//! `latchkey doctor`: what it finds with a service and without one, and that it changes nothing.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use crate::postgres;
use crate::shell::{Shell, mask};
use crate::support::{Place, Serving, stderr};

/// Ports on which nothing listens, and the flags that name them.
fn free_ports() -> Vec<String> {
    let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let flags = ["--listen", "--edge-listen", "--metrics-listen"];
    let named = flags
        .iter()
        .zip(&bound)
        .map(|(flag, bound)| [(*flag).to_owned(), bound.local_addr().unwrap().to_string()]);
    named.flatten().collect()
}

/// The flags that name the ports of a running service.
fn ports_of(serving: &Serving) -> Vec<String> {
    let ports = [("--listen", "api"), ("--edge-listen", "edge"), ("--metrics-listen", "metrics")];
    ports.iter().flat_map(|(flag, name)| [(*flag).to_owned(), serving.address(name).to_string()]).collect()
}

fn examine(place: &Place, ports: &[String], args: &[&str]) -> Output {
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    place.run(&[&["doctor"], &ports[..], args].concat())
}

/// What it found, each as "<status> <check>: <message>"; the exit code is held against it.
#[track_caller]
fn findings(place: &Place, ports: &[String], args: &[&str]) -> Vec<String> {
    let output = examine(place, ports, &[args, &["--json"]].concat());
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let found = report["findings"].as_array().unwrap();
    let wrong = found.iter().any(|finding| finding["status"] == "problem");
    assert_eq!((report["ok"].as_bool(), output.status.code()), (Some(!wrong), Some(i32::from(wrong))));
    for finding in found {
        let advised = ["warning", "problem"].contains(&text(finding, "status").as_str());
        assert_eq!(finding["advice"].is_string(), advised, "{finding}");
    }
    let line = |finding: &Value| {
        format!("{} {}: {}", text(finding, "status"), text(finding, "check"), text(finding, "message"))
    };
    found.iter().map(line).collect()
}

#[track_caller]
fn assert_found(found: &[String], begin: &str, text: &str) {
    assert!(
        found.iter().any(|line| line.starts_with(begin) && line.contains(text)),
        "no {begin} … {text} in {found:#?}"
    );
}

#[track_caller]
fn assert_nothing_wrong(found: &[String]) {
    assert!(found.iter().all(|line| !line.starts_with("problem")), "{found:#?}");
}

#[test]
fn a_healthy_service_is_found_healthy_and_nothing_is_changed() {
    let shell = Shell::start();
    shell.print(&["scheduler", "run"]);
    let before = shell.state();
    let output = examine(&shell.place, &ports_of(&shell.serving), &[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let mut shown = mask(&String::from_utf8(output.stdout).unwrap());
    for (flag, address) in ["<api>", "<edge>", "<metrics>"].iter().zip(["api", "edge", "metrics"]) {
        shown = shown.replace(&shell.serving.address(address).to_string(), flag);
    }
    let (before_version, rest) = shown.split_once("SQLite ").unwrap();
    let shown = format!("{before_version}SQLite <version> {}", rest.split_once(' ').unwrap().1);
    insta::assert_snapshot!(shown, @r"
    ok       configuration  latchkey serve would listen on <api>, <edge> (edges) and <metrics> (metrics).
    ok       edge secret    none is configured, so edges are served on loopback addresses only.
    ok       database       SQLite <version> at sqlite://latchkey.db can be read and written.
    ok       restrictions   a token lives for at most 365d, and a user has at most 10 tokens.
    ok       scheduler      it ran last at <time>.
    ok       administrator  one live token has the scope latchkey:admin.
    ok       service        the management API answers at http://<api>.
    ok       clock          it agrees with the service's.
    ok       feed           the service at http://<edge> tells of changes up to revision 0.
    ok       service        it is ready.
    ");
    assert_eq!(shell.state(), before);
}

#[test]
fn without_a_service_the_rest_is_looked_at() {
    let place = Place::new();
    place.bootstrap();
    let before = std::fs::read(place.path("latchkey.db")).unwrap();
    let found = findings(&place, &free_ports(), &[]);
    assert_found(&found, "ok database", "can be read and written");
    assert_found(&found, "ok administrator", "one live token");
    assert_found(&found, "skipped service", "none runs here");
    assert_eq!(std::fs::read(place.path("latchkey.db")).unwrap(), before);
}

#[test]
fn a_database_that_is_not_there_is_told_of_and_not_made() {
    let place = Place::new();
    assert_found(
        &findings(&place, &free_ports(), &[]),
        "problem database",
        "there is no database at sqlite://latchkey.db",
    );
    assert!(!place.path("latchkey.db").exists());
    place.write("latchkey.db", "");
    assert_found(&findings(&place, &free_ports(), &[]), "warning database", "is empty");
    place.write("latchkey.db", &"this is no database. ".repeat(400));
    assert_found(&findings(&place, &free_ports(), &[]), "problem database", "not a SQLite database");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://someone:marked@{silent}/latchkey");
    let found = findings(&place, &free_ports(), &["--database-url", &url]);
    assert_found(&found, "problem database", &format!("PostgreSQL at {silent} cannot be used"));
    assert!(!found.concat().contains("marked"));
}

#[test]
fn what_is_wrong_in_a_database_is_found() {
    let place = Place::new();
    let look = || findings(&place, &free_ports(), &[]);
    place.bootstrap();
    place.sql("UPDATE restrictions SET max_lifetime_ms = NULL, delete_expired_enabled = 0; UPDATE tokens SET expires_at = created_at + 86400000");
    let found = look();
    assert_found(&found, "warning restrictions", "tokens may live for ever");
    assert_found(&found, "warning restrictions", "expired tokens are never deleted");
    assert_found(&found, "skipped scheduler", "it is disabled");
    assert_found(&found, "warning administrator", "expires at");
    assert_nothing_wrong(&found);
    place.sql("UPDATE tokens SET revoked_at = 0; UPDATE restrictions SET delete_expired_enabled = 1, max_tokens_per_user = 0, max_lifetime_ms = 1000");
    place.sql("INSERT INTO jobs (name, last_run_at) VALUES ('delete_expired', 0)");
    let found = look();
    assert_found(&found, "warning restrictions", "nobody can make a token: max_tokens_per_user is 0");
    assert_found(&found, "warning administrator", "no live token has the scope latchkey:admin");
    assert_found(&found, "warning scheduler", "it ran last at 1970-01-01T00:00:00Z, though a run was due");
    place.sql(
        "UPDATE restrictions SET max_tokens_per_user = 1; UPDATE jobs SET last_error = 'The disk is full.'",
    );
    let found = look();
    assert_found(&found, "warning restrictions", "no token lives longer than 1s");
    assert_found(&found, "problem scheduler", "its last run failed: The disk is full.");
    place.sql("UPDATE restrictions SET delete_expired_every_ms = 500");
    assert_found(&look(), "problem restrictions", "delete_expired.every must be at least");
    place.sql("UPDATE audit SET id = 'ffffffff' || substr(id, 9), at = at + 4000000000000");
    assert_found(&look(), "problem clock", "a clock was set back");
    place.sql("UPDATE latchkey_migrations SET version = version + 1000");
    assert_found(&look(), "problem database", "newer Latchkey");
}

#[test]
fn a_database_that_cannot_be_written_is_found() {
    let place = Place::new();
    place.bootstrap();
    // Tests may run as a user to whom no file is read-only; a lock is one to everybody.
    let holder = place.locked();
    let found = findings(&place, &free_ports(), &[]);
    assert_found(&found, "problem database", "cannot be written");
    drop(holder);
    assert_nothing_wrong(&findings(&place, &free_ports(), &[]));
}

#[test]
fn settings_that_the_service_would_refuse_are_told_of_together() {
    let place = Place::new();
    place.bootstrap();
    let args = ["--edge-listen", "0.0.0.0:1", "--listen", "0.0.0.0:1", "--log-level", "a=b=c"];
    let found = findings(&place, &[], &args);
    assert_found(&found, "problem configuration", "needs an edge secret");
    assert_found(&found, "problem configuration", "is no log level");
    assert_found(&found, "problem configuration", "name the port 1");
    assert_found(&found, "warning configuration", "speaks no TLS");
    let found = findings(&place, &free_ports(), &["--database-url", "mysql://x"]);
    assert_found(&found, "problem configuration", "must begin with sqlite:// or postgres://");
    for wrong in [&["--listen", "8100"][..], &["--url", "tokens.example.com"], &["--bogus"]] {
        assert_eq!(examine(&place, &[], wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_edge_secret_is_readable_private_long_and_the_services_own() {
    let place = Place::new();
    place.bootstrap();
    let secret = |text: &str, mode| {
        let path = place.write("secret", text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let (own, other) = ("marked-0123456789abcdef0123456789", "other-0123456789abcdef0123456789");
    let path = secret(own, 0o600);
    let serving = place.serve(&["--edge-secret-file", &path]);
    let ports = ports_of(&serving);
    let look = || findings(&place, &ports, &["--edge-secret-file", &path]);
    let found = look();
    assert_nothing_wrong(&found);
    assert_found(&found, "ok edge secret", "one is accepted");
    assert_found(&found, "ok edge secret", "accepts it");
    assert_found(&found, "ok feed", "revision 0");
    secret(own, 0o644);
    assert_found(&look(), "problem edge secret", "everybody on this machine can read /");
    // Read by the doctor from elsewhere, so that the service keeps the one it has.
    let elsewhere = place.write("elsewhere", &format!("{own}\nrather-short-one-\n{other}\n"));
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o600)).unwrap();
    let found = findings(&place, &ports, &["--edge-secret-file", &elsewhere]);
    assert_found(&found, "problem edge secret", "secret 2 of 3 has 17 characters");
    assert_found(&found, "problem edge secret", "does not accept secret 3 of 3");
    assert!(
        !found.iter().any(|line| line.contains("secret 1 of 3") || line.contains("marked-")),
        "{found:#?}"
    );
    let found = findings(&place, &ports, &[]);
    assert_found(&found, "problem edge secret", "asks for one, and none is configured here");
    assert_found(
        &findings(&place, &ports, &["--edge-secret-file", "nowhere"]),
        "problem edge secret",
        "cannot be read",
    );
}

#[test]
fn an_edge_whose_feed_is_denied_is_told_of_and_the_doctor_itself_is_none() {
    let place = Place::new();
    place.bootstrap();
    let path = place.write("secret", "marked-0123456789abcdef0123456789");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let serving = place.serve(&["--edge-secret-file", &path]);
    let ports = ports_of(&serving);
    let look = || findings(&place, &ports, &["--edge-secret-file", &path]);
    for _ in 0..2 {
        let found = look();
        assert_nothing_wrong(&found);
        assert!(!found.concat().contains("without an accepted edge secret"), "{found:#?}");
    }
    let denied = serving.ask("edge", "GET /edge/v1/changes HTTP/1.1", "");
    assert!(denied.contains("edge_secret_invalid"), "{denied}");
    assert_found(&look(), "problem edges", "a call of /edge/v1/changes came without an accepted edge secret");
    let metrics = serving.ask("metrics", "GET /metrics HTTP/1.1", "");
    assert!(metrics.contains("latchkey_edge_refused_total{path=\"/edge/v1/changes\"} 1"), "{metrics}");
}

#[test]
fn a_service_that_answers_in_part_or_is_another_is_told_of() {
    let shell = Shell::start();
    let (ports, free) = (ports_of(&shell.serving), free_ports());
    let mixed = [&ports[..2], &free[2..4], &ports[4..]].concat();
    assert_found(&findings(&shell.place, &mixed, &[]), "problem service", "the edge API does not answer");
    let edge = format!("http://{}", shell.serving.address("edge"));
    let found = findings(&shell.place, &free, &["--url", &edge, "--edge-url", &shell.url()]);
    assert_found(&found, "problem service", "is not the management API");
    assert_found(&found, "problem feed", "does not tell of changes: 404 Not Found");
    let found = findings(&shell.place, &free, &["--url", &shell.url(), "--edge-url", &edge]);
    assert_nothing_wrong(&found);
    let elsewhere = Place::new();
    elsewhere.bootstrap();
    assert_found(&findings(&elsewhere, &ports, &[]), "problem feed", "follows another history");
    let found = findings(&shell.place, &free, &["--url", &format!("http://{}", free[1])]);
    assert_found(&found, "problem service", "the management API does not answer");
}

#[test]
fn a_postgresql_that_would_forget_is_told_of() {
    let place = Place::new();
    let url = postgres::shared().database();
    let look = || findings(&place, &free_ports(), &["--database-url", &url]);
    assert_found(&look(), "warning database", "is empty");
    assert!(place.run(&["bootstrap", "--database-url", &url]).status.success());
    let name = url.split('?').next().unwrap().rsplit_once('/').unwrap().1;
    postgres::shared().sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let found = look();
    assert_found(&found, "problem database", "synchronous_commit = off: what was acknowledged");
    assert_found(&found, "ok clock", "it agrees with the database's");
    assert_found(&found, "ok administrator", "one live token");
}
