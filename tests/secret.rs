//! Rule 2, secret: no token and no edge secret is in a log, metric, error, URL or database, whatever happens and however
//! much is logged.
//!
//! The service logs at `trace`. Envoy logs at `info` and the filter's component, `wasm`, at `trace`: at more than `info`
//! Envoy's own HTTP components print every header that they see, which is Envoy's choice and not the filter's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::client::Caller;
use crate::support::envoy_config::EDGE_SECRET;
use crate::support::postgres::Cluster;
use crate::support::secrets::Search;
use crate::support::service::{Made, Settings, program};
use crate::support::{Answer, Envoy, EnvoyConfig, Service, World, ports, secrets, test_dir, wait};

/// Credentials of other systems, sent to ours by mistake.
const FOREIGN: &str = "ghp_MARKEDforeigntoken0123456789abcdefghijkl";
const PASSWORD: &str = "MARKED-password-of-somebody-0123456789";
const WRONG_EDGE_SECRET: &str = "MARKED-wrong-edge-secret-5b1d0e77";
/// Shows that the right places are searched: it is in logs and databases.
const CONTROL: &str = "marked-user-who-may-be-seen-everywhere";

#[tokio::test]
async fn secret_no_trace_of_a_token_or_an_edge_secret_is_left_with_sqlite() {
    let mut scene = Scene::start(Settings::default()).await;
    scene.play().await;
    // The file or its write-ahead log, both in the test's directory.
    scene.assert_clean(&[("latchkey-1.db", 1)]).await;
}

#[tokio::test]
async fn secret_no_trace_of_a_token_or_an_edge_secret_is_left_with_postgres() {
    let cluster = Cluster::start(false);
    let database_url = cluster.database();
    // The server logs each statement with what is bound to it.
    cluster.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let mut scene = Scene::start(Settings { database_url, ..Settings::default() }).await;
    scene.play().await;
    cluster.sql("postgres", "CHECKPOINT");
    scene.assert_clean(&[]).await;
    scene.assert_clean_files(&cluster.folder(), &[("log", 1), ("/base/", 1), ("/pg_wal/", 1)]);
}

/// Everything running, all secrets that are known, and all answers that may hold none.
struct Scene {
    world: World,
    alice: Made,
    /// Where the logs are, and the SQLite database.
    folder: PathBuf,
    secrets: Vec<String>,
    answers: Vec<String>,
}

impl Scene {
    async fn start(settings: Settings) -> Self {
        let folder = settings.log.parent().expect("the test's directory").to_owned();
        let arguments = vec!["--log-level".to_owned(), "trace".to_owned()];
        let service = Service::with(Settings { arguments, ..settings }).await;
        let world = World::around(service, verbose).await;
        let alice = world.admin.user_with_token(CONTROL).await;
        let secrets = [FOREIGN, PASSWORD, EDGE_SECRET, WRONG_EDGE_SECRET, &world.admin.token, &alice.token];
        secrets.iter().for_each(|secret| secrets::note(secret));
        let secrets = secrets.map(str::to_owned).to_vec();
        Self { world, alice, folder, secrets, answers: Vec::new() }
    }

    /// A token to be searched for, of the user that may be seen.
    async fn token(&mut self, spec: serde_json::Value) -> Made {
        let made = self.world.admin.create_token(CONTROL, spec).await;
        self.secrets.push(made.token.clone());
        made
    }

    /// Sends a request that has to be answered with this status, and keeps the answer.
    async fn ask(&mut self, status: u16, request: RequestBuilder) {
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        self.answers.push(format!("{answer:?}"));
    }

    async fn play(&mut self) {
        for (_, gateway) in self.world.envoy.both() {
            self.pass_and_be_refused(&gateway).await;
        }
        self.ask_the_service().await;
        self.suffer_outages().await;
        self.present_the_wrong_edge_secret().await;
        // The last change, which is in SQLite's write-ahead log alone for now.
        self.token(json!({"name": "last"})).await;
    }

