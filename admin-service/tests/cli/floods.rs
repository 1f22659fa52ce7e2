//! What one bad caller does to the service, and what others notice of it: nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http2::Attacker;
use crate::support::{Place, Serving, now};

/// How much an attack may make the process grow, in KiB. It was ten times as much with six connections.
const GROWTH: u64 = 100 * 1024;
/// How long an answer may take: less than those who hold places up in turn would take together.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service, and its administrator's token.
struct Attacked {
    serving: Serving,
    admin: String,
    _place: Place,
}

impl Attacked {
    fn start() -> Self {
        let place = Place::new();
        let serving = place.serve(&["--log-level", "warn,latchkey_admin=info"]);
        let admin = place.bootstrap();
        Self { serving, admin, _place: place }
    }

    /// Asks the management API, as somebody who knows what an answer is worth, and waits for it.
    fn ask(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut head = format!("{method} /api/v1{path} HTTP/1.1\r\nauthorization: Bearer {token}");
        if body.is_some() {
            head += "\r\ncontent-type: application/json";
        }
        answer(&self.serving, "api", &head, &body.map_or_else(String::new, |body| body.to_string()))
    }

    fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.ask(&self.admin, method, path, body)
    }

    /// Makes a user with a token.
    fn user(&self, name: &str, scopes: &[&str]) -> (String, String) {
        assert_eq!(self.admin("POST", "/users", Some(json!({"name": name}))).0, 201);
        self.token(name, json!({"name": "own", "scopes": scopes}))
    }

    /// Makes a token; gives it and its identifier.
    fn token(&self, user: &str, body: Value) -> (String, String) {
        let (status, made) = self.admin("POST", &format!("/users/{user}/tokens"), Some(body));
        assert_eq!(status, 201, "{made}");
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("token"), text("id"))
    }

    /// How much memory the process has, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.serving.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// By how much the process grows, in KiB, while 1,000 requests are in flight on each of six connections that receive no response.
    fn growth(&self, path: &str, token: Option<&str>) -> u64 {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        // What the first answer needs is no growth.
        self.admin("GET", "/users?limit=200", None);
        let before = self.memory();
        let mut attackers: Vec<_> = (0..6).map(|_| Attacker::connect(self.serving.address("api"))).collect();
        for attacker in &mut attackers {
            if token.is_some() {
                attacker.request(1, "GET", "/api/v1/me", &headers, true);
                attacker.wait_for("the first answer", |seen| seen.answers > 0);
            }
            attacker.request(1000, "GET", path, &headers, true);
            attacker.wait_until_read();
        }
        // Until nothing more comes: what is beyond the limits waits, or was reset.
        let (mut most, mut settled) = (before, usize::MAX);
        loop {
            for _ in 0..30 {
                assert_eq!(self.admin("GET", "/me", None).0, 200, "others are answered meanwhile");
                most = most.max(self.memory());
            }
            let came =
                attackers.iter().map(|attacker| attacker.seen().answers + attacker.seen().resets).sum();
            if came == settled && came > 0 {
                return most.saturating_sub(before);
            }
            settled = came;
        }
    }
}

