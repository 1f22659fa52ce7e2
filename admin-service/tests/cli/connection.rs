//! How commands reach the service: where it is, who asks, and what they say when it is not there.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::shell::Shell;
use crate::support::{Place, assert_refused, stderr};

/// Answers each request with `answer`; gives the URL.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn the_token_comes_from_a_variable_or_a_file_and_from_no_flag() {
    let shell = Shell::start();
    let file = shell.place.write("token", &format!("{}\n", shell.token));
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = shell.place.command(&[&["me", "--url", &shell.url()], args].concat());
        command.envs(variables.iter().copied()).output().unwrap()
    };
    for (args, variables) in [
        (&[][..], &[("LATCHKEY_TOKEN", shell.token.as_str())][..]),
        (&[], &[("LATCHKEY_TOKEN_FILE", &file)]),
        (&["--token-file", &file], &[]),
        (&["--token-file", &file], &[("LATCHKEY_TOKEN", "lk_other")]),
    ] {
        let output = run(args, variables);
        assert!(output.status.success(), "{args:?} {variables:?} {}", stderr(&output));
    }
    let empty = shell.place.write("empty", "\n");
    for (args, variables, text) in [
        (&[][..], &[][..], "set LATCHKEY_TOKEN, or name a file"),
        (&[], &[("LATCHKEY_TOKEN", "lk_a"), ("LATCHKEY_TOKEN_FILE", file.as_str())], "are both set"),
        (&[], &[("LATCHKEY_TOKEN", ""), ("LATCHKEY_TOKEN_FILE", &file)], "LATCHKEY_TOKEN is set and empty"),
        (
            &[],
            &[("LATCHKEY_TOKEN", "lk_\u{200b}a")],
            "nothing else, and has U+200B ZERO WIDTH SPACE at column 4",
        ),
        (&[], &[("LATCHKEY_TOKEN", "lk_a lk_b")], "LATCHKEY_TOKEN must hold one token and nothing else"),
        (&["--token-file", "nowhere"], &[], "--token-file: the file nowhere cannot be read"),
        (&["--token-file", &empty], &[], "must hold one token and nothing else"),
    ] {
        assert_refused(&run(args, variables), 2, text);
    }
    assert_eq!(run(&["--token", &shell.token], &[]).status.code(), Some(2));
}

