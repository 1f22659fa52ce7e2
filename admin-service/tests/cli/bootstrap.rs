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