/// The status and body of an answer, which must come in time.
fn answer(serving: &Serving, listener: &str, head: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(serving.address(listener)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    assert!(read.is_ok() && answer.starts_with("HTTP/1.1 "), "{head}: {read:?} {answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

fn idle(serving: &Serving, listener: &str, number: usize) -> Vec<TcpStream> {
    let address = serving.address(listener);
    (0..number).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn status(serving: &Serving, listener: &str, head: &str) -> u16 {
    answer(serving, listener, head, "").0
}

#[test]
fn answers_that_nobody_takes_cost_no_memory_without_authentication() {
    let attacked = Attacked::start();
    for path in ["/api/v1/openapi.json", "/docs/swagger-ui-bundle.js"] {
        let growth = attacked.growth(path, None);
        println!("{path}: {growth} KiB");
        assert!(growth < GROWTH, "{path}: {growth} KiB");
    }
}

#[test]
fn answers_that_nobody_takes_cost_no_memory_with_it() {
    let attacked = Attacked::start();
    // Another administrator: an attacker uses up its own share of what the service does at a time.
    let (mallory, _) = attacked.user("mallory", &["latchkey:admin"]);
    let limits = json!({"max_lifetime": null, "max_tokens_per_user": null, "delete_expired": {
        "enabled": false, "after": "30d", "every": "1h"}});
    assert_eq!(attacked.admin("PUT", "/restrictions", Some(limits)).0, 200);
    attacked.user("alice", &[]);
    for number in 0..200 {
        attacked.token("alice", json!({"name": format!("token {number}"), "description": "x".repeat(500)}));
    }
    for path in ["/api/v1/tokens?limit=200", "/api/v1/users/alice/tokens?limit=200", "/api/v1/audit:export"] {
        let growth = attacked.growth(path, Some(&mallory));
        println!("{path}: {growth} KiB");
        assert!(growth < GROWTH, "{path}: {growth} KiB");
    }
}

#[test]
fn five_thousand_uploads_of_one_user_that_never_come_are_in_nobody_s_way() {
    let attacked = Attacked::start();
    let (alice, _) = attacked.user("alice", &["latchkey:tokens"]);
    attacked.user("bob", &[]);
    let victims: Vec<_> =
        (0..9).map(|number| attacked.token("bob", json!({"name": format!("token {number}")})).1).collect();
    let authorization = format!("Bearer {alice}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("content-length", "50"),
    ];
    let address = attacked.serving.address("api");
    let begin = |number: usize, streams: usize| {
        let mut attackers: Vec<_> = (0..number).map(|_| Attacker::connect(address)).collect();
        attackers
            .iter_mut()
            .for_each(|attacker| attacker.request(1, "GET", "/api/v1/me", &headers[..1], true));
        for attacker in &attackers {
            attacker.wait_for("the first answer", |seen| seen.answers > 0);
        }
        for attacker in &mut attackers {
            attacker.request(streams, "POST", "/api/v1/users/alice/tokens", &headers, false);
        }
        attackers.iter_mut().for_each(Attacker::wait_until_read);
        attackers
    };
    // As many streams as they like on a few connections, and as many connections as they need with what is allowed.
    for (number, streams) in [(5, 1000), (40, 125)] {
        let attackers = begin(number, streams);
        for victim in victims.iter().skip(if number == 5 { 0 } else { 4 }).take(4) {
            let revoked = attacked.admin("DELETE", &format!("/tokens/{victim}"), None);
            assert_eq!(revoked.0, 204, "{}", revoked.1);
        }
        assert_eq!(attacked.admin("GET", "/users", None).0, 200, "another caller's other requests");
        drop(attackers);
    }
    let attackers = begin(40, 125);
    assert_eq!(attacked.admin("PATCH", "/users/bob", Some(json!({"active": false}))).0, 200);
    assert_eq!(attacked.admin("DELETE", "/users/bob", None).0, 204);
    drop(attackers);
    let (_, tokens) = attacked.admin("GET", "/users/alice/tokens", None);
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1, "nothing was made of what never came");
}

#[test]
fn a_revocation_goes_on_while_its_listener_is_flooded_with_connections() {
    let attacked = Attacked::start();
    let (mallory, _) = attacked.user("mallory", &["latchkey:tokens"]);
    let (_, victim) = attacked.user("bob", &[]);
    let address = attacked.serving.address("api");
    // Silent, half a head, an answer that is not taken, an upload that never comes, and a user's that was authenticated before.
    let _silent = idle(&attacked.serving, "api", 200);
    let _unfinished: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            let upload = format!(
                "POST /api/v1/users/mallory/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {mallory}\r\n\
                 content-type: application/json\r\ncontent-length: 100\r\n\r\n"
            );
            let sent = if number % 2 == 0 { "GET / HTTP/1.1\r\nhost: x\r\n" } else { &upload };
            // It may have had to make room already.
            let _ = stream.write_all(sent.as_bytes());
            stream
        })
        .collect();
    let authorization = format!("Bearer {mallory}");
    let _untaken: Vec<_> = (0..300)
        .map(|_| {
            let mut attacker = Attacker::connect(address);
            attacker.request(1, "GET", "/api/v1/me", &[("authorization", &authorization)], true);
            attacker.wait_for("an answer", |seen| seen.answers > 0);
            attacker
        })
        .collect();
    let revoked = attacked.admin("DELETE", &format!("/tokens/{victim}"), None);
    assert_eq!(revoked.0, 204, "{}", revoked.1);
}

#[test]
fn idle_connections_keep_nobody_out() {
    let attacked = Attacked::start();
    let serving = &attacked.serving;
    let edges = idle(serving, "edge", 3000);
    let question = format!(r#"{{"token_hash":"{}"}}"#, "0".repeat(64));
    let verify = "POST /edge/v1/verify HTTP/1.1\r\ncontent-type: application/json";
    assert_eq!(answer(serving, "edge", verify, &question).0, 200);
    drop(edges);
    let _monitoring = idle(serving, "metrics", 1000);
    for probe in ["/readyz", "/livez", "/metrics"] {
        assert_eq!(status(serving, "metrics", &format!("GET {probe} HTTP/1.1")), 200, "{probe}");
    }
    let _api = idle(serving, "api", 2500);
    assert_eq!(attacked.admin("GET", "/me", None).0, 200);
}

#[test]
fn the_end_does_not_wait_for_answers_that_nobody_takes() {
    let mut attacked = Attacked::start();
    let mut attacker = Attacker::connect(attacked.serving.address("api"));
    attacker.request(1000, "GET", "/api/v1/openapi.json", &[], true);
    attacker.wait_until_read();
    let mut unread = TcpStream::connect(attacked.serving.address("api")).unwrap();
    let pipelined = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20);
    unread.write_all(pipelined.as_bytes()).unwrap();
    let begun = now();
    attacked.serving.signal("TERM");
    assert_eq!(attacked.serving.ended().code(), Some(0));
    assert!(now() - begun < Duration::from_secs(10), "{:?}", now() - begun);
}
