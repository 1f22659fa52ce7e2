//! What people type, paste and set, as the command line takes it.

use serde_json::json;

use crate::shell::Shell;
use crate::support::{Place, assert_refused, stderr};

#[test]
fn impossible_values_of_variables_are_exit_code_2_and_make_nothing() {
    let place = Place::new();
    for (name, value, says) in [
        ("LATCHKEY_LOG_LEVEL", "bogus", "use error, warn, info, debug, trace or off"),
        ("LATCHKEY_LOG_LEVEL", "info,bogus=debug", "\"bogus\" is no part of the program"),
        ("LATCHKEY_LOG_LEVEL", "", "LATCHKEY_LOG_LEVEL"),
        ("LATCHKEY_LOG_FORMAT", "xml", "it must be text or json"),
        ("LATCHKEY_LOG_FORMAT", "", "--log-format"),
        ("LATCHKEY_EDGE_SECRET", "", "LATCHKEY_EDGE_SECRET is set and empty"),
        ("LATCHKEY_EDGE_SECRET_FILE", " ", "LATCHKEY_EDGE_SECRET_FILE is set and empty"),
        ("LATCHKEY_DATABASE_URL", "", "LATCHKEY_DATABASE_URL is set and empty"),
        ("LATCHKEY_LISTEN", "127.0.0.1:99999", "127.0.0.1:8100"),
        ("LATCHKEY_MAX_FAILED_ATTEMPTS", "-1", "LATCHKEY_MAX_FAILED_ATTEMPTS"),
        ("LATCHKEY_AUDIT_RETENTION", "1y", "a length of time of at least 1s"),
    ] {
        let output = place.command(&["serve"]).env(name, value).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}={value:?}: {message}");
        assert!(
            message.contains(says) || message.contains("--max-failed-attempts"),
            "{name}={value:?}: {message}"
        );
    }
    assert!(!place.path("latchkey.db").exists());
}

#[test]
fn a_warning_is_a_level_and_a_flag_overrules_an_empty_variable() {
    let place = Place::new();
    for (level, args) in [("warning", &[][..]), ("", &["--log-level", "warn"])] {
        let mut command = place
            .command(&[&["serve", "--listen", "127.0.0.1:1", "--edge-listen", "0.0.0.0:0"], args].concat());
        // It gets as far as the next thing that is wrong.
        let output = command.env("LATCHKEY_LOG_LEVEL", level).output().unwrap();
        assert!(!stderr(&output).contains("log"), "{}", stderr(&output));
    }
}

#[test]
fn completions_are_there_for_every_shell_and_an_unknown_one_is_told_which() {
    let place = Place::new();
    let output = place.run(&["completions", "powershell"]);
    assert!(
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("Register-ArgumentCompleter")
    );
    assert_refused(
        &place.run(&["completions", "tcsh"]),
        2,
        "it must be bash, elvish, fish, powershell or zsh",
    );
}

#[test]
fn an_import_tells_all_that_is_wrong_and_takes_a_file_as_editors_save_it() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let import = |text: &str| {
        let file = shell.place.write("tokens.txt", text);
        shell.run(&["token", "import", "--user", "bob", "--plain", &file])
    };
    let refused = import("good-token-number-1\na,b\nsec\u{200b}ret\n");
    let told = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("2 lines are wrong, and nothing is imported:"), "{told}");
    assert!(
        told.contains("line 2: no gateway can serve this token") && told.contains("has a comma"),
        "{told}"
    );
    assert!(
        told.contains("line 3: no gateway can serve") && told.contains("U+200B ZERO WIDTH SPACE at column 4"),
        "{told}"
    );
    assert_eq!(shell.json(&["token", "list", "--user", "bob"])["items"], json!([]));
    let output = import(
        "\u{feff}ghp_81abcdefghijklmnopqrstuvwxyz0123456789\r\nghp_81abcdefghijklmnopqrstuvwxyz0123456789\r\n",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 token of bob is imported"), "{}", stderr(&output));
    assert!(stderr(&output).contains("`token_prefix: null`"), "{}", stderr(&output));
    let token = &shell.json(&["token", "list", "--user", "bob"])["items"][0];
    assert_eq!(token["hint"], "ghp_81");
    let me = shell
        .command(&["me", "--json"])
        .env("LATCHKEY_TOKEN", "ghp_81abcdefghijklmnopqrstuvwxyz0123456789")
        .output()
        .unwrap();
    assert!(me.status.success(), "the first token of the file works");
}

#[test]
fn a_token_is_named_by_the_beginning_of_its_id_where_that_is_unique() {
    let shell = Shell::start();
    shell.print(&["token", "create", "ci"]);
    let id = shell.json(&["token", "list"])["items"][1]["id"].as_str().unwrap().to_owned();
    assert_eq!(shell.json(&["token", "show", &id[..23]])["name"], "ci");
    assert_refused(&shell.run(&["token", "show", "00000000"]), 1, "no token that you may list");
    assert_refused(&shell.run(&["token", "show", "0198"]), 2, "first 8 characters");
    // Both were made in the same minute.
    assert_refused(&shell.run(&["token", "revoke", "--yes", &id[..8]]), 2, "several tokens");
    assert_eq!(shell.json(&["token", "show", &id])["status"], "active");
}

#[test]
fn the_audit_log_tells_what_was_changed_in_a_few_words() {
    let shell = Shell::start();
    shell.print(&["restrictions", "set", "--max-lifetime", "90d", "--yes"]);
    let listed = shell.print(&["audit", "list", "--action", "restrictions.updated"]);
    assert!(listed.contains("max_lifetime 365d → 90d"), "{listed}");
}

#[test]
fn errors_speak_of_flags() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let refused = shell.run(&["user", "create", "Bob Builder"]);
    assert_refused(&refused, 2, "any other name can be the --display-name");
    let refused = shell.run(&["token", "create", "ci", "--allowed-cidr", "010.0.0.1"]);
    assert_refused(&refused, 1, "--allowed-cidr must hold networks");
}

#[test]
fn a_forward_proxy_gets_the_whole_url_and_loopback_and_no_proxy_go_by_none() {
    let place = Place::new();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let received = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        let (mut stream, _) = proxy.accept().unwrap();
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        let body = r#"{"error":{"status":"ERROR","code":"marked","message":"From the proxy"}}"#;
        write!(
            stream,
            "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        head
    });
    let me = |url: &str, no_proxy: &str| {
        let mut command = place.command(&["me", "--url", url]);
        command.env("LATCHKEY_TOKEN", "lk_x").env("no_proxy", no_proxy);
        command.env("http_proxy", format!("http://user:pass@{address}")).output().unwrap()
    };
    // Nothing listens there, which is said of it and not of the proxy.
    assert_refused(&me("http://127.0.0.1:1", ""), 1, "the service at http://127.0.0.1:1 cannot be reached");
    assert_refused(
        &me("http://latchkey.invalid:8100", ".invalid"),
        1,
        "the service at http://latchkey.invalid:8100 cannot be reached",
    );
    assert_refused(&me("http://latchkey.invalid:8100", ""), 1, "From the proxy (marked)");
    let head = received.join().unwrap().to_lowercase();
    assert!(head.starts_with("get http://latchkey.invalid:8100/api/v1/me http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: latchkey.invalid:8100\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic dxnlcjpwyxnz\r\n"), "{head}");
}
