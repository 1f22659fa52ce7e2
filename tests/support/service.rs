//! The service, as a process: `dist/latchkey serve` on free loopback ports, and an administrator's client of its API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::{CHANGES_PATH, VERIFY_PATH};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::client::{Answer, Caller};
use super::envoy_config::EDGE_SECRET;
use super::process::{Process, output_of};
use super::{dist, ports, secrets, test_dir, wait};

/// How the service is started; [`Service::start`] takes the defaults.
pub struct Settings {
    /// By default a new SQLite file in the test's directory.
    pub database_url: String,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
    pub ports: [u16; 3],
    pub log: PathBuf,
    pub edge_secret_file: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        let edge_secret_file = test_dir::file("edge-secret", "txt");
        std::fs::write(&edge_secret_file, format!("{EDGE_SECRET}\n")).expect("the secret is written");
        secrets::note(EDGE_SECRET);
        Self {
            database_url: format!("sqlite://{}", test_dir::file("latchkey", "db").display()),
            arguments: Vec::new(),
            ports: [ports::free(), ports::free(), ports::free()],
            log: test_dir::file("service", "log"),
            edge_secret_file,
        }
    }
}

/// A running service.
pub struct Service {
    settings: Settings,
    process: Process,
}

impl Service {
    /// On a new SQLite database, ready to be asked.
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// On a given database.
    pub async fn on(database_url: &str) -> Self {
        Self::with(Settings { database_url: database_url.to_owned(), ..Settings::default() }).await
    }

    pub async fn with(settings: Settings) -> Self {
        let process = launch(&settings);
        let mut service = Self { settings, process };
        service.ready().await;
        service
    }

    /// Starts it again after its end, on the same database and ports.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.settings);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let metrics = Caller::http1(&format!("http://{}", self.metrics_address()));
        wait::until("the service is ready", async || {
            self.process.assert_running();
            let answer = Answer::try_to(metrics.get("/readyz")).await.ok()?;
            is_up(&answer).then_some(())
        })
        .await;
    }

    pub fn management_address(&self) -> SocketAddr {
        self.address(0)
    }

    pub fn edge_address(&self) -> SocketAddr {
        self.address(1)
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.address(2)
    }

    fn address(&self, listener: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.settings.ports[listener]))
    }

    pub fn database_url(&self) -> &str {
        &self.settings.database_url
    }

    /// Sends a signal by name: `TERM`, `KILL`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Stops it in the middle of whatever it does; [`Service::resume`] lets it go on.
    pub fn pause(&self) {
        self.process.pause();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    /// The process: its id, its end, its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it as `kill -9` does, and waits for its end.
    pub async fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait().await;
    }

    pub fn log(&self) -> String {
        self.process.log_text()
    }

    /// Makes another edge secret the only one, and waits until it is accepted.
    pub async fn change_edge_secret(&self, secret: &str) {
        secrets::note(secret);
        self.write_edge_secret(secret);
        let edge = Caller::http1(&format!("http://{}", self.edge_address()));
        wait::until("the edge secret is accepted", async || {
            let question = edge.post(VERIFY_PATH).bearer_auth(secret).body("");
            (Answer::to(question).await.status != 401).then_some(())
        })
        .await;
    }

    /// Writes the only edge secret; the service notices within a second.
    pub fn write_edge_secret(&self, secret: &str) {
        std::fs::write(&self.settings.edge_secret_file, format!("{secret}\n"))
            .expect("the secret is written");
    }

    /// A client of the edge listener.
    pub fn edge(&self) -> Edge {
        Edge(Caller::http1(&format!("http://{}", self.edge_address())))
    }

    /// The status and body of `/readyz`.
    pub async fn readiness(&self) -> Answer {
        Answer::to(self.monitor().get("/readyz")).await
    }

    /// A client of the listener for metrics and probes.
    pub fn monitor(&self) -> Caller {
        Caller::http1(&format!("http://{}", self.metrics_address()))
    }

    /// One of its counters or gauges, by its name with its labels; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = Answer::to(self.monitor().get("/metrics")).await.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Makes the first administrator with `latchkey bootstrap`.
    pub fn bootstrap(&self) -> Admin {
        let mut bootstrap = program();
        bootstrap.args(["bootstrap", "--user", "admin", "--database-url", &self.settings.database_url]);
        let token = output_of(&mut bootstrap).trim().to_owned();
        self.admin_with(&token)
    }

    /// A client of the management API with a token.
    pub fn admin_with(&self, token: &str) -> Admin {
        Admin::new(&format!("http://{}", self.management_address()), token)
    }
}

/// Whether a service does all that it can: without an administrator, whom a test makes next, it is not ready yet.
pub fn is_up(readiness: &Answer) -> bool {
    readiness.status == 200 || readiness.body.contains(r#""code":"not_bootstrapped""#)
}

/// `dist/latchkey`, with none of this process's `LATCHKEY_*` variables.
pub fn program() -> Command {
    let mut command = Command::new(dist::program());
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("LATCHKEY_")) {
        command.env_remove(key);
    }
    command
}

