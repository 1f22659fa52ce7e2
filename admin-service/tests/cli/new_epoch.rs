//! `latchkey new-epoch`: beside a running service and without one.

use std::fs::File;

use serde_json::Value;

use crate::support::{Place, Serving, assert_refused, stderr, wait_for};

/// What an edge is told, at a position or nowhere.
fn changes(serving: &Serving, query: &str) -> Value {
    let answer = serving.ask("edge", &format!("GET /edge/v1/changes{query} HTTP/1.1"), "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn new_epoch_resets_the_edges_of_a_running_service() {
    let place = Place::new();
    place.bootstrap();
    let serving = place.serve(&[]);
    let before = changes(&serving, "");
    let query =
        format!("?epoch={}&after={}&wait_ms=60000", before["epoch"].as_str().unwrap(), before["revision"]);
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| changes(&serving, &query));
        let output = place.run(&["new-epoch"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let epoch = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(stderr(&output).lines().count(), 1);
        let answer = waiting.join().unwrap();
        assert_eq!(answer["epoch"], epoch.trim_end());
        answer
    });
    assert_ne!(answer["epoch"], before["epoch"]);
    assert_eq!((&answer["reset"], &answer["revision"]), (&true.into(), &before["revision"]));
}

#[test]
fn new_epoch_works_while_no_service_runs_and_each_time_makes_another() {
    let place = Place::new();
    place.bootstrap();
    let epochs = [(); 3].map(|()| place.run(&["new-epoch"]).stdout);
    assert!(epochs.iter().all(|epoch| epoch.len() == 37 && epoch.ends_with(b"\n")));
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let serving = place.serve(&[]);
    assert_eq!(changes(&serving, "")["epoch"], String::from_utf8_lossy(&epochs[2]).trim_end());
}

#[test]
fn new_epoch_makes_no_database_and_says_what_went_wrong() {
    let place = Place::new();
    assert_refused(&place.run(&["new-epoch"]), 1, "there is no database at sqlite://latchkey.db");
    assert!(!place.path("latchkey.db").exists());
    assert_refused(&place.run(&["new-epoch", "--database-url", "mysql://x"]), 2, "must begin with sqlite://");
    place.bootstrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["new-epoch"]).stdout(full).output().unwrap();
    assert_refused(&output, 1, "could not be written to stdout");
}

#[test]
fn a_backup_that_is_restored_under_a_running_service_resets_its_edges() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let token = place.bootstrap();
    let joined = changes(&serving, "");
    let ask = |method_and_path: &str| {
        serving.ask("api", &format!("{method_and_path} HTTP/1.1\r\nauthorization: Bearer {token}"), "")
    };
    let tokens = ask("GET /api/v1/users/admin/tokens");
    let (_, id) = tokens.split_once(r#""id":""#).unwrap();
    assert!(ask(&format!("DELETE /api/v1/tokens/{}", &id[..36])).starts_with("HTTP/1.1 204"));
    let query = format!("?epoch={}&after=1&wait_ms=60000", joined["epoch"].as_str().unwrap());
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| changes(&serving, &query));
        wait_for("the revocation to be heard", || changes(&serving, "")["revision"] == 1);
        place
            .sql("UPDATE history SET revision = 0; UPDATE tokens SET revoked_at = NULL; DELETE FROM changes");
        waiting.join().unwrap()
    });
    assert_eq!((&answer["reset"], &answer["revision"]), (&true.into(), &0.into()));
    assert_ne!(answer["epoch"], joined["epoch"]);
    let lines = serving.lines();
    let warned =
        |line: &&Value| line["message"].as_str().is_some_and(|text| text.contains("has lost revisions"));
    assert_eq!(lines.iter().filter(warned).count(), 1);
}