#[test]
fn a_wrong_token_is_told_of_by_where_it_came_from_and_never_shown() {
    let shell = Shell::start();
    let wrong = "lk_00000000000000000000000000000000000000000000000000";
    for args in [&["me"][..], &["user", "list", "--json"], &["user", "create", "bob"]] {
        let output = shell.command(args).env("LATCHKEY_TOKEN", wrong).output().unwrap();
        assert_refused(
            &output,
            1,
            "Provided API key is invalid (api_key_invalid): the token of LATCHKEY_TOKEN is",
        );
        assert!(!stderr(&output).contains(wrong));
    }
    let file = shell.place.write("token", wrong);
    let output = shell.command(&["me", "--token-file", &file]).output().unwrap();
    assert_refused(&output, 1, "the token of the file ");
    assert_eq!(shell.json(&["user", "list"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_service_that_is_not_there_is_told_of_by_its_url() {
    let place = Place::new();
    let run = |url: &str| {
        let mut command = place.command(&["user", "create", "bob"]);
        command
            .env("LATCHKEY_TOKEN", "lk_x")
            .env("LATCHKEY_URL", url)
            .env("http_proxy", "http://127.0.0.1:2");
        command.output().unwrap()
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    assert_refused(
        &run(&url),
        1,
        &format!("the service at {url} cannot be reached: nothing listens there. Check that"),
    );
    assert_refused(&run(&answering("")), 1, "Whether it has done what was asked for is not known");
    assert_refused(&run("http://no-such-host.invalid"), 1, "http://no-such-host.invalid cannot be reached");
    assert_refused(&run("127.0.0.1:8100"), 2, "https://tokens.example.com");
}

#[test]
fn what_answers_and_is_no_latchkey_is_told_of() {
    let place = Place::new();
    let run =
        |url: &str| place.command(&["me", "--url", url]).env("LATCHKEY_TOKEN", "lk_marked").output().unwrap();
    for (answer, text) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nwhat?",
            "answered 404 Not Found, and not as Latchkey does",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n",
            "answered 302 Found, which leads to https://elsewhere.example/, and not",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"a\u{1b}[2Jb\"", "\\u{1b}"),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 66\r\n\r\n{\"error\":{\"code\":\"x\\u001b\",\"message\":\"No\\u001b]0;\\u202e\\nsecond\"}}     ",
            r"No\u{1b}]0;\u{202e}\nsecond (x\u{1b})",
        ),
    ] {
        let output = run(&answering(answer));
        if answer.contains("200 OK") {
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert!(String::from_utf8(output.stdout).unwrap().contains(text));
        } else {
            assert_refused(&output, 1, text);
        }
    }
    let list = place.command(&[
        "user",
        "list",
        "--url",
        &answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    ]);
    let output = { list }.env("LATCHKEY_TOKEN", "lk_marked").output().unwrap();
    assert_refused(&output, 1, "does not understand");
}

#[test]
fn the_same_page_over_and_over_is_no_endless_list() {
    let place = Place::new();
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 32\r\nconnection: close\r\n\r\n{\"items\":[],\"next_cursor\":\"abc\"}";
    let mut list = place.command(&["user", "list", "--url", &answering(page)]);
    assert_refused(&list.env("LATCHKEY_TOKEN", "lk_x").output().unwrap(), 1, "the same page twice");
}

#[test]
fn an_export_that_breaks_off_is_not_taken_for_the_whole() {
    let place = Place::new();
    let half =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\n{}\n\r\n3\r\n{";
    let mut export = place.command(&["audit", "export", "--url", &answering(half)]);
    let output = export.env("LATCHKEY_TOKEN", "lk_x").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("latchkey: the export broke off ("), "{}", stderr(&output));
}

/// Makes a certificate of this machine's that only its own file vouches for, and its key; gives their paths.
fn certificate(place: &Place, name: &str) -> (String, String) {
    let files = ["pem", "key"].map(|end| place.path(&format!("{name}.{end}")).to_str().unwrap().to_owned());
    let [certificate, key] = files;
    let kind =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
    let names = [
        "-subj",
        "/CN=latchkey",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-out",
        &certificate,
        "-keyout",
        &key,
    ];
    assert!(Command::new("openssl").args(kind).args(names).output().unwrap().status.success());
    (certificate, key)
}

/// Answers each request with `answer` over TLS; gives the URL.
fn answering_over_tls((certificate, key): &(String, String), answer: &'static str) -> String {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    url
}

#[test]
fn https_is_spoken_with_whom_the_machine_or_ssl_cert_file_trusts_and_with_nobody_else() {
    let place = Place::new();
    let (own, other) = (certificate(&place, "own"), certificate(&place, "other"));
    let url = answering_over_tls(&own, "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"name\":\"bob\"}");
    let run = |url: &str, file: Option<&str>| {
        let mut command = place.command(&["me", "--url", url]);
        command.env("LATCHKEY_TOKEN", "lk_x").env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        command.envs(file.map(|file| ("SSL_CERT_FILE", file))).output().unwrap()
    };
    let output = run(&url, Some(&own.0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "name  bob\n", "{}", stderr(&output));
    for file in [None, Some(other.0.as_str()), Some("nowhere")] {
        assert_refused(&run(&url, file), 1, "SSL_CERT_FILE can name the certificates to trust");
    }
    assert_refused(&run(&url.replace("https:", "http:"), Some(&own.0)), 1, "cannot be reached");
    let plain = answering("HTTP/1.1 200 OK\r\n\r\n").replace("http:", "https:");
    assert_refused(&run(&plain, Some(&own.0)), 1, "no TLS with it");
}
