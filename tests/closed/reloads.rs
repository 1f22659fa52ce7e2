//! The configuration changes while requests are under way: Envoy takes its listeners from a file (LDS).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::database::Database;
use crate::support::listener_file::ListenerFile;
use crate::support::service::Service;
use crate::support::{Answer, Envoy, EnvoyConfig, Upstream, wait};

fn plugin(rules: &Value) -> Value {
    let service = json!({"cluster": "latchkey", "secret_env": "LATCHKEY_EDGE_SECRET", "timeout_ms": 30_000});
    json!({"service": service, "rules": rules, "usage": {"flush_ms": 500}})
}

fn public() -> Value {
    plugin(&json!([{"match": {"path_prefix": "/public/"}, "auth": "none"}]))
}

struct Scene {
    envoy: Envoy,
    file: ListenerFile,
    upstream: Upstream,
    service: Service,
}

impl Scene {
    /// Connections that began under a former configuration end after so many seconds, and what is left of it with them.
    async fn start(drain_seconds: u32) -> Self {
        let service = Service::start().await;
        let upstream = Upstream::start().await;
        let mut config = EnvoyConfig::new(service.edge_address(), upstream.address());
        config.arguments = vec!["--drain-time-s".to_owned(), drain_seconds.to_string()];
        config.plugin = plugin(&json!([]));
        let (file, config) = ListenerFile::of(config);
        let envoy = Envoy::start(config).await;
        let scene = Self { envoy, file, upstream, service };
        scene.until_anonymous("/public/x", 401).await;
        scene
    }

