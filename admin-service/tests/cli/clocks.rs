//! The service on clocks that are wrong, by libfaketime: it fakes the machine's clock, and leaves the steady one alone.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::postgres;
use crate::support::{Place, Serving, now, wait_for};

/// A machine's clock that the test sets, for every program that is run by it.
struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is so far off; `None` where libfaketime is missing, which is said.
    fn off_by(place: &Place, name: &str, offset: &str) -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").unwrap().chain(std::fs::read_dir("/usr").unwrap());
        let folders = folders.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
        let Some(library) = folders.into_iter().find(|path| path.exists()) else {
            let missing = "libfaketime is missing: scripts/setup.sh faketime";
            assert!(std::env::var_os("LATCHKEY_TEST_FAKETIME").is_none(), "{missing}");
            eprintln!("SKIPPED, {missing}");
            return None;
        };
        let clock = Self { library, file: place.path(name) };
        clock.set(offset);
        Some(clock)
    }

    /// Sets it, so far off the real time, at once for all who go by it.
    fn set(&self, offset: &str) {
        let fresh = self.file.with_extension("fresh");
        std::fs::write(&fresh, offset).unwrap();
        std::fs::rename(fresh, &self.file).unwrap();
    }

    fn rule(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// A service, and the administrator's token.
struct Asked<'a> {
    serving: &'a Serving,
    token: &'a str,
}

impl Asked<'_> {
    /// The JSON of an answer whose status begins with a 2.
    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let token = self.token;
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json"
        );
        let body = if body.is_null() { String::new() } else { body.to_string() };
        parsed(&self.serving.ask("api", &head, &body))
    }

    fn get(&self, path: &str) -> Value {
        self.json("GET", path, &Value::Null)
    }

    /// Has what is expired deleted a second later, every second.
    fn delete_at_once(&self) {
        let at_once = json!({"enabled": true, "after": "1s", "every": "1s"});
        let restrictions =
            json!({"max_lifetime": "365d", "max_tokens_per_user": 100, "delete_expired": at_once});
        self.json("PUT", "/restrictions", &restrictions);
    }

    fn make_token(&self, expires_in: &str) -> String {
        let made = self.json("POST", "/users/admin/tokens", &json!({"name": "t", "expires_in": expires_in}));
        made["token"].as_str().unwrap().to_owned()
    }

    /// How many active tokens there are beside the administrator's own.
    fn active(&self) -> usize {
        let tokens = self.get("/users/admin/tokens?limit=200");
        let active = |token: &&Value| token["status"] == "active" && token["name"] == "t";
        tokens["items"].as_array().unwrap().iter().filter(active).count()
    }
}