fn launch(settings: &Settings) -> Process {
    let mut command = program();
    command.args(["serve", "--database-url", &settings.database_url]);
    for (flag, port) in ["--listen", "--edge-listen", "--metrics-listen"].iter().zip(settings.ports) {
        command.args([flag.to_string(), format!("127.0.0.1:{port}")]);
    }
    command.arg("--edge-secret-file").arg(&settings.edge_secret_file).args(&settings.arguments);
    Process::start("the service", &mut command, &settings.log)
}

/// A client of the edge listener, with the secret.
#[derive(Clone)]
pub struct Edge(Caller);

impl Edge {
    /// The answer to the question that a filter asks of a token; an error if there is none.
    pub async fn verify(&self, token: &str) -> reqwest::Result<Answer> {
        let question = json!({"token_hash": TokenHash::of(token.as_bytes())});
        Answer::try_to(self.0.post(VERIFY_PATH).bearer_auth(EDGE_SECRET).json(&question)).await
    }

    /// The feed's answer to the question of a filter that is at a position, or at none yet; an error if there is none.
    pub async fn changes(&self, at: Option<(&str, u64)>, wait: Duration) -> reqwest::Result<Answer> {
        let wait = wait.as_millis();
        let position = at.map_or(String::new(), |(epoch, after)| format!("&epoch={epoch}&after={after}"));
        let question = self.0.get(&format!("{CHANGES_PATH}?wait_ms={wait}{position}"));
        Answer::try_to(question.bearer_auth(EDGE_SECRET)).await
    }

    /// The verdict on a token; `None` if no answer comes. Panics if the answer is not 200.
    pub async fn verdict(&self, token: &str) -> Option<Value> {
        let answer = self.verify(token).await.ok()?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.json())
    }
}

/// A token that was made: the secret itself, and the whole answer.
#[derive(Clone, Debug)]
pub struct Made {
    pub id: String,
    pub token: String,
    pub answer: Value,
}

impl Made {
    /// From the answer to a call that makes a token.
    pub fn of(answer: Value) -> Self {
        let text = |field: &str| {
            answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}")).to_owned()
        };
        secrets::note(&text("token"));
        Self { id: text("id"), token: text("token"), answer }
    }
}

/// A client of the management API.
#[derive(Clone)]
pub struct Admin {
    caller: Caller,
    pub token: String,
}

impl Admin {
    pub fn new(base: &str, token: &str) -> Self {
        secrets::note(token);
        Self { caller: Caller::http1(base), token: token.to_owned() }
    }

    /// A call that is yet to be sent; `path` begins after `/api/v1`.
    pub fn request(&self, method: Method, path: &str, body: Option<Value>) -> RequestBuilder {
        let request = self.caller.request(method, &format!("/api/v1{path}")).bearer_auth(&self.token);
        match body {
            Some(body) => request.json(&body),
            None => request,
        }
    }

    /// Any call; `path` begins after `/api/v1`.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        Answer::to(self.request(method, path, body)).await
    }

    /// A call that has to be answered with this status; gives the answer's JSON (null if there is none).
    pub async fn expect(&self, status: u16, method: Method, path: &str, body: Option<Value>) -> Value {
        let answer = self.call(method.clone(), path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    pub async fn create_user(&self, name: &str) -> Value {
        self.expect(201, Method::POST, "/users", Some(json!({"name": name}))).await
    }

    /// Makes a token; `spec` is the request's body (`{"name": "ci", "expires_in": "1h"}`).
    pub async fn create_token(&self, user: &str, spec: Value) -> Made {
        Made::of(self.expect(201, Method::POST, &format!("/users/{user}/tokens"), Some(spec)).await)
    }

    /// As [`Admin::expect`], for a service that may be killed meanwhile: `None` if no answer comes.
    pub async fn answered(
        &self,
        status: u16,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<Value> {
        let answer = Answer::try_to(self.request(method.clone(), path, body)).await.ok()?;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        Some(if answer.body.is_empty() { Value::Null } else { answer.json() })
    }

    /// A new user with one token for everything that any rule of a test may ask for.
    pub async fn user_with_token(&self, name: &str) -> Made {
        self.create_user(name).await;
        self.create_token(name, json!({"name": "test"})).await
    }

    /// A user may have as many tokens as a test likes.
    pub async fn lift_limits(&self) {
        self.restrict(json!({"max_lifetime": null, "max_tokens_per_user": null})).await;
    }

    /// Sets some of the restrictions; the others stay as they are.
    pub async fn restrict(&self, changes: Value) {
        let mut restrictions = self.expect(200, Method::GET, "/restrictions", None).await;
        for (field, value) in changes.as_object().expect("fields of the restrictions") {
            restrictions[field] = value.clone();
        }
        self.expect(200, Method::PUT, "/restrictions", Some(restrictions)).await;
    }

    /// All of a user's tokens, from all pages.
    pub async fn tokens_of(&self, user: &str) -> Vec<Value> {
        self.all(&format!("/users/{user}/tokens?limit=200")).await
    }

    /// The items of all pages of a list; `path` has a query already.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.expect(200, Method::GET, &format!("{path}{cursor}"), None).await;
            items.extend(page["items"].as_array().expect("a page").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    pub async fn revoke(&self, token_id: &str) {
        self.expect(204, Method::DELETE, &format!("/tokens/{token_id}"), None).await;
    }
}
