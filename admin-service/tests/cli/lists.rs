//! Long lists, and what names can hold.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::shell::Shell;

/// How many tokens make a long list.
const MANY: usize = 10_000;

fn with_many_tokens() -> Shell {
    let shell = Shell::start();
    shell.place.sql(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9999) \
         INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at) \
         SELECT printf('019a0000-0000-7000-8000-%012x', n), (SELECT id FROM users), randomblob(32), 'token ' || n, \
         'lk_abcd', 'bearer', '', '', 0 FROM n",
    );
    shell
}

#[test]
fn a_list_of_ten_thousand_is_followed_to_its_end() {
    let shell = with_many_tokens();
    let list = shell.json(&["token", "list"]);
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &list["next_cursor"]), (MANY, &Value::Null));
    let names: std::collections::HashSet<&str> =
        items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), MANY);
    assert_eq!(shell.print(&["token", "list"]).lines().count(), MANY + 1);
    let some = shell.json(&["token", "list", "--limit", "450"]);
    assert_eq!(some["items"].as_array().unwrap().as_slice(), &items[..450]);
}

#[test]
fn progress_is_shown_on_a_terminal_and_gone_at_the_end() {
    let shell = with_many_tokens();
    let (code, shown) = shell.on_terminal(&["token", "list", ">", "list"], "");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\r9800 tokens") && shown.ends_with("\r\u{1b}[K"), "{shown:?}");
    assert!(std::fs::read_to_string(shell.place.path("list")).unwrap().lines().count() == MANY + 1);
    let (_, shown) = shell.on_terminal(&["token", "list"], "");
    assert!(!shown.contains("9800 tokens"));
}

#[test]
fn who_reads_no_further_ends_the_list_without_a_complaint() {
    let shell = with_many_tokens();
    let mut command = shell.command(&["token", "list"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut head = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(head.starts_with("ID ") && output.status.success() && output.stderr.is_empty());
}

#[test]
fn a_name_that_is_no_text_does_nothing_to_a_terminal() {
    let shell = Shell::start();
    // The service would not take such names now, but may have had them.
    shell.place.sql(
        "UPDATE users SET display_name = 'a' || char(27) || '[2J' || char(8238) || 'b' || char(10) || 'c'",
    );
    let table = shell.print(&["user", "list"]);
    assert!(table.contains(r"a\u{1b}[2J\u{202e}b\nc") && table.lines().count() == 2, "{table}");
    let shown = shell.print(&["me"]);
    assert!(shown.contains(r"display name   a\u{1b}[2J\u{202e}b\nc"), "{shown}");
    assert_eq!(shell.json(&["me"])["displayName"], "a\u{1b}[2J\u{202e}b\nc", "programs get it as it is");
}
