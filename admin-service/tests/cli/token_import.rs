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

fn count(shell: &Shell) -> usize {
    shell.json(&["token", "list", "--user", "bob"])["items"].as_array().unwrap().len()
}

#[test]
fn tokens_move_in_by_their_hashes_however_many_and_however_often() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let output = import(&shell, &lines(450), &["--ignore-restrictions"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "latchkey: 450 tokens of bob are imported.\n");
    let me = shell.command(&["me", "--json"]).env("LATCHKEY_TOKEN", "opaque-449").output().unwrap();
    assert!(String::from_utf8(me.stdout).unwrap().contains(r#""name":"bob""#));
    assert_eq!(count(&shell), 450);
    let output = import(&shell, &format!("\n{}", lines(451)), &["--ignore-restrictions"]);
    assert_eq!(stderr(&output), "latchkey: 1 token of bob is imported; 450 were stored already.\n");
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
fn what_the_service_refuses_is_told_by_line_and_so_is_what_was_imported_before() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let wrong = json!({"token": "x", "name": ""}).to_string();
    let output = import(&shell, &format!("{}\n{wrong}\n", lines(1)), &[]);
    assert_refused(&output, 1, "line 3: `name` must have 1 to 100 characters");
    assert_eq!(count(&shell), 0);
    assert_refused(&import(&shell, &lines(11), &[]), 1, "11 more cannot be imported");
    assert_eq!(count(&shell), 0);
    let output = import(&shell, &format!("{}{wrong}\n", lines(210)), &["--ignore-restrictions"]);
    assert_refused(&output, 1, "line 211: `name` must have 1 to 100 characters");
    assert!(stderr(&output).contains("The tokens of the lines before are imported"), "{}", stderr(&output));
    assert_eq!(count(&shell), 200);
}
