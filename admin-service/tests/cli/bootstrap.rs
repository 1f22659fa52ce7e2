//! `latchkey bootstrap`: the first administrator, once.

use std::fs::File;
use std::process::{Child, Output, Stdio};

use latchkey::token::{TokenPrefix, check_shape};

use crate::support::{Place, assert_refused, stderr};

#[test]
fn bootstrap_prints_the_token_alone_and_only_once() {
    let place = Place::new();
    let output = place.run(&["bootstrap"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    let token = line.strip_suffix('\n').unwrap();
    assert_eq!(check_shape(&TokenPrefix::default(), token.as_bytes()), Ok(()));
    assert!(!stderr(&output).contains(token) && stderr(&output).contains("latchkey:admin"));
    assert_refused(&place.run(&["bootstrap"]), 1, "there is an administrator already");
    assert_refused(&place.run(&["bootstrap", "--user", "carol"]), 1, "there is an administrator already");
    let database = std::fs::read(place.path("latchkey.db")).unwrap();
    assert!(!database.windows(token.len()).any(|part| part == token.as_bytes()));
}

#[test]
fn of_several_bootstraps_at_once_one_wins() {
    let place = Place::new();
    let started: Vec<Child> = (0..6)
        .map(|n| {
            let user = format!("admin{n}");
            let mut command = place.command(&["bootstrap", "--user", &user]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let (won, lost): (Vec<&Output>, Vec<&Output>) =
        outputs.iter().partition(|output| output.status.success());
    assert_eq!(won.len(), 1, "{:?}", outputs.iter().map(stderr).collect::<Vec<_>>());
    for output in lost {
        assert_refused(output, 1, "there is an administrator already");
    }
}

#[test]
fn a_token_that_could_not_be_shown_does_not_stand_in_the_way() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["bootstrap"]).stdout(full).output().unwrap();
    assert_refused(&output, 1, "it was revoked; run this again");
    place.bootstrap();
}

#[test]
fn bootstrap_works_beside_a_running_service_and_its_token_opens_it() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let token = place.bootstrap();
    let answer = serving.ask("api", &format!("GET /api/v1/me HTTP/1.1\r\nauthorization: Bearer {token}"), "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""name":"admin""#), "{answer}");
}

#[test]
fn bootstrap_writes_its_token_to_a_new_file_that_only_its_owner_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let taken = place.write("taken", "not a token\n");
    assert_refused(
        &place.run(&["bootstrap", "--out", &taken]),
        1,
        "is there already, and nothing is overwritten",
    );
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "not a token\n");
    assert_refused(&place.run(&["bootstrap", "--out", "no/such/folder"]), 1, "cannot be made");
    assert!(!place.path("latchkey.db").exists(), "a refused command has made a database");
    let output = place.run(&["bootstrap", "--out", "admin-token"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let path = place.path("admin-token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(check_shape(&TokenPrefix::default(), text.trim_end().as_bytes()), Ok(()));
    assert!(!stderr(&output).contains(text.trim_end()));
    assert_refused(&place.run(&["bootstrap", "--out", "other"]), 1, "there is an administrator already");
    assert!(!place.path("other").exists(), "a file without a token is left");
}
