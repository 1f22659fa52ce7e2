//! A whole service inside the test's process: real sockets, a real SQLite file, and a clock that the test moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use latchkey::token::{Secret, TokenPrefix};
use latchkey_admin::app::App;
use latchkey_admin::attempts;
use latchkey_admin::changes;
use latchkey_admin::clock::{ManualClock, OsEntropy, Sources};
use latchkey_admin::config::Config;
use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::scope::Scopes;
use latchkey_admin::domain::token::{NewToken, TokenSpec};
use latchkey_admin::domain::token_search::TokenFilter;
use latchkey_admin::edge::secret::{EdgeSecrets, SecretSource};
use latchkey_admin::feed::Feed;
use latchkey_admin::lifecycle::{Trigger, shutdown};
use latchkey_admin::server::{self, Addresses, Listeners, TrustedProxies};
use latchkey_admin::store::{DatabaseUrl, Store, StoreOptions};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::described;

/// When every test begins.
pub const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// A running service. It ends with the test.
pub struct TestService {
    pub addresses: Addresses,
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub admin_token: String,
    pub database_url: DatabaseUrl,
    pub feed: Feed,
    trigger: Trigger,
    served: JoinHandle<()>,
    folder: Arc<tempfile::TempDir>,
}

/// Someone who sends requests to one listener.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    authorization: Option<String>,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// A token as its maker saw it.
pub struct Made {
    pub id: String,
    pub token: String,
}

impl TestService {
    /// Starts one without an edge secret.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts one.
    pub async fn start_with(edge_secret: Option<&str>) -> Self {
        Self::start_on(None, edge_secret).await
    }

    /// Starts one on a database, or else on a SQLite file of its own, and makes the administrator.
    pub async fn start_on(database_url: Option<DatabaseUrl>, edge_secret: Option<&str>) -> Self {
        Self::start_edited(database_url, edge_secret, |_| ()).await
    }

    /// The same with the time for the database that users' services have, for tests of what takes longer than that.
    pub async fn impatient(database_url: Option<DatabaseUrl>) -> Self {
        let usual = |config: &mut Config| config.database_timeout = StoreOptions::default().patience;
        Self::start_edited(database_url, None, usual).await
    }

    /// Starts one with other settings.
    pub async fn configured(edit: impl FnOnce(&mut Config)) -> Self {
        Self::start_edited(None, None, edit).await
    }

    async fn start_edited(
        database_url: Option<DatabaseUrl>,
        edge_secret: Option<&str>,
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let mut service = Self::start_bare(database_url, edge_secret, edit).await;
        service.admin_token = bootstrap(&service.store).await;
        service
    }

    /// Starts one on a new SQLite file, and makes no administrator.
    pub async fn start_without_administrator() -> Self {
        Self::start_bare(None, None, |_| ()).await
    }

    async fn start_bare(
        database_url: Option<DatabaseUrl>,
        edge_secret: Option<&str>,
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let clock = Arc::new(ManualClock::at(BEGINNING.parse().unwrap()));
        let database_url =
            database_url.unwrap_or_else(|| DatabaseUrl::sqlite_file(folder.path().join("latchkey.db")));
        Self::serve(database_url, clock, folder, edge_secret, edit).await
    }

    /// Starts another one on the same database.
    pub async fn replica(&self) -> Self {
        let (database_url, clock) = (self.database_url.clone(), self.clock.clone());
        let replica = Self::serve(database_url, clock, self.folder.clone(), None, |_| ()).await;
        Self { admin_token: self.admin_token.clone(), ..replica }
    }

    /// Starts one without an administrator.
    async fn serve(
        database_url: DatabaseUrl,
        clock: Arc<ManualClock>,
        folder: Arc<tempfile::TempDir>,
        edge_secret: Option<&str>,
        edit: impl FnOnce(&mut Config),
    ) -> Self {
        let sources = Sources::new(clock.clone(), Arc::new(OsEntropy));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config {
            database_url: database_url.clone(),
            database_wait: Duration::ZERO,
            database_must_exist: false,
            // A busy machine makes a test slow, and fails none.
            database_timeout: Duration::from_secs(60),
            listen: any,
            edge_listen: any,
            metrics_listen: any,
            token_prefix: TokenPrefix::default(),
            edge_secrets: edge_secret
                .map(|value| EdgeSecrets::load(SecretSource::Value(value.into())).unwrap()),
            max_failed_attempts: attempts::MOST,
            max_changes: changes::DEFAULT_LIMIT,
            trusted_proxies: TrustedProxies::default(),
            audit_retention: None,
            public_url: Some("https://tokens.example.com".to_owned()),
        };
        edit(&mut config);
        let listeners = Listeners::bind(&config).unwrap();
        let addresses = listeners.addresses();
        let (app, tasks) = App::open(&config, addresses.api, sources).await.unwrap();
        let (store, feed) = (app.store.clone(), app.feed.clone());
        let (trigger, ending) = shutdown();
        let served = tokio::spawn(server::run(app, tasks, listeners, ending));
        let admin_token = String::new();
        Self { addresses, clock, store, admin_token, database_url, feed, trigger, served, folder }
    }

    /// Tells the service to end, and waits until it has.
    pub async fn end(self) {
        self.trigger.pull();
        self.served.await.unwrap();
    }

    /// Ends the service, and starts it again on the same database.
    pub async fn restart(self) -> Self {
        let (url, clock, folder) = (self.database_url.clone(), self.clock.clone(), self.folder.clone());
        let admin_token = self.admin_token.clone();
        self.end().await;
        Self { admin_token, ..Self::serve(url, clock, folder, None, |_| ()).await }
    }

