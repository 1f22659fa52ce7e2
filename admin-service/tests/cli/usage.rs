//! What the program says of wrong usage and of what it cannot use: one sentence, an exit code, and nothing made.

use std::net::TcpListener;

use crate::support::{FREE_PORTS, Place, assert_refused, stderr};

#[test]
fn without_a_command_the_program_explains_itself() {
    let output = Place::new().run(&[]);
    assert_eq!(output.status.code(), Some(2));
    for word in ["serve", "bootstrap", "new-epoch", "openapi", "Exit codes"] {
        assert!(stderr(&output).contains(word), "{word}");
    }
    let output = Place::new().run(&["--version"]);
    assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(Place::new().run(&["serve", "--bogus"]).status.code(), Some(2));
}

/// The commands that the help of `command` lists, and theirs.
fn commands_below(place: &Place, command: &[String]) -> Vec<Vec<String>> {
    let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let output = place.run(&args);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command:?}");
    assert!(help.contains("Example") || help.contains("Prints the OpenAPI"), "{command:?} has no example");
    let listed = help
        .split_once("Commands:\n")
        .map_or("", |(_, list)| list)
        .lines()
        .take_while(|line| !line.is_empty())
        // What is further in goes on with the line before.
        .filter(|line| !line.starts_with("   "));
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let below = names.map(|name| [command, &[name.to_owned()]].concat());
    below.flat_map(|command| [commands_below(place, &command), vec![command]].concat()).collect()
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let commands = commands_below(&Place::new(), &[]);
    assert!(
        commands.len() > 25 && commands.contains(&vec!["token".to_owned(), "revoke".to_owned()]),
        "{commands:?}"
    );
}

#[test]
fn wrong_usage_is_one_sentence_and_exit_code_2_and_makes_nothing() {
    let place = Place::new();
    let empty = place.write("empty", "\n# nothing\n");
    for (args, text) in [
        (&["serve", "--token-prefix", "LK"][..], "2 to 16 characters of a-z and 0-9"),
        (&["bootstrap", "--token-prefix", "x"], "2 to 16 characters of a-z and 0-9"),
        (&["bootstrap", "--user", "The Admin"], "1 to 64 characters"),
        (&["serve", "--listen", "8100"], "127.0.0.1:8100"),
        (&["serve", "--edge-secret-file", "nowhere"], "nowhere cannot be read"),
        (&["serve", "--edge-secret-file", &empty], "holds no secret"),
        (&["serve", "--edge-secret", ""], "holds no secret"),
        (&["serve", "--edge-secret", "a b"], "cannot be sent in a header"),
        (&["serve", "--edge-secret", "a", "--edge-secret-file", &empty], "cannot be used with"),
        (&["serve", "--edge-listen", "0.0.0.0:0"], "needs an edge secret"),
        (&["serve", "--database-url", "mysql://x"], "must begin with sqlite:// or postgres://"),
        (&["bootstrap", "--database-url", ""], "is empty"),
        (&["bootstrap", "--database-url-file", "nowhere"], "nowhere cannot be read"),
        (&["serve", "--public-url", "tokens.example.com"], "https://tokens.example.com"),
        (&["serve", "--log-level", "a=b=c"], "is no log level"),
        (&["serve", "--log-format", "xml"], "xml"),
    ] {
        assert_refused(&place.run(args), 2, text);
    }
    assert!(!place.path("latchkey.db").exists());
}

#[test]
fn a_taken_port_is_one_sentence_and_exit_code_2_before_anything_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--edge-listen", "--metrics-listen"] {
        let mut args = vec!["serve"];
        for other in ["--listen", "--edge-listen", "--metrics-listen"] {
            args.extend([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        assert_refused(&place.run(&args), 2, &format!("{flag}: {address} cannot be listened on"));
    }
    assert!(!place.path("latchkey.db").exists());
}

#[test]
fn a_database_that_cannot_be_used_is_one_sentence_and_exit_code_1_and_stays_as_it_is() {
    let place = Place::new();
    let garbage = "this is no database, and it is long enough to be taken for one. ".repeat(40);
    place.write("latchkey.db", &garbage);
    for args in [&["bootstrap"][..], &[&["serve"], &FREE_PORTS[..]].concat()] {
        assert_refused(&place.run(args), 1, "not a SQLite database");
    }
    assert_eq!(std::fs::read_to_string(place.path("latchkey.db")).unwrap(), garbage);
    assert_refused(
        &place.run(&["bootstrap", "--database-url", "sqlite://no/such/folder/x.db"]),
        1,
        "cannot be opened",
    );
}
