//! `latchkey token import`: tokens of another system's, from a file of lines.

use serde_json::{Value, json};

use crate::shell::Shell;
use crate::support::{assert_refused, stderr};

/// So many lines, each with a token itself.
fn lines(count: usize) -> String {
    (0..count)
        .map(|number| format!("{}\n", json!({"token": format!("opaque-{number}"), "name": "moved"})))
        .collect()
}

fn import(shell: &Shell, text: &str, more: &[&str]) -> std::process::Output {
    let file = shell.place.write("tokens.jsonl", text);
    shell.run(&[&["token", "import", "--user", "bob", &file], more].concat())
}

fn first_line(output: &std::process::Output) -> String {
    stderr(output).lines().next().unwrap_or_default().to_owned()
}

fn count(shell: &Shell) -> usize {
    shell.json(&["token", "list", "--user", "bob"])["items"].as_array().unwrap().len()
}

#[test]
fn tokens_move_in_by_their_hashes_however_many_and_however_often() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let output = import(&shell, &lines(450), &["--ignore-restrictions"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    assert_eq!(first_line(&output), "latchkey: 450 tokens of bob are imported.");
    assert!(stderr(&output).contains("450 tokens are not shaped as Latchkey's own"), "{}", stderr(&output));
    let me = shell.command(&["me", "--json"]).env("LATCHKEY_TOKEN", "opaque-449").output().unwrap();
    assert!(String::from_utf8(me.stdout).unwrap().contains(r#""name":"bob""#));
    assert_eq!(count(&shell), 450);
    let output = import(&shell, &format!("\n{}", lines(451)), &["--ignore-restrictions"]);
    assert_eq!(first_line(&output), "latchkey: 1 token of bob is imported; 450 were stored already.");
    let output = import(&shell, &lines(3), &["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told, stderr(&output).as_str()), (json!({"imported": 0, "already_stored": 3}), ""));
}

#[test]
fn a_line_that_cannot_be_read_is_named_before_anything_is_imported() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    for (bad, says) in [
        ("the-secret", "line 3: it must be a JSON object"),
        (r#"{"name": "the-secret"}"#, "line 3: it must have `token_hash` or `token`"),
        (
            r#"{"token": "the-secret", "token_hash": "0", "name": "x"}"#,
            "line 3: give `token` or `token_hash`",
        ),
    ] {
        let output = import(&shell, &format!("{}{bad}\n", lines(2)), &[]);
        assert_refused(&output, 2, says);
        assert!(!stderr(&output).contains("the-secret"), "{}", stderr(&output));
    }
    assert_refused(&import(&shell, "\n", &[]), 2, "holds no tokens");
    assert_refused(&shell.run(&["token", "import", "--user", "bob", "nowhere.jsonl"]), 2, "cannot be read");
    assert_eq!(count(&shell), 0);
}

#[test]
fn a_value_that_cannot_be_is_told_by_line_before_anything_is_imported() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let fields = |more: Value| {
        let mut fields = json!({"token": "x", "name": "moved"});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields.to_string()
    };
    for (bad, says) in [
        (fields(json!({"name": ""})), "line 2: `name` must have 1 to 100 characters"),
        (
            fields(json!({"hint": "\u{202e}"})),
            "line 2: `hint` must not contain characters that are not seen, and has U+202E RIGHT-TO-LEFT OVERRIDE",
        ),
        (fields(json!({"surprise": 1})), "line 2: Unknown field `surprise`"),
        (fields(json!({"scopes": "read"})), "line 2: Field `scopes`: invalid type"),
        (fields(json!({"expires_in": "soon"})), "line 2: `expires_in` must be a length of time"),
        (
            fields(json!({"token": "opaque-0", "scopes": ["read"]})),
            "line 2: it is the same token as on line 1, and says other things",
        ),
        (json!({"token_hash": "00", "name": "x"}).to_string(), "line 2: `token_hash` must be the SHA-256"),
    ] {
        let output = import(&shell, &format!("{}{bad}\n{}", lines(1), lines(1)), &[]);
        assert_refused(&output, 2, says);
    }
    assert_eq!(count(&shell), 0);
}

#[test]
fn what_the_service_refuses_is_told_by_line_and_so_is_what_was_imported_before() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let too_long = json!({"token": "x", "name": "moved", "expires_in": "400d"}).to_string();
    let output = import(&shell, &format!("{}\n{too_long}\n", lines(1)), &[]);
    assert_refused(&output, 1, "line 3: A token may live for at most 365d");
    assert_eq!(count(&shell), 0);
    assert_refused(&import(&shell, &lines(11), &[]), 1, "11 more cannot be imported");
    assert_eq!(count(&shell), 0);
    let taken = json!({"token": shell.token, "name": "x"}).to_string();
    let output = import(&shell, &format!("{}{taken}\n", lines(1010)), &["--ignore-restrictions"]);
    assert_refused(&output, 1, "line 1011: Another user has this token, as ");
    assert!(stderr(&output).contains("(token_exists). The first 1000 tokens of the file are imported"));
    assert!(!stderr(&output).contains("tokens["), "{}", stderr(&output));
    assert_eq!(count(&shell), 1000);
}

#[test]
fn lines_that_are_tokens_themselves_are_hashed_here() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let text = "opaque-0\r\n\n  Zm9vOmJhcg==\n";
    let dry = import(&shell, text, &["--plain", "--dry-run"]);
    assert!(dry.status.success() && stderr(&dry).contains("holds 2 tokens for bob; nothing is imported"));
    assert_eq!(count(&shell), 0);
    let output = import(&shell, text, &["--plain", "--name", "from Jira"]);
    assert_eq!(first_line(&output), "latchkey: 2 tokens of bob are imported.");
    let me = shell.command(&["me"]).env("LATCHKEY_TOKEN", "Zm9vOmJhcg==").output().unwrap();
    assert!(me.status.success());
    let made = &shell.json(&["token", "list", "--user", "bob"])["items"][1];
    assert_eq!((&made["name"], &made["hint"]), (&json!("from Jira"), &json!("Zm9")));
    assert!(!std::fs::read_to_string(&shell.serving.log).unwrap().contains("opaque-0"));
    assert_refused(
        &import(&shell, "two words\n", &["--plain"]),
        2,
        "line 1: with --plain it must be one token",
    );
}

#[test]
fn tokens_come_by_stdin_too_and_progress_is_shown_on_a_terminal() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    shell.place.write("tokens.jsonl", &lines(1001));
    let args = ["token", "import", "--user", "bob", "--ignore-restrictions", "-", "<", "tokens.jsonl"];
    let (code, shown) = shell.on_terminal(&args, "");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\r1000 of 1001 tokens\u{1b}[K"), "{shown:?}");
    assert!(shown.contains("\u{1b}[Klatchkey: 1001 tokens of bob are imported.\r\n"), "{shown:?}");
    assert_eq!(count(&shell), 1001);
}
