//! `latchkey restrictions`, `scheduler`, `audit` and `me`: against a running service.

use serde_json::{Value, json};

use crate::shell::Shell;

#[test]
fn me_tells_whose_token_it_is() {
    let shell = Shell::start();
    insta::assert_snapshot!(shell.masked(&["me"]), @r"
    self           <url>/api/v1/users/admin
    key            xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    name           admin
    email address  -
    display name   admin
    active         true
    deleted        false
    time zone      UTC

    Its token:
    id                  xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    name                bootstrap
    description         -
    user                admin
    hint                xx_xxxx
    schemes             bearer basic
    scopes              latchkey:admin
    allowed cidrs       -
    made by             -
    status              active
    created at          <time>
    expires at          <time>
    expires in seconds  xxxxxxxx
    last used at        -
    revoked at          -
    ");
    assert_eq!(shell.json(&["me"])["name"], "admin");
}

#[test]
fn restrictions_are_shown_and_set_field_by_field() {
    let shell = Shell::start();
    insta::assert_snapshot!(shell.print(&["restrictions", "show"]), @r"
    max lifetime            365d
    max tokens per user     10
    outlive maker           false
    delete expired enabled  true
    delete expired after    30d
    delete expired every    1h
    ");
    let args = ["restrictions", "set", "--max-lifetime", "none", "--max-tokens-per-user", "20"];
    let more = [
        "--outlive-maker",
        "on",
        "--delete-expired",
        "off",
        "--delete-expired-after",
        "60d",
        "--delete-expired-every",
        "2h",
    ];
    let set = shell.json(&[&args[..], &more].concat());
    let wanted = json!({"max_lifetime": null, "max_tokens_per_user": 20, "outlive_maker": true,
        "delete_expired": {"enabled": false, "after": "60d", "every": "2h"}});
    assert_eq!(set, wanted);
    assert_eq!(shell.json(&["restrictions", "show"]), wanted);
}

#[test]
fn tighter_restrictions_are_set_when_somebody_means_them() {
    let shell = Shell::start();
    for tighter in [
        &["--max-lifetime", "90d"][..],
        &["--max-tokens-per-user", "1"],
        &["--delete-expired-after", "1d"],
        &["--max-lifetime", "90d", "--max-tokens-per-user", "none"],
    ] {
        shell.refused(&[&["restrictions", "set"], tighter].concat(), 2, "add --yes. Nothing was changed");
    }
    let set = ["restrictions", "set", "--max-lifetime", "90d"];
    let before = shell.state();
    let (code, shown) = shell.on_terminal(&set, "n\n");
    assert_eq!((code, shell.state()), (Some(1), before));
    assert!(shown.contains("would exceed max lifetime         1"), "{shown}");
    assert!(shown.contains("Set these limits, which are tighter than those in force? [y/N]"), "{shown}");
    assert_eq!(shell.on_terminal(&set, "y\n").0, Some(0));
    assert_eq!(shell.json(&["restrictions", "show"])["max_lifetime"], "90d");
    assert_eq!(
        shell.json(&["restrictions", "set", "--max-tokens-per-user", "5", "--yes"])["max_tokens_per_user"],
        5
    );
}

#[test]
fn a_dry_run_tells_what_exceeds_limits_and_changes_nothing() {
    let shell = Shell::start();
    let before = shell.state();
    let args = ["restrictions", "set", "--max-lifetime", "1d", "--max-tokens-per-user", "0", "--dry-run"];
    insta::assert_snapshot!(shell.masked(&args), @r"
    dry run                           true
    message                           Longer lifetime than 1d: 1 active token, which would keep the expiry. More than 0 active tokens: 1 user, by 1 token in all, which would stay active.
    would exceed max lifetime         1
    would exceed max tokens per user  1
    would exceed users                1

    examples max lifetime:
    ID                                    NAME       USER   HINT     EXPIRES AT
    xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx  bootstrap  admin  xx_xxxx  <time>

    examples max tokens per user:
    USER   LIVE TOKENS
    admin  1
    ");
    assert_eq!(shell.json(&args)["would_exceed"]["max_lifetime"], 1);
    assert_eq!(shell.state(), before);
}

#[test]
fn limits_are_applied_to_existing_tokens_when_somebody_means_it() {
    let shell = Shell::start();
    let args = ["restrictions", "set", "--max-lifetime", "1d", "--apply-to-existing"];
    shell.refused(&args, 2, "add --yes. Nothing was changed");
    let before = shell.state();
    let tried = shell.json(&[&args[..], &["--dry-run"]].concat());
    assert_eq!(tried["would_shorten"], json!({"tokens": 1, "at_once": 0}));
    let (code, shown) = shell.on_terminal(&args, "n\n");
    assert_eq!((code, shell.state()), (Some(1), before));
    assert!(shown.contains("would shorten tokens"), "{shown}");
    assert!(
        shown.contains("Set these limits, and shorten the expiry of these tokens for good? [y/N]"),
        "{shown}"
    );
    let yes = [&args[..], &["--yes"]].concat();
    assert_eq!(shell.json(&yes)["shortened"], json!({"tokens": 1, "at_once": 0}));
    // The same limits once more: what exists may have changed since.
    assert_eq!(shell.json(&yes)["shortened"]["tokens"], 0);
}

#[test]
fn restrictions_that_cannot_be_are_refused() {
    let shell = Shell::start();
    for (args, code, text) in [
        (&[][..], 2, "nothing to change is given"),
        (&["--max-lifetime", "365d"], 2, "or all of it is so already"),
        (&["--max-lifetime", "soon"], 2, "or none"),
        (&["--max-tokens-per-user", "many"], 2, "or none"),
        (&["--max-lifetime", "0s", "--yes"], 1, "or null for no limit, and is \"0s\" (invalid_value)"),
        (&["--delete-expired", "yes"], 2, "must be on or off"),
        (&["--delete-expired-every", "0s"], 1, "(invalid_value)"),
    ] {
        shell.refused(&[&["restrictions", "set"], args].concat(), code, text);
    }
}

#[test]
fn a_long_run_of_the_scheduler_is_waited_for_with_progress() {
    let shell = Shell::start();
    shell.insert_expired(250_000);
    let (code, shown) = shell.on_terminal(&["scheduler", "run"], "");
    assert_eq!(code, Some(0), "{shown}");
    let waited = shown.contains("00 tokens\u{1b}[K") && shown.contains("the run has ended: 250000 tokens");
    // A machine that is fast enough has no long run.
    let at_once = shown.contains("finished  true") && shown.contains("deleted   250000");
    assert!(waited || at_once, "{shown:?}");
    assert_eq!(shell.json(&["token", "list"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn the_scheduler_runs_when_told_to() {
    let shell = Shell::start();
    shell.print(&["restrictions", "set", "--delete-expired-after", "0s", "--yes"]);
    shell.print(&["token", "create", "short", "--expires-in", "1h"]);
    shell.place.sql("UPDATE tokens SET expires_at = created_at + 1 WHERE name = 'short'");
    assert_eq!(shell.print(&["scheduler", "run"]), "finished  true\ndeleted   1\n");
    insta::assert_snapshot!(shell.masked(&["scheduler", "show"]), @r"
    enabled         true
    after           0s
    every           1h
    last run at     <time>
    last deleted    1
    last error      -
    next run at     <time>
    holder          -
    deleted so far  -
    paused          -
    ");
    assert_eq!(shell.json(&["scheduler", "run"]), json!({"finished": true, "deleted": 0}));
    assert_eq!(shell.json(&["scheduler", "show"])["last_deleted"], 0);
}

#[test]
fn statistics_count_users_tokens_and_requests() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    insta::assert_snapshot!(shell.masked(&["stats", "--hours", "2"]), @r"
    as of               <time>
    users total         2
    users active        2
    users disabled      0
    users deleted       0
    tokens total        1
    tokens active       1
    tokens expired      0
    tokens revoked      0
    expiring in 7 days  0

    requests by hour:
    HOUR                  ALLOWED  DENIED
    <time>  0        0
    <time>  0        0
    ");
    let stats = shell.json(&["stats"]);
    assert_eq!(
        (&stats["users"]["total"], stats["requests_by_hour"].as_array().unwrap().len()),
        (&2.into(), 24)
    );
    shell.refused(&["stats", "--hours", "0"], 2, "0 is not in 1..");
    shell.refused(&["stats", "--hours", "9999"], 1, "must be 1 to 2160, and is 9999 (invalid_query)");
}

#[test]
fn the_audit_log_is_listed_by_what_is_asked_for() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    shell.print(&["user", "delete", "bob", "--yes"]);
    let args = ["audit", "list", "--actor", "admin", "--since", "1h"];
    insta::assert_snapshot!(shell.masked(&args), @r#"
    AT                 ACTOR  ACTION        SUBJECT  ADDRESS    CHANGES
    xxxx-xx-xx xx:xxx  admin  user.deleted  bob      127.0.0.1  active true → false, deleted false → true
    xxxx-xx-xx xx:xxx  admin  user.created  bob      127.0.0.1  active true, deleted false, display_name bob, time_zone UTC
    "#);
    let list =
        |args: &[&str]| shell.json(&[&["audit", "list"], args].concat())["items"].as_array().unwrap().len();
    assert_eq!(list(&["--action", "user.created", "--subject", "bob"]), 1);
    assert_eq!(list(&["--limit", "3"]), 3);
    assert_eq!(list(&["--since", "2999-01-01T00:00:00Z"]), 0);
    for (args, code, text) in [
        (&["--action", "user.eaten"], 1, "must be one of user.created"),
        (&["--actor", "system:nobody"], 1, "(invalid_query)"),
        (&["--since", "yesterday"], 2, "such as 7d"),
    ] {
        shell.refused(&[&["audit", "list"], &args[..]].concat(), code, text);
    }
    let nothing = shell.run(&["audit", "list", "--since", "2999-01-01T00:00:00Z"]);
    assert!(nothing.stdout.is_empty() && nothing.stderr == b"latchkey: there are no entries.\n");
}

#[test]
fn the_audit_log_is_exported_whole_and_the_oldest_first() {
    let shell = Shell::start();
    shell.place.sql(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000) \
         INSERT INTO audit SELECT substr(id, 1, 24) || printf('%012x', n), at, actor, token_id, address, request_id, \
         action, 'user-' || n, details, client_request_id FROM n, (SELECT * FROM audit WHERE action = 'user.created')",
    );
    let output = shell.run(&["audit", "export"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "latchkey: 3002 entries are exported.\n");
    assert_eq!(lines.len(), 3002);
    assert!(lines.is_sorted_by_key(|line| line["id"].as_str().unwrap()));
    let some =
        shell.run(&["audit", "export", "--action", "token.created", "--until", "2999-01-01T00:00:00Z"]);
    assert_eq!(some.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    shell.refused(&["audit", "export", "--action", "user.eaten"], 1, "must be one of user.created");
}
