//! `latchkey user`: its commands against a running service.

use crate::shell::Shell;

#[test]
fn users_are_made_shown_changed_and_listed() {
    let shell = Shell::start();
    let bob = [
        "--display-name",
        "Bob Example",
        "--email-address",
        "bob@example.com",
        "--time-zone",
        "Europe/Berlin",
    ];
    let made = shell.masked(&[&["user", "create", "bob"][..], &bob].concat());
    insta::assert_snapshot!(made, @r"
    self           <url>/api/v1/users/bob
    key            xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
    name           bob
    email address  bob@example.com
    display name   Bob Example
    active         true
    deleted        false
    time zone      Europe/Berlin
    ");
    assert_eq!(shell.masked(&["user", "show", "bob"]), made);
    shell.print(&["user", "update", "bob", "--display-name", "Bobby", "--no-email-address"]);
    shell.print(&["user", "create", "carol"]);
    shell.print(&["user", "disable", "carol"]);
    shell.print(&["user", "delete", "bob", "--yes"]);
    insta::assert_snapshot!(shell.masked(&["user", "list"]), @r"
    NAME   DISPLAY NAME  EMAIL ADDRESS  TIME ZONE      STATE
    admin  admin         -              UTC            active
    bob    Bobby         -              Europe/Berlin  deleted
    carol  carol         -              UTC            disabled
    ");
    shell.print(&["user", "enable", "carol"]);
    assert_eq!(shell.json(&["user", "show", "carol"])["active"], true);
}

#[test]
fn programs_get_the_apis_json() {
    let shell = Shell::start();
    let made = shell.json(&["user", "create", "bob"]);
    assert_eq!((&made["name"], &made["emailAddress"]), (&"bob".into(), &serde_json::Value::Null));
    assert_eq!(shell.json(&["user", "show", "bob"]), made);
    assert_eq!(shell.json(&["user", "update", "bob", "--time-zone", "UTC"]), made);
    let list = shell.json(&["user", "list"]);
    assert_eq!((&list["items"][1], &list["next_cursor"]), (&made, &serde_json::Value::Null));
    let one = shell.json(&["user", "list", "--limit", "1"]);
    assert!(one["items"].as_array().unwrap().len() == 1 && one["next_cursor"].is_string());
    assert_eq!(shell.print(&["user", "delete", "bob", "--yes", "--json"]), "");
}

#[test]
fn a_disabled_users_token_is_refused_and_works_again_when_it_is_enabled() {
    let shell = Shell::start();
    let (_, token) = shell.user_with_token("bob", &[]);
    let works = || shell.command(&["me"]).env("LATCHKEY_TOKEN", &token).output().unwrap().status.success();
    assert!(works());
    shell.print(&["user", "disable", "bob"]);
    assert!(!works());
    shell.print(&["user", "enable", "bob"]);
    assert!(works());
}

#[test]
fn a_user_gets_limits_of_its_own_and_loses_them() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    let restrictions = |args: &[&str]| shell.print(&[&["user", "restrictions"], args].concat());
    insta::assert_snapshot!(restrictions(&["show", "bob"]), @r"
    effective max lifetime         365d
    effective max tokens per user  10
    ");
    insta::assert_snapshot!(restrictions(&["set", "bob", "--max-tokens-per-user", "20"]), @r"
    own max tokens per user        20
    effective max lifetime         365d
    effective max tokens per user  20
    ");
    restrictions(&["set", "bob", "--max-lifetime", "none"]);
    let own = || shell.json(&["user", "restrictions", "show", "bob"])["own"].clone();
    assert_eq!(own(), serde_json::json!({"max_lifetime": null, "max_tokens_per_user": 20}));
    restrictions(&["set", "bob", "--max-lifetime", "everyone"]);
    assert_eq!(own(), serde_json::json!({"max_tokens_per_user": 20}));
    let reset = shell.run(&["user", "restrictions", "reset", "bob"]);
    assert!(reset.stdout.is_empty());
    assert_eq!(reset.stderr, b"latchkey: the user bob has the limits of everyone.\n");
    assert_eq!(own(), serde_json::json!({}));
    for (args, code, text) in [
        (&["set", "bob"][..], 2, "nothing to change is given"),
        (&["set", "bob", "--max-lifetime", "everyone"], 2, "or all of it is so already"),
        (&["set", "bob", "--max-lifetime", "soon"], 2, "or none, or everyone"),
        (&["set", "bob", "--max-lifetime", "0s"], 1, "and is \"0s\" (invalid_value)"),
        (&["set", "bob", "--max-tokens-per-user", "many"], 2, "or none, or everyone"),
        (&["set", "nobody", "--max-tokens-per-user", "1"], 1, "(user_not_found)"),
        (&["reset", "nobody"], 1, "(user_not_found)"),
        (&["show", "nobody"], 1, "(user_not_found)"),
    ] {
        shell.refused(&[&["user", "restrictions"], args].concat(), code, text);
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob"]);
    for (args, code, text) in [
        (&["user", "create", "bob"][..], 1, "The user name bob is taken (user_exists)"),
        (&["user", "create", "Bob Builder"], 2, "must be 1 to 64 characters"),
        (&["user", "create", "carol", "--email-address", "carol"], 2, "must be an e-mail address"),
        (&["user", "create", "carol", "--time-zone", "Mars"], 2, "IANA time zone database"),
        (&["user", "create", "carol", "--display-name", "<b>"], 2, "must not contain '<' or '>'"),
        (&["user", "show", "nobody"], 1, "There is no user nobody (user_not_found)"),
        (&["user", "update", "nobody", "--time-zone", "UTC"], 1, "(user_not_found)"),
        (&["user", "update", "bob"], 2, "nothing to change is given"),
        (
            &["user", "update", "bob", "--email-address", "b@x", "--no-email-address"],
            2,
            "cannot be used with",
        ),
        (&["user", "disable", "nobody"], 1, "(user_not_found)"),
        (&["user", "delete", "nobody", "--yes"], 1, "(user_not_found)"),
        (&["user", "delete", "bob"], 2, "add --yes. Nothing was changed"),
        (&["user", "list", "--limit", "0"], 2, "0 is not in 1.."),
    ] {
        shell.refused(args, code, text);
    }
}

#[test]
fn on_a_terminal_a_deletion_is_asked_for() {
    let shell = Shell::start();
    shell.print(&["user", "create", "bob", "--display-name", "Bob Example"]);
    let before = shell.state();
    for answer in ["n\n", "\n", "\u{4}", "yess\n"] {
        let (code, shown) = shell.on_terminal(&["user", "delete", "bob"], answer);
        assert_eq!(code, Some(1), "{shown}");
        assert!(
            shown.contains("Delete the user bob (Bob Example) for good, and refuse all its tokens? [y/N]")
        );
        assert!(shown.contains("latchkey: nothing was changed."), "{shown}");
    }
    assert_eq!(shell.state(), before);
    let (code, shown) = shell.on_terminal(&["user", "delete", "bob"], "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("latchkey: the user bob is deleted, and all its tokens are refused."));
    assert_eq!(shell.json(&["user", "show", "bob"])["deleted"], true);
}