    /// Waits until a request without a token, on a new connection, is answered so.
    async fn until_anonymous(&self, path: &str, status: u16) {
        wait::until(&format!("{path} is answered {status}"), async || {
            let answer = Answer::try_to(self.envoy.http1().get(path)).await.ok()?;
            (answer.status == status).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn closed_a_new_configuration_holds_at_once_waiting_requests_finish_and_a_bad_one_changes_nothing() {
    let scene = Scene::start(600).await;
    let (envoy, file) = (&scene.envoy, &scene.file);
    let alice = scene.service.bootstrap().user_with_token("alice").await;

    scene.service.pause();
    let waiting = tokio::spawn(Answer::to(envoy.http1().get("/waiting").bearer_auth(&alice.token)));
    envoy.until_in_flight(1).await;
    file.set_plugin(&public());
    scene.until_anonymous("/public/x", 200).await;
    scene.until_anonymous("/private", 401).await;
    let passed = scene.upstream.count();
    scene.service.resume();
    assert_eq!(waiting.await.expect("an answer").status, 200, "it began under the old configuration");
    assert_eq!(scene.upstream.count(), passed + 1);

    let mut bad = public();
    bad["service"]["timeout_ms"] = json!(0);
    bad["rules"] = json!([{"auth": "none"}]);
    file.set_plugin(&bad);
    wait::until("Envoy has refused the bad configuration", async || {
        (envoy.stat("listener_manager.lds.update_rejected").await == 1).then_some(())
    })
    .await;
    wait::until("the log names the field", async || envoy.log().contains("service.timeout_ms").then_some(()))
        .await;
    for (_, gateway) in envoy.both() {
        assert_eq!(Answer::to(gateway.get("/public/x")).await.status, 200);
        assert_eq!(Answer::to(gateway.get("/private")).await.status, 401);
        assert_eq!(Answer::to(gateway.get("/private").bearer_auth(&alice.token)).await.status, 200);
    }

    file.set_plugin(&plugin(&json!([])));
    scene.until_anonymous("/public/x", 401).await;
}

/// Requests that go on until they are told to end, each client's on one connection, and how many were answered. The clients give how many of their requests with a token had no answer.
fn load(scene: &Scene, token: &str, ended: &Arc<AtomicBool>, answers: &Arc<AtomicUsize>) -> JoinSet<usize> {
    let mut clients = JoinSet::new();
    for (_, gateway) in scene.envoy.both() {
        for (token, expected) in [(Some(token.to_owned()), 200), (None, 401)] {
            let (gateway, ended, answers) = (gateway.clone(), Arc::clone(ended), Arc::clone(answers));
            clients.spawn(async move {
                let mut unanswered = 0;
                while !ended.load(Ordering::Relaxed) {
                    let request = gateway.get("/private");
                    let request = match &token {
                        Some(token) => request.bearer_auth(token),
                        None => request.header("x-latchkey-user", "mallory"),
                    };
                    // A connection that Envoy drains may close under a request: no answer is no wrong answer.
                    if let Ok(answer) = Answer::try_to(request).await {
                        assert_eq!(answer.status, expected, "{answer:?}");
                        answers.fetch_add(1, Ordering::Relaxed);
                    } else if token.is_some() {
                        unanswered += 1;
                    }
                }
                unanswered
            });
        }
    }
    clients
}

/// Every request that the upstream received was counted, and none twice. A request may be allowed and then lose its connection, which
/// Envoy drains, before the upstream has it: its client has no answer.
async fn assert_written_down(scene: &Scene, received: usize, unanswered: usize) {
    let used = || async {
        let mut database = Database::open(scene.service.database_url()).await;
        let sum = "SELECT CAST(COALESCE(SUM(allowed), 0) AS BIGINT) FROM usage_hours";
        usize::try_from(database.number(sum).await).expect("a count")
    };
    wait::until("every request is written down", async || (used().await >= received).then_some(())).await;
    let used = used().await;
    assert!(used <= received + unanswered, "{used} were counted, of {received} and {unanswered}");
}

#[tokio::test]
async fn closed_and_unspoofable_under_load_while_the_configuration_changes_again_and_again() {
    let scene = Scene::start(1).await;
    let admin = scene.service.bootstrap();
    let alice = admin.user_with_token("alice").await;
    let (ended, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = load(&scene, &alice.token, &ended, &answers);
    for round in 0..8 {
        let (configuration, status) =
            if round % 2 == 0 { (public(), 200) } else { (plugin(&json!([])), 401) };
        scene.file.set_plugin(&configuration);
        scene.until_anonymous("/public/x", status).await;
        let before = answers.load(Ordering::Relaxed);
        wait::until("requests were answered meanwhile", async || {
            (answers.load(Ordering::Relaxed) >= before + 40).then_some(())
        })
        .await;
    }
    ended.store(true, Ordering::Relaxed);
    let mut unanswered = 0;
    while let Some(client) = clients.join_next().await {
        unanswered += client.expect("a client that saw nothing but its own kind of answer");
    }
    wait::until("no former configuration is left", async || {
        (scene.envoy.stat("listener_manager.total_filter_chains_draining").await
            + scene.envoy.stat("listener_manager.total_listeners_draining").await
            == 0)
            .then_some(())
    })
    .await;
    wait::until("no callout is under way, those of former configurations included", async || {
        (scene.envoy.metric("callouts_under_way").await == 0).then_some(())
    })
    .await;
    assert_eq!(scene.envoy.stat("listener_manager.lds.update_rejected").await, 0);
    assert_eq!(scene.envoy.deaths().await, 0, "the filter has died");
    let received = scene.upstream.received();
    let private: Vec<_> = received.iter().filter(|request| request.path == "/private").collect();
    for seen in &private {
        assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"));
        assert_eq!(seen.header("authorization"), None);
    }
    // Whoever follows the feed and reports usage now, it is not who did at first.
    assert_written_down(&scene, private.len(), unanswered).await;
    let hits = scene.envoy.metric("cache_hits").await;
    for _ in 0..20 {
        assert_eq!(
            Answer::to(scene.envoy.http1().get("/private").bearer_auth(&alice.token)).await.status,
            200
        );
    }
    assert!(scene.envoy.metric("cache_hits").await >= hits + 10, "verdicts serve again");
    admin.revoke(&alice.id).await;
    scene.envoy.until_refused(&alice.token).await.assert_refused(401, "Provided API key is invalid");
    assert!(scene.envoy.metric("cache_evictions.changed").await > 0, "the feed is followed");
}
