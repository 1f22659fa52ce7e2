//! `latchkey token`: its commands against a running service.

use std::fs::File;

use latchkey::token::{TokenPrefix, check_shape};
use latchkey_admin::clock::Sources;

use serde_json::{Value, json};

use crate::shell::{Shell, mask};
use crate::support::{assert_refused, stderr};

#[test]
fn a_new_token_stands_alone_on_stdout_and_opens_the_service() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let output = shell.run(&["token", "create", "ci", "--user", "bob", "--expires-in", "30d"]);
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    let token = line.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(&TokenPrefix::default(), token.as_bytes()), Ok(()));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(!stderr(&output).contains(token));
    insta::assert_snapshot!(mask(&stderr(&output)), @r"
    latchkey: the token ci of bob is valid until <time> and is not shown again; its id is xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx.
    ");
    let me = shell.command(&["me", "--json"]).env("LATCHKEY_TOKEN", token).output().unwrap();
    assert!(String::from_utf8(me.stdout).unwrap().contains(r#""name":"bob""#));
}

#[test]
fn a_token_has_what_it_was_given() {
    let shell = Shell::start();
    let time = "2199-12-31T00:00:00Z";
    shell.print(&["restrictions", "set", "--max-lifetime", "none"]);
    let args = ["token", "create", "ci", "--expires-at", time, "--scope", "read", "--scope", "write,all x"];
    let more =
        ["--scheme", "basic", "--allowed-cidr", "10.0.0.0/8,192.0.2.1", "--description", "for the builds"];
    let made = shell.json(&[&args[..], &more].concat());
    assert_eq!(made["expires_at"], time);
    assert_eq!(made["scopes"], json!(["read", "write,all", "x"]));
    assert_eq!(made["schemes"], json!(["basic"]));
    assert_eq!(made["allowed_cidrs"], json!(["10.0.0.0/8", "192.0.2.1/32"]));
    assert_eq!(made["description"], "for the builds");
    let token = made["token"].as_str().unwrap();
    assert!(made["authorization"]["basic"].is_string() && made["authorization"]["bearer"].is_null());
    let shown = shell.print(&["token", "show", made["id"].as_str().unwrap()]);
    assert!(!shown.contains(token));
    insta::assert_snapshot!(mask(&shown), @r"
    id                  xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    name                ci
    description         for the builds
    user                admin
    hint                xx_xxxx
    schemes             basic
    scopes              read write,all x
    allowed cidrs       10.0.0.0/8 192.0.2.1/32
    made by             xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    status              active
    created at          <time>
    expires at          <time>
    expires in seconds  xxxxxxxxxx
    last used at        -
    revoked at          -
    ");
}

#[test]
fn a_token_is_changed_field_by_field() {
    let shell = Shell::start();
    let (id, _) = shell.user_with_token("bob", &["--scope", "read", "--allowed-cidr", "10.0.0.0/8"]);
    let update = |args: &[&str]| shell.json(&[&["token", "update", &id], args].concat());
    let before = shell.json(&["token", "show", &id]);
    let after =
        update(&["--name", "other", "--description", "a note", "--scope", "write", "--from-anywhere"]);
    assert_eq!((&after["name"], &after["description"]), (&"other".into(), &"a note".into()));
    assert_eq!((&after["scopes"], &after["allowed_cidrs"]), (&json!(["write"]), &json!([])));
    assert_eq!(after["expires_at"], before["expires_at"]);
    let soon = (Sources::system().now() + std::time::Duration::from_secs(3600)).to_string();
    assert!(update(&["--expires-at", &soon])["expires_in_seconds"].as_u64().unwrap() <= 3600);
    let last =
        update(&["--no-scopes", "--no-description", "--expires-latest", "--allowed-cidr", "10.0.0.0/8"]);
    assert_eq!((&last["scopes"], &last["description"]), (&json!([]), &json!(null)));
    assert_eq!(
        (&last["expires_at"], &last["allowed_cidrs"]),
        (&before["expires_at"], &before["allowed_cidrs"])
    );
}

#[test]
fn a_token_is_rotated_with_an_overlap_and_without() {
    let shell = Shell::start();
    let (id, old) = shell.user_with_token("bob", &["--scope", "read"]);
    let works =
        |token: &str| shell.command(&["me"]).env("LATCHKEY_TOKEN", token).output().unwrap().status.success();
    let output = shell.run(&["token", "rotate", &id, "--overlap", "1h", "--expires-in", "30d"]);
    let new = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && new.lines().count() == 1, "{}", stderr(&output));
    assert!(stderr(&output).starts_with("latchkey: the token own of bob is valid until "));
    assert!(works(new.trim_end()) && works(&old) && new.trim_end() != old);
    let (id, second) = shell.user_with_token("carol", &[]);
    shell.refused(&["token", "rotate", &id], 2, "add --yes. Nothing was changed");
    let made = shell.json(&["token", "rotate", &id, "--yes"]);
    assert!(works(made["token"].as_str().unwrap()) && !works(&second));
}

#[test]
fn a_rotation_whose_token_was_lost_is_repeated() {
    let shell = Shell::start();
    let (id, _) = shell.user_with_token("bob", &[]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = shell.command(&["token", "rotate", &id, "--yes"]).stdout(full).output().unwrap();
    assert_refused(&output, 1, &format!("rotate {id} again, and another takes its place"));
    let token = shell.print(&["token", "rotate", &id, "--yes"]);
    let output = shell.command(&["me"]).env("LATCHKEY_TOKEN", token.trim_end()).output().unwrap();
    assert!(output.status.success());
    let list = shell.json(&["token", "list", "--user", "bob"]);
    let active = list["items"].as_array().unwrap().iter().filter(|token| token["status"] == "active");
    assert_eq!(active.count(), 1);
}

#[test]
fn a_token_that_could_not_be_shown_is_revoked() {
    let shell = Shell::start();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = shell.command(&["token", "create", "lost"]).stdout(full).output().unwrap();
    assert_refused(&output, 1, "it was revoked; run this again");
    let tokens = shell.json(&["token", "list"]);
    assert_eq!(
        (&tokens["items"][1]["name"], &tokens["items"][1]["status"]),
        (&"lost".into(), &"revoked".into())
    );
}

#[test]
fn one_lists_ones_own_tokens_and_an_administrator_those_of_others() {
    let shell = Shell::start();
    let (id, token) = shell.user_with_token("bob", &["--scope", "latchkey:tokens", "--expires-in", "30d"]);
    insta::assert_snapshot!(shell.masked(&["token", "list", "--user", "bob"]), @r"
    ID                                    NAME  HINT     STATUS  EXPIRES            LAST USED  SCOPES
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  own   xx_xxxx  active  xxxx-xx-xx xx:xxx  -          latchkey:tokens
    ");
    let as_bob = |args: &[&str]| shell.command(args).env("LATCHKEY_TOKEN", &token).output().unwrap();
    let own = as_bob(&["token", "list", "--json"]);
    assert!(String::from_utf8(own.stdout).unwrap().contains(&id));
    assert_refused(&as_bob(&["token", "list", "--user", "admin"]), 1, "(insufficient_scope)");
    assert_refused(&as_bob(&["user", "list"]), 1, "(insufficient_scope)");
    assert!(as_bob(&["token", "create", "second"]).status.success());
    assert!(as_bob(&["token", "revoke", &id, "--yes"]).status.success());
    assert_refused(&as_bob(&["me"]), 1, "LATCHKEY_TOKEN is expired, revoked, or not of http://");
}

#[test]
fn an_administrator_looks_for_tokens_among_those_of_all_users() {
    let shell = Shell::start();
    shell.user_with_token("bob", &["--expires-in", "2d", "--description", "for the builds"]);
    let (id, token) = shell.user_with_token("carol", &["--scope", "latchkey:tokens"]);
    shell.print(&["token", "create", "ci", "--user", "carol"]);
    shell.print(&["token", "revoke", &id, "--yes"]);
    insta::assert_snapshot!(shell.masked(&["token", "search"]), @r"
    ID                                    USER   NAME       HINT     STATUS   EXPIRES            LAST USED  SCOPES
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  admin  bootstrap  xx_xxxx  active   xxxx-xx-xx xx:xxx  -          latchkey:admin
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  bob    own        xx_xxxx  active   xxxx-xx-xx xx:xxx  -          -
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  carol  own        xx_xxxx  revoked  xxxx-xx-xx xx:xxx  -          latchkey:tokens
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  carol  ci         xx_xxxx  active   xxxx-xx-xx xx:xxx  -          -
    ");
    let found = |args: &[&str]| {
        let list = shell.json(&[&["token", "search"], args].concat());
        let name = |token: &Value| {
            format!("{}/{}", token["user"].as_str().unwrap(), token["name"].as_str().unwrap())
        };
        list["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(found(&["builds"]), ["bob/own"]);
    assert_eq!(found(&["--expires-before", "7d"]), ["bob/own"]);
    assert_eq!(found(&["--status", "revoked"]), ["carol/own"]);
    assert_eq!(found(&["--user", "carol", "--status", "active"]), ["carol/ci"]);
    assert_eq!(found(&["--last-used-before", "1d"]), [""; 0]);
    assert_eq!(found(&["--last-used-before", "2999-01-01T00:00:00Z", "--limit", "2"]).len(), 2);
    let nothing = shell.run(&["token", "search", "nothing"]);
    assert!(nothing.stdout.is_empty() && nothing.stderr == b"latchkey: there are no such tokens.\n");
    for (args, code, text) in [
        (&["--status", "lost"][..], 2, "lost"),
        (&["--expires-before", "soon"], 2, "such as 7d"),
        (&["--user", "Carol X"], 2, "1 to 64 characters"),
        (&[""], 1, "(invalid_query)"),
    ] {
        shell.refused(&[&["token", "search"], args].concat(), code, text);
    }
    let output = shell.command(&["token", "search"]).env("LATCHKEY_TOKEN", token).output().unwrap();
    assert_refused(&output, 1, "(api_key_invalid)");
}

#[test]
fn several_tokens_are_revoked_at_once_and_again() {
    let shell = Shell::start();
    let (one, token) = shell.user_with_token("bob", &[]);
    let two = shell.json(&["token", "create", "two"]);
    let two = two["id"].as_str().unwrap();
    for _ in 0..2 {
        let output = shell.run(&["token", "revoke", &one, two, "--yes"]);
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(stderr(&output).lines().count(), 2);
    }
    assert_eq!(shell.json(&["token", "show", &one])["status"], "revoked");
    let output = shell.command(&["me"]).env("LATCHKEY_TOKEN", token).output().unwrap();
    assert_refused(&output, 1, "(api_key_invalid)");
}

#[test]
fn expired_tokens_are_deleted_and_no_others() {
    let shell = Shell::start();
    shell.print(&["token", "create", "short", "--expires-in", "1h"]);
    shell.place.sql("UPDATE tokens SET expires_at = created_at + 1 WHERE name = 'short'");
    shell.print(&["token", "create", "long"]);
    let output = shell.run(&["token", "delete-expired", "--yes"]);
    assert_eq!(stderr(&output), "latchkey: 1 expired token of admin is deleted.\n");
    assert_eq!(shell.json(&["token", "delete-expired", "--user", "admin", "--yes"])["deleted"], 0);
    let names: Vec<_> = shell.json(&["token", "list"])["items"].as_array().unwrap().clone();
    assert_eq!(
        names.iter().map(|token| token["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["bootstrap", "long"]
    );
}

#[test]
fn many_expired_tokens_are_deleted_with_progress() {
    let shell = Shell::start();
    shell.insert_expired(12_000);
    let (code, shown) = shell.on_terminal(&["token", "delete-expired", "--yes"], "");
    assert_eq!(code, Some(0), "{shown}");
    // How many at a time, that is for the time they take.
    let progress = shown.split('\r').filter_map(|line| line.strip_suffix(" tokens\u{1b}[K"));
    let progress: Vec<u32> = progress.map(|count| count.parse().expect("a count")).collect();
    assert!(progress.len() >= 2 && progress.is_sorted_by(|one, other| one < other), "{shown:?}");
    assert!(shown.ends_with("\u{1b}[Klatchkey: 12000 expired tokens of admin are deleted.\r\n"), "{shown:?}");
    assert_eq!(shell.json(&["token", "list"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_refused_changes_nothing() {
    let shell = Shell::start();
    let (id, _) = shell.user_with_token("bob", &[]);
    let nobodys = "019a0000-0000-7000-8000-000000000000";
    for (args, code, text) in [
        (&["token", "create", "a", "--user", "nobody"][..], 1, "(user_not_found)"),
        (&["token", "create", ""], 2, "must have 1 to 100 characters"),
        (&["token", "create"], 2, ""),
        (&["token", "create", "a", "--expires-in", "30"], 2, "must be a length of time: a whole number"),
        (&["token", "create", "a", "--expires-in", "1000d"], 1, "; 1000d was asked for (expiry_too_long)"),
        (
            &["token", "create", "a", "--expires-at", "2020-01-01T00:00:00Z"],
            1,
            "2020-01-01T00:00:00Z was asked for (invalid_value)",
        ),
        (&["token", "create", "a", "--expires-at", "tomorrow"], 2, "--expires-at"),
        (
            &["token", "create", "a", "--expires-in", "1d", "--expires-at", "2030-01-01T00:00:00Z"],
            2,
            "cannot be used with",
        ),
        (&["token", "create", "a", "--scope", "\""], 1, "(invalid_value)"),
        (&["token", "create", "a", "--scheme", "digest"], 2, "digest"),
        (
            &["token", "create", "a", "--allowed-cidr", "10.0.0.1/8"],
            1,
            "10.0.0.0/8 and not 10.0.0.1/8 (invalid_value)",
        ),
        (&["token", "show", nobodys], 1, "(token_not_found)"),
        (&["token", "show", "bob"], 2, "must be a token's identifier (a UUID)"),
        (&["token", "update", nobodys, "--no-scopes"], 1, "(token_not_found)"),
        (&["token", "update", &id], 2, "nothing to change is given"),
        (&["token", "update", &id, "--no-scopes", "--scope", "a"], 2, "cannot be used with"),
        (&["token", "update", &id, "--allowed-cidr", "x"], 1, "--allowed-cidr must hold networks such as"),
        (&["token", "update", &id, "--expires-at", "2199-01-01T00:00:00Z"], 1, "(expiry_too_long)"),
        (&["token", "rotate", nobodys, "--yes"], 1, "(token_not_found)"),
        (&["token", "rotate", &id, "--overlap", "soon"], 2, "must be a length of time"),
        (&["token", "rotate", &id, "--overlap", "31d"], 1, "(invalid_value)"),
        (&["token", "rotate", &id, "--yes", "--expires-in", "1000d"], 1, "(expiry_too_long)"),
        (&["token", "revoke", nobodys, "--yes"], 1, "(token_not_found)"),
        (&["token", "revoke", &id], 2, "add --yes. Nothing was changed"),
        (&["token", "delete-expired"], 2, "add --yes. Nothing was changed"),
        (&["token", "delete-expired", "--user", "nobody", "--yes"], 1, "(user_not_found)"),
        (&["token", "list", "--user", "nobody"], 1, "(user_not_found)"),
    ] {
        if text.is_empty() {
            assert_eq!(shell.run(args).status.code(), Some(code));
        } else {
            shell.refused(args, code, text);
        }
    }
}

#[test]
fn on_a_terminal_a_revocation_is_asked_for() {
    let shell = Shell::start();
    let (id, _) = shell.user_with_token("bob", &[]);
    let before = shell.state();
    let (code, shown) = shell.on_terminal(&["token", "revoke", &id], "no\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("Revoke own (lk_") && shown.contains(") of bob for good? [y/N]"), "{shown}");
    let (code, shown) = shell.on_terminal(&["token", "delete-expired", "--user", "bob"], "no\n");
    assert!(code == Some(1) && shown.contains("Delete all expired tokens of bob for good? [y/N]"), "{shown}");
    let (code, shown) = shell.on_terminal(&["token", "rotate", &id], "no\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(") of bob, so that the old one is refused from now on? [y/N]"), "{shown}");
    assert_eq!(shell.state(), before);
    assert_eq!(shell.on_terminal(&["token", "revoke", &id], "yes\n").0, Some(0));
    assert_eq!(shell.json(&["token", "show", &id])["status"], "revoked");
}