fn parsed(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// What an edge is told of a token.
fn verdict(serving: &Serving, token: &str) -> Value {
    let hash = latchkey::token::TokenHash::of(token.as_bytes());
    let body = json!({"token_hash": hash.to_string()}).to_string();
    parsed(&serving.ask("edge", "POST /edge/v1/verify HTTP/1.1\r\ncontent-type: application/json", &body))
}

fn changes(serving: &Serving, query: &str) -> Value {
    parsed(&serving.ask("edge", &format!("GET /edge/v1/changes{query} HTTP/1.1"), ""))
}

fn readiness(serving: &Serving) -> Value {
    parsed(&serving.ask("metrics", "GET /readyz HTTP/1.1", ""))
}

fn logged(serving: &Serving, level: &str, text: &str) -> usize {
    let lines = serving.lines();
    let says = |line: &&Value| {
        line["level"] == level && line["message"].as_str().is_some_and(|it| it.contains(text))
    };
    lines.iter().filter(says).count()
}

#[test]
fn a_replica_whose_clock_is_an_hour_ahead_goes_by_the_databases_and_deletes_nothing() {
    let place = Place::new();
    let Some(ahead) = FakeClock::off_by(&place, "ahead", "+1h") else { return };
    let url = postgres::shared().database();
    let token = {
        let output = place.run(&["bootstrap", "--database-url", &url]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let right = place.serve_beside(&["--database-url", &url], "right");
    let wrong = place.serve_by(|command| ahead.rule(command), &["--database-url", &url], "wrong");
    let (at_right, at_wrong) =
        (Asked { serving: &right, token: &token }, Asked { serving: &wrong, token: &token });
    at_right.delete_at_once();
    let tokens: Vec<String> = (0..20).map(|n| [&at_right, &at_wrong][n % 2].make_token("30m")).collect();
    for token in &tokens {
        for serving in [&right, &wrong] {
            let verdict = verdict(serving, token);
            let left = verdict["token"]["expires_in_ms"].as_u64().unwrap_or_else(|| panic!("{verdict}"));
            assert!(left <= 30 * 60_000, "{verdict}");
        }
    }
    let apart = "s ahead of the database's";
    assert!(readiness(&wrong)["checks"]["clock"].as_str().unwrap().contains(apart), "{}", readiness(&wrong));
    assert_eq!(readiness(&right)["checks"]["clock"], Value::Null);
    // On a busy machine the difference may be measured, doubted and measured anew: then it is told again.
    assert!(logged(&wrong, "WARN", apart) >= 1);
    assert_eq!(logged(&right, "WARN", apart), 0);
    let metrics = wrong.ask("metrics", "GET /metrics HTTP/1.1", "");
    let seconds =
        metrics.lines().find_map(|line| line.strip_prefix("latchkey_clock_ahead_of_database_seconds "));
    assert!((3_500.0..3_700.0).contains(&seconds.unwrap().trim().parse::<f64>().unwrap()), "{seconds:?}");
    let mut doctor = place.command(&["doctor", "--json", "--database-url", &url]);
    ahead.rule(&mut doctor);
    let found = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    assert!(found.contains("this machine's is 3600 s ahead of the database's"), "{found}");
    // The other replica deletes by time, and nothing too early.
    wait_for("a run of the scheduler", || at_right.get("/scheduler")["last_run_at"].is_string());
    drop(right);
    let paused = at_wrong.get("/scheduler")["paused"].as_str().unwrap().to_owned();
    assert!(paused.contains(apart), "{paused}");
    let begun = now();
    while begun.elapsed().as_secs() < 3 {
        assert_eq!(at_wrong.active(), 20);
    }
    ahead.set("+0");
    wait_for("the clocks to agree", || readiness(&wrong)["checks"]["clock"].is_null());
    wait_for("that to be said", || logged(&wrong, "INFO", "agrees with the database's again") == 1);
    wait_for("the scheduler to go on", || at_wrong.get("/scheduler")["paused"].is_null());
    assert_eq!((at_wrong.active(), logged(&wrong, "WARN", "jumped")), (20, 0));
}

#[test]
fn a_clock_that_is_seventy_days_ahead_for_a_moment_deletes_nothing() {
    let place = Place::new();
    let Some(clock) = FakeClock::off_by(&place, "clock", "+0") else { return };
    let token = place.bootstrap();
    let serving = place.serve_by(|command| clock.rule(command), &[], "log");
    let service = Asked { serving: &serving, token: &token };
    service.delete_at_once();
    let live = service.make_token("30d");
    wait_for("a run of the scheduler", || service.get("/scheduler")["last_run_at"].is_string());
    let begun = now();
    clock.set("+70d");
    while begun.elapsed().as_secs() < 12 {
        assert_eq!(service.get("/users/admin/tokens")["items"].as_array().unwrap().len(), 2);
    }
    let paused = service.get("/scheduler")["paused"].as_str().unwrap().to_owned();
    assert!(paused.contains("jumped 6048000 s forward"), "{paused}");
    clock.set("+0");
    wait_for("the clock to be right", || logged(&serving, "WARN", "jumped 6048000 s back") == 1);
    assert_eq!((logged(&serving, "WARN", "jumped 6048000 s forward"), service.active()), (1, 1));
    let verdict = verdict(&serving, &live);
    assert!(verdict["token"].is_object(), "{verdict}");
    assert_eq!(service.get("/audit?action=tokens.deleted")["items"], json!([]));
}

#[test]
fn edges_are_told_to_ask_again_when_a_clock_that_was_behind_is_set_right() {
    let place = Place::new();
    let Some(clock) = FakeClock::off_by(&place, "clock", "-1d") else { return };
    let mut bootstrap = place.command(&["bootstrap"]);
    clock.rule(&mut bootstrap);
    let token = String::from_utf8(bootstrap.output().unwrap().stdout).unwrap().trim().to_owned();
    let serving = place.serve_by(|command| clock.rule(command), &[], "log");
    let expired = Asked { serving: &serving, token: &token }.make_token("1h");
    let before = verdict(&serving, &expired);
    assert!(before["token"].is_object(), "by that clock it is active: {before}");
    let (epoch, revision) = (before["epoch"].as_str().unwrap().to_owned(), &before["revision"]);
    let query = format!("?epoch={epoch}&after={revision}&wait_ms=60000");
    let (told, took) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (changes(&serving, &query), now()));
        wait_for("the edge to wait", || {
            serving
                .ask("metrics", "GET /metrics HTTP/1.1", "")
                .lines()
                .any(|line| line == "latchkey_feeds_waiting 1")
        });
        let begun = now();
        clock.set("+0");
        let (told, at) = waiting.join().unwrap();
        (told, at - begun)
    });
    eprintln!("edges were told after {took:?}");
    assert_eq!(told["reset"], true);
    let after = verdict(&serving, &expired);
    assert_eq!((&after["reason"], &after["epoch"]), (&json!("expired"), &told["epoch"]));
    assert_ne!(after["epoch"], before["epoch"]);
}

#[test]
fn edges_are_told_to_ask_again_when_the_service_starts_on_a_clock_that_was_set_meanwhile() {
    let place = Place::new();
    let Some(clock) = FakeClock::off_by(&place, "clock", "+0") else { return };
    let token = place.bootstrap();
    for (offset, expected) in [("-1d", 1), ("-1d", 1), ("+1h", 2), ("+0", 3)] {
        clock.set(offset);
        let mut serving = place.serve_by(|command| clock.rule(command), &[], "log");
        let audit = Asked { serving: &serving, token: &token }.get("/audit?action=epoch.changed");
        // What tells of the first start is the administrator, who was made a day after it.
        assert_eq!(audit["items"].as_array().unwrap().len(), expected, "{offset}: {audit}");
        serving.signal("TERM");
        assert!(serving.ended().success());
    }
}
