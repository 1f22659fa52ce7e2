//! `latchkey serve` on a database that is not there: it says so, and waits for an administrator, or refuses to start.

use std::fs;

use crate::support::{FREE_PORTS, Place, Serving, assert_refused, wait_for};

/// The status and body of what an edge, or whoever else, is answered.
fn answer(serving: &Serving, listener: &str, path: &str) -> (String, String) {
    let answer = serving.ask(listener, &format!("GET {path} HTTP/1.1"), "");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

fn warnings(serving: &Serving) -> Vec<String> {
    let lines = serving.lines().into_iter().filter(|line| line["level"] == "WARN");
    lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_database_is_told_of_and_the_service_waits_for_its_administrator() {
    let place = Place::new();
    let serving = place.serve(&[]);
    for text in ["made a new, empty database", "the database has never had an administrator"] {
        wait_for(text, || warnings(&serving).iter().any(|warning| warning.contains(text)));
    }
    for (listener, path) in [("edge", "/edge/v1/changes"), ("metrics", "/readyz")] {
        let (status, body) = answer(&serving, listener, path);
        assert_eq!(status, "503", "{body}");
        assert!(
            body.contains(r#""code":"not_bootstrapped""#) && body.contains("latchkey bootstrap"),
            "{body}"
        );
    }
    let token = place.bootstrap();
    assert_eq!(answer(&serving, "metrics", "/readyz").0, "200");
    let me = serving.ask("api", &format!("GET /api/v1/me HTTP/1.1\r\nauthorization: Bearer {token}"), "");
    assert!(me.starts_with("HTTP/1.1 200"), "{me}");
    wait_for("the feed", || answer(&serving, "edge", "/edge/v1/changes").0 == "200");
    drop(serving);
    let again = place.serve(&[]);
    assert_eq!(warnings(&again), [""; 0]);
}

#[test]
fn a_database_that_must_exist_is_not_made() {
    let place = Place::new();
    let serve = [&["serve"], &FREE_PORTS[..]].concat();
    let by_flag = || place.run(&[&serve[..], &["--database-must-exist"]].concat());
    let by_variable = || place.command(&serve).env("LATCHKEY_DATABASE_MUST_EXIST", "true").output().unwrap();
    for refused in [by_flag(), by_variable()] {
        assert_refused(&refused, 1, "there is no database at latchkey.db");
        assert_refused(&refused, 1, "`latchkey bootstrap`");
    }
    assert!(!place.path("latchkey.db").exists(), "it was made");
    place.write("latchkey.db", "");
    assert_refused(&by_flag(), 1, "is empty, and --database-must-exist is set");
    assert_eq!(fs::read(place.path("latchkey.db")).unwrap(), b"");
    place.bootstrap();
    let serving = place.serve(&["--database-must-exist"]);
    assert_eq!(answer(&serving, "metrics", "/readyz").0, "200");
}

/// All files are taken from under the service: what it acknowledged before is in them, and it acknowledges nothing else.
#[test]
fn a_service_whose_files_are_moved_away_and_back_goes_on_with_all_that_it_acknowledged() {
    let place = Place::new();
    let token = place.bootstrap();
    let serving = place.serve(&[]);
    let make = |user: &str| {
        let head = format!(
            "POST /api/v1/users HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json"
        );
        serving.ask("api", &head, &format!(r#"{{"name":"{user}"}}"#))[9..12].to_owned()
    };
    assert_eq!(make("before"), "201");
    let files = ["latchkey.db", "latchkey.db-wal", "latchkey.db-shm"];
    for name in files {
        fs::rename(place.path(name), place.path(&format!("{name}.away"))).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(make("meanwhile"), "503");
    }
    let (status, body) = answer(&serving, "metrics", "/readyz");
    assert!(status == "503" && body.contains("is gone"), "{status} {body}");
    let told = serving.lines().into_iter().find(|line| line["level"] == "ERROR").unwrap();
    assert!(told["message"].as_str().unwrap().contains("is gone") && told["advice"].is_string(), "{told}");
    for name in files {
        fs::rename(place.path(&format!("{name}.away")), place.path(name)).unwrap();
    }
    assert_eq!(make("after"), "201");
    drop(serving);
    let serving = place.serve(&[]);
    let of = |user: &str| {
        let head = format!("GET /api/v1/users/{user} HTTP/1.1\r\nauthorization: Bearer {token}");
        serving.ask("api", &head, "")[9..12].to_owned()
    };
    assert_eq!(["before", "meanwhile", "after"].map(of), ["200", "404", "200"]);
}