    /// Each way past the filter, and each reason of its refusals.
    async fn pass_and_be_refused(&mut self, gateway: &Caller) {
        let alice = self.alice.token.clone();
        let get = || gateway.get("/orders");
        let with = |value: &str| get().header("authorization", value);
        self.ask(200, get().bearer_auth(&alice)).await;
        self.ask(200, get().basic_auth(CONTROL, Some(&alice))).await;
        self.ask(200, gateway.grpc("/orders", b"message").bearer_auth(FOREIGN)).await;
        self.ask(403, gateway.get("/admin/x").bearer_auth(&alice)).await;
        self.ask(401, get()).await;

        let ended = self.token(json!({"name": "expired", "expires_in": "1s"})).await;
        let revoked = self.token(json!({"name": "revoked"})).await;
        let for_basic = self.token(json!({"name": "basic", "schemes": ["basic"]})).await;
        let elsewhere = self.token(json!({"name": "elsewhere", "allowed_cidrs": ["192.0.2.0/24"]})).await;
        self.world.admin.revoke(&revoked.id).await;
        wait::until("the token has expired", async || {
            let answer = Answer::to(get().bearer_auth(&ended.token)).await;
            (answer.status == 401).then_some(())
        })
        .await;
        self.ask(401, get().bearer_auth(&revoked.token)).await;
        self.ask(401, get().bearer_auth(&for_basic.token)).await;
        self.ask(403, get().bearer_auth(&elsewhere.token)).await;
        self.ask(401, get().basic_auth("somebody-else", Some(&alice))).await;

        let mistyped = format!("{}~", &alice[..alice.len() - 1]);
        let checksum =
            format!("{}{}", &alice[..alice.len() - 1], if alice.ends_with('0') { '1' } else { '0' });
        self.secrets.extend([mistyped.clone(), checksum.clone()]);
        for wrong in [&mistyped, &checksum, FOREIGN, PASSWORD] {
            self.ask(401, get().bearer_auth(wrong)).await;
            self.ask(401, get().basic_auth(CONTROL, Some(wrong))).await;
            self.ask(401, with(&format!("Token {wrong}"))).await;
            self.ask(401, with(wrong)).await;
        }
        self.ask(401, with(&format!("Basic {}!", STANDARD.encode(format!("{CONTROL}:{alice}"))))).await;
        self.ask(400, with(&format!("Bearer {alice}, Bearer {FOREIGN}"))).await;
        self.ask(400, get().bearer_auth(&alice).bearer_auth(FOREIGN)).await;
    }

    /// The service's own interfaces, with secrets in every wrong place.
    async fn ask_the_service(&mut self) {
        let (token, admin) = (self.alice.token.clone(), self.world.admin.clone());
        let api = Caller::http1(&format!("http://{}", self.world.service.management_address()));
        self.ask(200, api.get("/api/v1/me").bearer_auth(&token)).await;
        self.ask(403, api.get("/api/v1/users").bearer_auth(&token)).await;
        for wrong in [FOREIGN, PASSWORD] {
            self.ask(401, api.get("/api/v1/me").bearer_auth(wrong)).await;
            self.ask(401, api.get("/api/v1/me").basic_auth(CONTROL, Some(wrong))).await;
        }
        let get = |path: String| admin.request(Method::GET, &path, None);
        self.ask(404, get(format!("/users/{token}"))).await;
        self.ask(404, get(format!("/users/{token}/tokens"))).await;
        self.ask(404, get(format!("/tokens/{token}"))).await;
        self.ask(404, get(format!("/{token}"))).await;
        self.ask(400, get(format!("/users?cursor={token}"))).await;
        self.ask(400, get(format!("/users?limit={token}"))).await;
        self.ask(400, get(format!("/audit?action={token}"))).await;
        self.ask(400, get(format!("/audit?since={token}"))).await;
        let post = |path: &str, body: serde_json::Value| admin.request(Method::POST, path, Some(body));
        let tokens = format!("/users/{CONTROL}/tokens");
        self.ask(422, post("/users", json!({"name": token}))).await;
        self.ask(400, post("/users", json!(token))).await;
        self.ask(400, post(&tokens, json!({"name": "x", "scopes": token}))).await;
        self.ask(422, post(&tokens, json!({"name": "x", "expires_in": token}))).await;
        self.ask(422, post(&tokens, json!({"name": "x", "allowed_cidrs": [token]}))).await;
        self.ask(422, post(&tokens, json!({"name": "x", "schemes": [token]}))).await;
        let broken =
            api.post("/api/v1/users").bearer_auth(&admin.token).header("content-type", "application/json");
        self.ask(400, broken.body(format!("{{\"name\": {token}}}"))).await;

        let edge = Caller::http1(&format!("http://{}", self.world.service.edge_address()));
        let verify = |body: &serde_json::Value| edge.post("/edge/v1/verify").json(body);
        self.ask(400, verify(&json!({"token_hash": token})).bearer_auth(EDGE_SECRET)).await;
        self.ask(401, verify(&json!({"token_hash": token}))).await;
        self.ask(401, verify(&json!({"token_hash": token})).bearer_auth(WRONG_EDGE_SECRET)).await;
        self.ask(404, edge.get(&format!("/edge/v1/{token}")).bearer_auth(EDGE_SECRET)).await;
        self.ask_for_gateways(&edge).await;
    }