    /// Someone without a credential, at the management API.
    pub fn anonymous(&self) -> Client {
        Client { http: reqwest::Client::new(), address: self.addresses.api, authorization: None }
    }

    /// Someone with a token.
    pub fn with(&self, token: &str) -> Client {
        self.authorized(format!("Bearer {token}"))
    }

    /// Someone with any value of `Authorization`.
    pub fn authorized(&self, authorization: String) -> Client {
        Client { authorization: Some(authorization), ..self.anonymous() }
    }

    /// The administrator.
    pub fn admin(&self) -> Client {
        self.with(&self.admin_token)
    }

    /// An edge, without a secret.
    pub fn edge(&self) -> Client {
        Client { address: self.addresses.edge, ..self.anonymous() }
    }

    /// Monitoring.
    pub fn monitoring(&self) -> Client {
        Client { address: self.addresses.metrics, ..self.anonymous() }
    }

    /// Makes a user, a second after whatever was before.
    pub async fn make_user(&self, name: &str) {
        self.clock.advance(Duration::from_secs(1));
        self.admin().post("/users", json!({"name": name})).await.expect(StatusCode::CREATED);
    }

    /// Makes a token, a second after whatever was before.
    pub async fn make_token(&self, user: &str, spec: Value) -> Made {
        self.clock.advance(Duration::from_secs(1));
        let path = format!("/users/{user}/tokens");
        let body = self.admin().post(&path, spec).await.expect(StatusCode::CREATED).json();
        Made { id: text(&body["id"]), token: text(&body["token"]) }
    }

    /// Makes a user with a token of these scopes.
    pub async fn user_with(&self, name: &str, scopes: &[&str]) -> Made {
        self.make_user(name).await;
        self.make_token(name, json!({"name": "own", "scopes": scopes})).await
    }

    /// All that the database holds, as one text: for tests that hold that nothing has changed.
    pub async fn state(&self) -> String {
        let page = PageRequest { limit: Limit::new(200).unwrap(), cursor: None };
        let users = self.store.users(page).await.unwrap().items;
        let mut state = format!("{:?}\n{:?}\n", self.store.position().await, self.store.restrictions().await);
        for user in users {
            let filter = TokenFilter { user: Some(user.name.clone()), ..TokenFilter::default() };
            let page = PageRequest { limit: page.limit, cursor: None };
            let tokens = self.store.search_tokens(&filter, page).await.unwrap().items;
            state += &format!("{user:?} {tokens:?}\n");
        }
        state + &format!("{:?}", self.store.audit(&Default::default(), page).await.unwrap().items)
    }

    /// Sends a request that must be refused, and must leave everything as it was.
    pub async fn refused(&self, client: &Client, method: Method, path: &str, body: Option<Value>) -> Answer {
        let before = self.state().await;
        let answer = client.send(method.clone(), path, body).await;
        assert!(answer.status.is_client_error(), "{method} {path}: {}", answer.show());
        assert_eq!(before, self.state().await, "{method} {path} was refused and has changed something");
        answer
    }
}

/// Makes the administrator; gives its token.
pub async fn bootstrap(store: &Store) -> String {
    let secret = Secret::generate(&TokenPrefix::default(), |buffer| store.sources().fill(buffer)).unwrap();
    let spec = TokenSpec { scopes: Scopes::admin(), ..TokenSpec::named("bootstrap".parse().unwrap()) };
    store.bootstrap(&"admin".parse().unwrap(), &NewToken::new(spec, &secret)).await.unwrap();
    secret.expose().to_owned()
}

/// A JSON string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

impl Client {
    /// The same, but on HTTP/2 with prior knowledge.
    pub fn http2(self) -> Self {
        Self { http: reqwest::Client::builder().http2_prior_knowledge().build().unwrap(), ..self }
    }

    /// A request to be adorned; the path is the whole one.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.address));
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    /// Sends a request below `/api/v1`, whose answer must be as described.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method.clone(), &format!("/api/v1{path}"));
        let answer = Answer::to(match body {
            Some(body) => request.json(&body),
            None => request,
        });
        let answer = answer.await;
        described::check(&method, path, &answer);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }
}

impl Answer {
    /// The answer to a request.
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.show());
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        text(&self.json()["error"]["code"])
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<String> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        self.headers.get_all(name).iter().map(text).collect()
    }

    /// Status and body, with what differs from run to run replaced.
    pub fn show(&self) -> String {
        let body = match serde_json::from_str::<Value>(&self.text) {
            Ok(json) => serde_json::to_string_pretty(&json).unwrap(),
            Err(_) => self.text.clone(),
        };
        redact(&format!("{}\n{body}", self.status))
    }
}

/// Replaces identifiers and tokens, and what holds them.
pub fn redact(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_+/=".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(word) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !word(c)).unwrap_or(from.len());
        let (one, after) = from.split_at(end);
        let last = one.rsplit('/').next().unwrap_or(one);
        shown += before;
        shown += &match one {
            _ if one.starts_with("lk_") && one.len() == 52 => "[token]".to_owned(),
            _ if one.starts_with("lk_") && one.len() == 7 => "[hint]".to_owned(),
            _ if is_uuid(last) => one.replace(last, "[id]"),
            _ if one.len() > 60 && one.bytes().all(|b| b.is_ascii_hexdigit()) => "[hash]".to_owned(),
            _ if one.len() > 60 => "[base64]".to_owned(),
            _ => one.to_owned(),
        };
        rest = after;
    }
    shown + rest
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}
