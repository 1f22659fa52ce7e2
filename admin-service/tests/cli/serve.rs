//! `latchkey serve` and `latchkey openapi`: how they end, what they read, what they log and print.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Place, Serving, assert_refused, now, stderr, wait_for};

#[test]
fn sigterm_and_sigint_end_the_service_with_exit_code_0() {
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let mut serving = place.serve(&[]);
        let _idle = TcpStream::connect(serving.address("api")).unwrap();
        serving.signal(signal);
        assert_eq!(serving.ended().code(), Some(0));
        assert!(serving.lines().iter().any(|line| line["message"] == "ended"));
        let mut printed = String::new();
        serving.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        assert_eq!(printed, "");
    }
}

#[test]
fn a_request_that_never_ends_holds_the_end_up_for_less_than_ten_seconds() {
    let place = Place::new();
    let mut serving = place.serve(&[]);
    let _stuck = serving.stuck_request(&place.bootstrap());
    let address = serving.address("api");
    let begun = now();
    serving.signal("TERM");
    wait_for("the port to be closed", || TcpStream::connect(address).is_err());
    assert_eq!(serving.ended().code(), Some(0));
    assert!(now() - begun < Duration::from_secs(10), "{:?}", now() - begun);
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let place = Place::new();
    let mut serving = place.serve(&[]);
    let _stuck = serving.stuck_request(&place.bootstrap());
    serving.signal("TERM");
    wait_for("the first signal to be heard", || {
        serving.lines().iter().any(|line| line["signal"] == "SIGTERM")
    });
    let begun = now();
    serving.signal("TERM");
    assert_eq!(serving.ended().code(), Some(1));
    assert!(now() - begun < Duration::from_secs(3), "{:?}", now() - begun);
}

#[test]
fn a_signal_ends_a_service_that_still_waits_for_its_database() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://someone@{}/latchkey", silent.local_addr().unwrap());
    let mut serving = place.start(&["--database-url", &url]);
    let _connection = silent.accept().unwrap();
    serving.signal("TERM");
    assert_eq!(serving.ended().code(), Some(0));
    assert!(serving.lines().iter().any(|line| line["message"] == "ended before it began to serve"));
}