    /// What gateways without the filter and other services send, which hold tokens, as no filter's questions do.
    async fn ask_for_gateways(&mut self, edge: &Caller) {
        let token = self.alice.token.clone();
        let authz = |secret: &str| edge.get("/edge/v1/authz").header("x-latchkey-edge-secret", secret);
        self.ask(200, authz(EDGE_SECRET).bearer_auth(&token)).await;
        self.ask(
            200,
            edge.get(&format!("/edge/v1/authz/{token}?{token}"))
                .bearer_auth(&token)
                .header("x-latchkey-edge-secret", EDGE_SECRET),
        )
        .await;
        self.ask(401, authz(EDGE_SECRET).bearer_auth(FOREIGN)).await;
        self.ask(401, authz(WRONG_EDGE_SECRET).bearer_auth(&token)).await;
        self.ask(503, authz(EDGE_SECRET).bearer_auth(&token).header("x-latchkey-schemes", &token)).await;
        self.ask(
            503,
            authz(EDGE_SECRET).bearer_auth(&token).header("x-latchkey-realm", format!("\"{token}")),
        )
        .await;
        let introspect = |body: String| {
            let request = edge.post("/edge/v1/introspect").bearer_auth(EDGE_SECRET);
            request.header("content-type", "application/x-www-form-urlencoded").body(body)
        };
        self.ask(200, introspect(format!("token={token}"))).await;
        self.ask(200, introspect(format!("token={FOREIGN}"))).await;
        self.ask(400, introspect(format!("token={token}&token={token}"))).await;
        self.ask(400, introspect(format!("token_hash={token}"))).await;
        self.ask(400, introspect(format!("token={token}&client_address={token}"))).await;
    }

    /// The service falls silent, and then is gone.
    async fn suffer_outages(&mut self) {
        let (gateway, token) = (self.world.envoy.http1(), self.alice.token.clone());
        let get = || gateway.get("/orders").bearer_auth(&token);
        self.world.service.pause();
        self.ask(503, get()).await;
        self.world.service.resume();
        self.world.service.kill().await;
        self.ask(503, get()).await;
        self.world.service.start_again().await;
        wait::until("the gateway is open again", async || {
            (Answer::to(get()).await.status == 200).then_some(())
        })
        .await;
    }

    async fn present_the_wrong_edge_secret(&mut self) {
        let mut config =
            verbose(EnvoyConfig::new(self.world.service.edge_address(), self.world.upstream.address()));
        config.environment = vec![("LATCHKEY_EDGE_SECRET".to_owned(), WRONG_EDGE_SECRET.to_owned())];
        let envoy = Envoy::start(config).await;
        let token = self.alice.token.clone();
        self.ask(503, envoy.http1().get("/orders").bearer_auth(&token)).await;
        self.keep_admin_pages(&envoy).await;
    }

    /// What Envoy's admin interface tells.
    async fn keep_admin_pages(&mut self, envoy: &Envoy) {
        for path in ["/config_dump?include_eds", "/stats", "/stats/prometheus", "/clusters", "/server_info"] {
            self.answers.push(envoy.admin(path).await);
        }
    }

