//! `latchkey backup` and `latchkey restore`: copies that are whole, and databases that nobody takes from under a service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use crate::support::{Place, Serving, assert_refused, stderr, wait_for};

/// Someone who asks the management API.
struct Asker<'a> {
    serving: &'a Serving,
    token: &'a str,
}

impl Asker<'_> {
    fn ask(&self, method_and_path: &str, body: &str) -> (String, Value) {
        let head = format!(
            "{method_and_path} HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-type: application/json",
            self.token
        );
        let answer = self.serving.ask("api", &head, body);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), serde_json::from_str(body).unwrap_or_default())
    }

    /// Makes a user with a token; gives both.
    fn make(&self, user: &str) -> (String, String) {
        assert_eq!(self.ask("POST /api/v1/users", &format!(r#"{{"name":"{user}"}}"#)).0, "201");
        let (status, made) = self.ask(&format!("POST /api/v1/users/{user}/tokens"), r#"{"name":"ci"}"#);
        assert_eq!(status, "201");
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    }

    fn status_of(&self, id: &str) -> String {
        let (status, body) = self.ask(&format!("GET /api/v1/tokens/{id}"), "");
        if status == "200" { body["status"].as_str().unwrap().to_owned() } else { status }
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    assert!(output.stdout.is_empty());
    stderr(output)
}

/// The files of the place, with what is in them.
fn files(place: &Place) -> Vec<(String, Vec<u8>)> {
    let folder = place.path("x").parent().unwrap().to_owned();
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "log" && !name.ends_with(".lock"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_backup_of_a_running_service_is_restored_with_all_that_it_held_and_what_was_lost_is_named() {
    let place = Place::new();
    let token = place.bootstrap();
    let mut serving = place.serve(&[]);
    let asker = Asker { serving: &serving, token: &token };
    let (alices, _) = asker.make("alice");
    asker.make("bob");

    let told = done(&place.run(&["backup", "copy.db"]));
    assert!(told.contains("3 users, 3 tokens"), "{told}");
    assert_eq!(fs::metadata(place.path("copy.db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!files(&place).iter().any(|(name, _)| name.contains("partial")), "half a copy is left");
    let copy = fs::read(place.path("copy.db")).unwrap();

    let (carols, _) = asker.make("carol");
    assert_eq!(asker.ask(&format!("DELETE /api/v1/tokens/{alices}"), "").0, "204");
    assert_eq!(asker.ask("PATCH /api/v1/users/bob", r#"{"active":false}"#).0, "200");
    let joined = serving.ask("edge", "GET /edge/v1/changes HTTP/1.1", "");

    let refused = place.run(&["restore", "copy.db"]);
    assert_refused(&refused, 1, &format!("in use by latchkey serve (process {})", serving.child.id()));
    assert_eq!(asker.status_of(&alices), "revoked");
    serving.signal("TERM");
    serving.ended();

    let told = done(&place.run(&["restore", "copy.db"]));
    for text in [
        "work again: 1.",
        &format!("latchkey token revoke {alices} --yes    # of alice"),
        "active again: bob.",
        "unknown now: 1.",
        "latchkey.db.before-",
    ] {
        assert!(told.contains(text), "{text} is not in {told}");
    }
    assert_eq!(fs::read(place.path("copy.db")).unwrap(), copy, "the backup was changed");
    assert_eq!(fs::metadata(place.path("latchkey.db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!files(&place).iter().any(|(name, _)| name.contains("restoring")), "half a database is left");

    let serving = place.serve(&[]);
    let asker = Asker { serving: &serving, token: &token };
    assert_eq!((asker.status_of(&alices), asker.status_of(&carols)), ("active".into(), "404".into()));
    let epoch = |answer: &str| -> Value {
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()["epoch"].clone()
    };
    let now = serving.ask("edge", "GET /edge/v1/changes HTTP/1.1", "");
    assert_ne!(epoch(&now), epoch(&joined), "edges go on with what they know");
    let (_, audit) = asker.ask("GET /api/v1/audit?action=database.restored", "");
    let entry = &audit["items"][0];
    assert_eq!((&entry["actor"], &entry["subject"]), (&"system:local".into(), &"database".into()));
    assert_eq!(entry["details"]["epoch"], epoch(&now));

    // The database of before is whole, and can be put back.
    drop(serving);
    let kept = files(&place).into_iter().find(|(name, _)| name.contains(".before-")).unwrap().0;
    done(&place.run(&["restore", &kept]));
    let serving = place.serve(&[]);
    let asker = Asker { serving: &serving, token: &token };
    assert_eq!((asker.status_of(&alices), asker.status_of(&carols)), ("revoked".into(), "active".into()));
}

#[test]
fn backups_that_are_made_while_others_write_are_each_of_one_moment() {
    let place = Place::new();
    let token = place.bootstrap();
    let serving = place.serve(&[]);
    let asker = Asker { serving: &serving, token: &token };
    std::thread::scope(|scope| {
        let copies = scope.spawn(|| {
            for n in 0..5 {
                done(&place.run(&["backup", &format!("copy{n}.db")]));
            }
        });
        let mut n = 0;
        while !copies.is_finished() {
            asker.make(&format!("user{n}"));
            n += 1;
        }
        copies.join().unwrap();
    });
    drop(serving);
    for n in 0..5 {
        done(&place.run(&["restore", &format!("copy{n}.db")]));
        let serving = place.serve(&[]);
        let (_, stats) = Asker { serving: &serving, token: &token }.ask("GET /api/v1/stats", "");
        assert!(stats["users"].is_object() || stats["users"].is_number(), "{stats}");
    }
}

#[test]
fn a_backup_overwrites_nothing_and_needs_a_database() {
    let place = Place::new();
    assert_refused(&place.run(&["backup", "copy.db"]), 1, "there is no database");
    assert!(files(&place).is_empty());
    place.bootstrap();
    place.write("copy.db", "something else");
    let before = files(&place);
    assert_refused(&place.run(&["backup", "copy.db"]), 1, "nothing is overwritten");
    assert_refused(&place.run(&["backup", "no/such/folder/copy.db"]), 1, "cannot be made");
    let postgres = ["--database-url", "postgres://u:marked@127.0.0.1:1/d"];
    let refused = place.run(&[&["backup", "other.db"], &postgres[..]].concat());
    assert_refused(&refused, 2, "pg_dump");
    assert_refused(&place.run(&[&["restore", "copy.db"], &postgres[..]].concat()), 2, "pg_restore");
    assert!(!stderr(&refused).contains("marked"));
    assert_eq!(files(&place), before);
}

#[test]
fn what_is_no_backup_is_refused_and_the_database_stays_as_it_is() {
    let place = Place::new();
    place.bootstrap();
    done(&place.run(&["backup", "copy.db"]));
    let mut damaged = fs::read(place.path("copy.db")).unwrap();
    let middle = damaged.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0x5a);
    fs::write(place.path("damaged.db"), &damaged).unwrap();
    place.write("empty.db", "");
    place.write("notes.db", &"this is no database. ".repeat(400));
    fs::copy(place.path("copy.db"), place.path("live.db")).unwrap();
    place.write("live.db-wal", "a log");
    fs::copy(place.path("copy.db"), place.path("newer.db")).unwrap();
    place.sql_in("newer.db", "UPDATE latchkey_migrations SET version = 99 WHERE version = 5");
    let before = files(&place);
    for (file, why) in [
        ("damaged.db", "is no backup"),
        ("empty.db", "it holds no tables"),
        ("notes.db", "is no backup"),
        ("live.db", "has a write-ahead log beside it"),
        ("newer.db", "newer Latchkey"),
        ("nowhere.db", "cannot be read"),
    ] {
        assert_refused(&place.run(&["restore", file]), 1, why);
        assert_eq!(files(&place), before, "{file} was refused and has changed something");
    }
}

#[test]
fn a_database_that_another_program_has_open_is_not_replaced() {
    let place = Place::new();
    place.bootstrap();
    done(&place.run(&["backup", "copy.db"]));
    let (other, runtime) = place.locked();
    assert_refused(&place.run(&["restore", "copy.db"]), 1, "in use by another program");
    runtime.block_on(async { sqlx::Connection::close(other).await.unwrap() });
    done(&place.run(&["restore", "copy.db"]));
}

#[test]
fn a_damaged_database_is_replaced_and_what_is_left_of_it_kept() {
    let place = Place::new();
    let token = place.bootstrap();
    done(&place.run(&["backup", "copy.db"]));
    place.write("latchkey.db", &"this is no database. ".repeat(400));
    place.write("latchkey.db-wal", "what is left of a log");
    let told = done(&place.run(&["restore", "copy.db"]));
    assert!(told.contains("it cannot be read"), "{told}");
    let kept = files(&place).into_iter().filter(|(name, _)| name.contains(".before-")).count();
    assert_eq!(kept, 2, "the file and its log");
    let serving = place.serve(&[]);
    assert_eq!(Asker { serving: &serving, token: &token }.ask("GET /api/v1/me", "").0, "200");
}

#[test]
fn a_backup_is_restored_where_there_is_no_database_and_a_killed_service_stands_in_no_ones_way() {
    let place = Place::new();
    let token = place.bootstrap();
    let serving = place.serve(&[]);
    done(&place.run(&["backup", "copy.db"]));
    drop(serving);
    wait_for("the lock to be let go", || place.run(&["restore", "copy.db"]).status.success());
    for (name, _) in files(&place).iter().filter(|(name, _)| name.starts_with("latchkey.db")) {
        fs::remove_file(place.path(name)).unwrap();
    }
    let told = done(&place.run(&["restore", "copy.db"]));
    assert!(!told.contains("kept as"), "{told}");
    let serving = place.serve(&[]);
    assert_eq!(Asker { serving: &serving, token: &token }.ask("GET /api/v1/me", "").0, "200");
}