#[test]
fn a_token_that_is_revoked_while_its_request_waits_for_the_body_changes_nothing() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let token = place.bootstrap();
    let ask = |method_and_path: &str| {
        serving.ask("api", &format!("{method_and_path} HTTP/1.1\r\nauthorization: Bearer {token}"), "")
    };
    let tokens = ask("GET /api/v1/users/admin/tokens");
    let (_, id) = tokens.split_once(r#""id":""#).unwrap();
    let mut stuck = serving.stuck_request(&token);
    let revoked = ask(&format!("DELETE /api/v1/tokens/{}", &id[..36]));
    assert!(revoked.starts_with("HTTP/1.1 204"), "{revoked}");
    stuck.write_all(format!("{:100}", r#"{"name": "mallory"}"#).as_bytes()).unwrap();
    let mut answer = [0; 12];
    stuck.read_exact(&mut answer).unwrap();
    // After the interim answer comes its empty line.
    assert_eq!(String::from_utf8_lossy(&answer).trim_start(), "HTTP/1.1 401");
    // With no administrator left, another can be made, who sees what there is.
    let admin = place.bootstrap();
    let user = "GET /api/v1/users/mallory HTTP/1.1\r\nauthorization: Bearer";
    let answer = serving.ask("api", &format!("{user} {admin}"), "");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[test]
fn an_edge_secret_is_changed_without_a_restart_and_without_a_gap() {
    let place = Place::new();
    assert!(place.run(&["bootstrap"]).status.success());
    let file = place.write("secrets", "the-old-edge-secret\n");
    let serving = place.serve(&["--edge-secret-file", &file]);
    let accepts = |secret: &str| {
        let head = format!(
            "POST /edge/v1/verify HTTP/1.1\r\ncontent-type: application/json\r\nauthorization: Bearer {secret}"
        );
        let answer = serving.ask("edge", &head, &format!(r#"{{"token_hash":"{}"}}"#, "0".repeat(64)));
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 401"), "{answer}");
        answer.starts_with("HTTP/1.1 200")
    };
    assert!(accepts("the-old-edge-secret") && !accepts("the-new-edge-secret"));
    place.write("secrets", "the-old-edge-secret\nthe-new-edge-secret\n");
    wait_for("the new secret to be accepted", || accepts("the-new-edge-secret"));
    assert!(accepts("the-old-edge-secret"));
    std::fs::remove_file(Path::new(&file)).unwrap();
    wait_for("the missing file to be noticed", || serving.lines().iter().any(|line| line["level"] == "WARN"));
    assert!(accepts("the-new-edge-secret"));
    place.write("secrets", "the-new-edge-secret\n");
    wait_for("the old secret to be refused", || !accepts("the-old-edge-secret"));
    assert!(accepts("the-new-edge-secret"));
}

#[test]
fn variables_and_files_stand_for_flags() {
    let place = Place::new();
    let url = place.write("url", &format!("sqlite://{}\n", place.path("elsewhere.db").display()));
    let secret = place.write("secret", "edge-secret-of-the-file\n");
    let run = |args: &[&str]| {
        let mut command = place.command(args);
        command
            .env("LATCHKEY_DATABASE_URL_FILE", &url)
            .env("LATCHKEY_TOKEN_PREFIX", "acme")
            .env("LATCHKEY_USER", "carol");
        command.env("LATCHKEY_EDGE_SECRET_FILE", &secret).env("LATCHKEY_LISTEN", "nowhere");
        command.output().unwrap()
    };
    let output = run(&["bootstrap"]);
    assert!(output.stdout.starts_with(b"acme_"), "{}", stderr(&output));
    assert!(stderr(&output).contains("the user carol has a token"));
    assert!(place.path("elsewhere.db").exists() && !place.path("latchkey.db").exists());
    assert_refused(&run(&["serve"]), 2, "invalid value 'nowhere' for '--listen");
}

#[test]
fn a_log_line_tells_of_each_request_and_of_no_secret() {
    let place = Place::new();
    let token = place.bootstrap();
    let edge_secret = "marked-edge-secret-0123456789";
    let mut serving = place.serve(&["--edge-secret", edge_secret]);
    let head = format!(
        "POST /api/v1/users HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nx-request-id: ticket-7"
    );
    let made = serving.ask("api", &head, r#"{"name": "marked-user"}"#);
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let head = format!(
        "POST /api/v1/users/marked-user/tokens HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json"
    );
    let made = serving.ask("api", &head, r#"{"name": "marked-name"}"#);
    let made: Value = serde_json::from_str(made.split_once("\r\n\r\n").unwrap().1).unwrap();
    let head = format!(
        "POST /edge/v1/verify HTTP/1.1\r\ncontent-type: application/json\r\nauthorization: Bearer {edge_secret}"
    );
    serving.ask("edge", &head, r#"{"token_hash": "x"}"#);
    serving.ask(
        "api",
        &format!("GET /api/v1/me?token={token} HTTP/1.1\r\nauthorization: Bearer {token}"),
        "",
    );
    serving.ask("api", &format!("GET /{token} HTTP/1.1"), "");
    serving.signal("TERM");
    serving.ended();
    let lines = serving.lines();
    let line = lines
        .iter()
        .find(|line| line["client_request_id"] == "ticket-7" && line["message"] == "answered")
        .unwrap();
    assert_eq!(
        (&line["method"], &line["path"], &line["status"], &line["user"]),
        (&"POST".into(), &"/api/v1/users".into(), &201.into(), &"admin".into())
    );
    assert!(
        line["request_id"] != "ticket-7" && line["client"] == "127.0.0.1" && line["code"].is_null(),
        "{line}"
    );
    let log = std::fs::read_to_string(&serving.log).unwrap();
    assert_eq!(log.lines().count(), lines.len(), "every line is JSON");
    for secret in [&token, edge_secret, made["token"].as_str().unwrap()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[test]
fn openapi_prints_the_description() {
    let output = Place::new().run(&["openapi"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let description = serde_json::to_value(latchkey_admin::api::description()).unwrap();
    assert_eq!(printed, description);
}

/// As on a full disk.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let place = Place::new();
    place.bootstrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = place.command(&["serve", "--log-level", "trace", "--listen", "127.0.0.1:0"]);
    command.args(["--edge-listen", "127.0.0.1:0", "--metrics-listen", &free.to_string()]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut serving = Serving { child: command.stderr(full).spawn().unwrap(), log: place.path("none") };
    for probe in ["readyz", "livez", "readyz"] {
        wait_for("an answer", || {
            assert_eq!(serving.child.try_wait().unwrap(), None, "the service has ended");
            let Ok(mut stream) = TcpStream::connect(free) else { return false };
            write!(stream, "GET /{probe} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
        });
    }
    serving.signal("TERM");
    assert_eq!(serving.ended().code(), Some(0));
}

#[test]
fn a_second_service_on_the_same_file_starts_with_a_warning_that_names_the_first_and_both_work() {
    let place = Place::new();
    let first = place.serve(&[]);
    let token = place.bootstrap();
    let warned = |serving: &Serving| -> Vec<String> {
        let lines = serving.lines();
        let told =
            lines.iter().filter(|line| line["level"] == "WARN").map(|line| line["message"].to_string());
        told.filter(|text| text.contains("runs on this SQLite file too")).collect()
    };
    assert!(warned(&first).is_empty());
    let second = place.serve_beside(&[], "second");
    let told = warned(&second);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!("process {} runs", first.child.id())), "{told:?}");
    for (n, serving) in [&first, &second].into_iter().enumerate() {
        let head = format!(
            "POST /api/v1/users HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json"
        );
        let made = serving.ask("api", &head, &format!(r#"{{"name": "user{n}"}}"#));
        assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    }
    drop((first, second));
    let third = place.serve(&[]);
    assert!(warned(&third).is_empty(), "one that was killed is taken for one that runs");
}

#[test]
fn a_database_that_is_not_up_yet_is_waited_for_and_what_is_waited_for_is_said() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://latchkey:hunter2@127.0.0.1:{port}/postgres");
    let serving = place.start(&["--database-url", &url, "--database-wait", "10m"]);
    let waits = |serving: &Serving| {
        let lines = serving.lines();
        let said = lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned));
        said.filter(|text| {
            text.contains(&format!("waiting for the database: PostgreSQL at 127.0.0.1:{port} cannot be used"))
        })
        .count()
    };
    wait_for("a second line", || waits(&serving) >= 2);
    let text = std::fs::read_to_string(&serving.log).unwrap();
    assert!(text.contains("Connection refused") && !text.contains("hunter2"), "{text}");
    let _server = crate::postgres::Cluster::primary(port);
    wait_for("the service to serve", || {
        serving.lines().iter().any(|line| line["message"] == "latchkey serves")
    });
    let notices =
        serving.lines().into_iter().filter(|line| line["target"] == "sqlx::postgres::notice").count();
    assert_eq!(notices, 0, "PostgreSQL's notices are in the log");
}

#[test]
fn what_does_not_pass_by_waiting_ends_the_service_at_once() {
    let place = Place::new();
    let nowhere = crate::postgres::shared().url("nowhere");
    let mut serving = place.start(&["--database-url", &nowhere, "--database-wait", "10m"]);
    assert_eq!(serving.ended().code(), Some(1));
    let text = std::fs::read_to_string(&serving.log).unwrap();
    assert!(text.contains("CREATE DATABASE nowhere OWNER") && !text.contains("waiting for"), "{text}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://latchkey@{closed}/latchkey");
    let mut serving = place.start(&["--database-url", &url, "--database-wait", "0s"]);
    assert_eq!(serving.ended().code(), Some(1));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_and_one_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let file = place.write("secret", "abc\n");
    let refused = place.run(&["serve", "--edge-secret-file", &file]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(
        text.contains("has 3 bytes, and at least 16 are needed") && text.contains("openssl rand -hex 32"),
        "{text}"
    );
    assert!(!place.path("latchkey.db").exists());
    place.write("secret", "an-edge-secret-of-one\n");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let serving = place.serve(&["--edge-secret-file", &file]);
        let lines = serving.lines();
        let told = lines.iter().any(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("everybody on this machine can read /"))
        });
        assert_eq!(told, warned, "mode {mode:o}");
    }
}

#[test]
fn failed_authentications_are_warned_of_once_a_minute_and_each_line_names_client_and_code() {
    let place = Place::new();
    let token = place.bootstrap();
    let mut serving = place.serve(&["--edge-secret", "an-edge-secret-0123456789"]);
    let unknown = "lk_0000000000000000000000000000000000000000000000000";
    for _ in 0..50 {
        let refused =
            serving.ask("api", &format!("GET /api/v1/me HTTP/1.1\r\nauthorization: Bearer {unknown}"), "");
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    }
    serving.ask("api", "GET /api/v1/me HTTP/1.1", "");
    serving.ask("api", &format!("GET /api/v1/me HTTP/1.1\r\nauthorization: Bearer {token}"), "");
    serving.signal("TERM");
    serving.ended();
    let lines = serving.lines();
    let refused = |code: &str| {
        let refused = lines.iter().filter(|line| line["message"] == "answered" && line["status"] == 401);
        refused.filter(|line| line["code"] == code && line["client"] == "127.0.0.1").count()
    };
    assert_eq!((refused("api_key_invalid"), refused("api_key_missing")), (50, 1));
    let warned =
        lines.iter().filter(|line| line["level"] == "WARN" && line["target"] == "latchkey::security");
    let warned: Vec<_> =
        warned.map(|line| (line["client"].clone(), line["code"].clone(), line["count"].clone())).collect();
    // One at once, and at the end what was counted since.
    assert_eq!(warned, [1, 49].map(|count| ("127.0.0.1".into(), "api_key_invalid".into(), count.into())));
}

#[test]
fn sighup_reads_the_secrets_anew_and_ends_nothing() {
    let place = Place::new();
    let file = place.write("secrets", "an-edge-secret-0123456789\n");
    let serving = place.serve(&["--edge-secret-file", &file]);
    place.write("secrets", "an-edge-secret-0123456789\nanother-edge-secret-012345\n");
    serving.signal("HUP");
    wait_for("the secrets to be read", || {
        serving.lines().iter().any(|line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("SIGHUP")) && line["secrets"] == 2
        })
    });
    let answer = serving.ask("metrics", "GET /livez HTTP/1.1", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let open = Place::new();
    let serving = open.serve(&[]);
    serving.signal("HUP");
    wait_for("the signal to be noticed", || serving.lines().iter().any(|line| line["secrets"] == 0));
}

#[test]
fn a_header_of_a_proxy_that_is_not_trusted_is_warned_of_once() {
    let place = Place::new();
    assert!(place.run(&["bootstrap"]).status.success());
    let mut serving = place.serve(&[]);
    for header in ["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9"] {
        serving.ask("api", &format!("GET /api/v1/me HTTP/1.1\r\n{header}"), "");
    }
    let ports: Vec<String> =
        [("--listen", "api"), ("--edge-listen", "edge"), ("--metrics-listen", "metrics")]
            .into_iter()
            .flat_map(|(flag, name)| [flag.to_owned(), serving.address(name).to_string()])
            .collect();
    let mut args = vec!["doctor"];
    args.extend(ports.iter().map(String::as_str));
    let found = String::from_utf8(place.run(&args).stdout).unwrap();
    assert!(
        found.contains("2 requests came through a proxy") && found.contains("--trusted-proxies"),
        "{found}"
    );
    serving.signal("TERM");
    serving.ended();
    let warned = |line: &&Value| line["level"] == "WARN" && line.to_string().contains("--trusted-proxies");
    assert_eq!(serving.lines().iter().filter(warned).count(), 1);
}