    /// Searches answers, metrics, the description, what the upstream has seen, and the files of the test's directory;
    /// of those, so many have to hold the control.
    async fn assert_clean(&mut self, more: &[(&str, usize)]) {
        for page in ["/metrics", "/readyz"] {
            self.answers.push(Answer::to(self.world.service.monitor().get(page)).await.body);
        }
        let api = Caller::http1(&format!("http://{}", self.world.service.management_address()));
        self.answers.push(Answer::to(api.get("/api/v1/openapi.json")).await.body);
        for path in ["/audit?limit=200", &format!("/users/{CONTROL}/tokens?limit=200")] {
            self.answers.push(format!("{:?}", self.world.admin.all(path).await));
        }
        let dump = "/config_dump?include_eds";
        self.answers.extend([self.world.envoy.admin(dump).await, self.world.envoy.admin("/stats").await]);
        self.answers.push(format!("{:?}", self.world.upstream.received()));
        let search = Search::for_secrets(&self.secrets);
        let leaks: Vec<_> =
            self.answers.iter().filter(|answer| !search.finds(answer.as_bytes()).is_empty()).collect();
        assert!(leaks.is_empty(), "secrets are in answers: {leaks:#?}");
        let logs = [("service-1.log", 1), ("envoy-1.log", 1)];
        self.assert_clean_files(&self.folder, &[&logs, more].concat());
    }

    /// Searches every file under a folder but those that hold a secret on purpose.
    fn assert_clean_files(&self, folder: &Path, controls: &[(&str, usize)]) {
        let (found, _) = Search::for_secrets(&self.secrets).files(folder, &secrets::is_input);
        assert!(found.is_empty(), "secrets are left: {found:#?}");
        let (seen, _) = Search::for_secrets(&[CONTROL]).files(folder, &|_| false);
        let seen: BTreeSet<_> = seen.iter().filter_map(|line| line.split(": ").next()).collect();
        for (name, least) in controls {
            let files = seen.iter().filter(|file| file.contains(name)).count();
            assert!(files >= *least, "the search of {name} found no trace of {CONTROL} either: {seen:#?}");
        }
    }
}

/// With as much of the filter's doings in Envoy's log as there is.
fn verbose(mut config: EnvoyConfig) -> EnvoyConfig {
    let arguments = ["-l", "info", "--component-log-level", "wasm:trace"];
    config.arguments = arguments.map(str::to_owned).to_vec();
    config.uncached().rules(json!([{"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]}]))
}

#[tokio::test]
async fn secret_a_refused_configuration_does_not_repeat_the_edge_secret() {
    for secret in [json!([EDGE_SECRET]), json!(format!("{EDGE_SECRET} with a blank")), json!(EDGE_SECRET)] {
        let nowhere = "127.0.0.1:9".parse().expect("an address");
        let config = EnvoyConfig::new(nowhere, nowhere).plugin_service("secret", secret);
        // With a right value it is wrong too: `secret_env` is set.
        let said = Envoy::validate(&config.build(ports::free(), ports::free()));
        let said = said.expect_err("Envoy takes a bad configuration");
        assert!(said.contains("service.secret"), "{said}");
        Search::for_secrets(&[EDGE_SECRET]).assert_clean("Envoy's log", said.as_bytes());
    }
}

#[test]
fn secret_a_service_that_cannot_start_does_not_repeat_what_is_secret() {
    const DATABASE_PASSWORD: &str = "MARKED-database-password-0123456789";
    let file = test_dir::file("edge-secret", "txt");
    std::fs::write(&file, format!("{EDGE_SECRET} and a blank\n")).expect("a file is written");
    let file = file.to_str().expect("a path in UTF-8");
    let unreachable = format!("postgres://latchkey:{DATABASE_PASSWORD}@127.0.0.1:1/latchkey");
    let odd = format!("mysql://latchkey:{DATABASE_PASSWORD}@127.0.0.1:1/latchkey");
    for (code, arguments) in [
        (2, ["--edge-secret-file", file]),
        (1, ["--database-url", &unreachable]),
        (2, ["--database-url", &odd]),
    ] {
        let listen = ["--listen", "--edge-listen", "--metrics-listen"];
        let listen = listen.iter().flat_map(|flag| [*flag, "127.0.0.1:0"]);
        let mut serve = program();
        serve.arg("serve").args(["--log-level", "trace"]).args(arguments).args(listen);
        let output = serve.current_dir(std::env::temp_dir()).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        Search::for_secrets(&[EDGE_SECRET, DATABASE_PASSWORD]).assert_clean("what it says", &said);
    }
}
