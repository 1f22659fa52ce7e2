//! Rule 4, prompt: verify answers that a revocation overtakes. The service says yes, the token is revoked, every worker hears
//! of that, and only then the yes arrives: it is not believed, and leaves nothing behind.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::task::JoinSet;

use crate::prompt::warm_up;
use crate::support::service::Made;
use crate::support::{Answer, EnvoyConfig, Filter, Relay, Service, World, wait};

/// How many tokens are asked about at the same time, and by how many clients each.
const TOKENS: usize = 25;
const CLIENTS: usize = 4;
const WORKERS: u64 = 2;

/// A gateway whose look-ups come by a relay, while its feed does not.
struct Scene {
    world: World,
    look_ups: Relay,
}

impl Scene {
    async fn start() -> Self {
        let service = Service::start().await;
        let (look_ups, edge) = (Relay::to(service.edge_address()).await, service.edge_address());
        let configure = |config: EnvoyConfig| {
            let config = config.service_at(look_ups.address()).feed(edge);
            config.plugin_service("timeout_ms", json!(30_000))
        };
        let world = World::around(service, configure).await;
        world.admin.lift_limits().await;
        world.admin.create_user("alice").await;
        Self { world, look_ups }
    }

    async fn tokens(&self, count: usize) -> Vec<Made> {
        let mut tokens = Vec::new();
        for number in 0..count {
            tokens.push(self.world.admin.create_token("alice", json!({"name": format!("{number}")})).await);
        }
        tokens
    }

    /// How many verdicts of yes the service has given.
    async fn yeses(&self) -> u64 {
        self.world.service.metric(r#"latchkey_verdicts_total{outcome="usable"}"#).await
    }

    /// Clients with connections of their own ask with each token, and the service has said yes to all of them, which no
    /// worker has heard.
    async fn held_up(&self, tokens: &[Made]) -> JoinSet<u16> {
        let before = self.yeses().await;
        self.look_ups.hold();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let gateway = self.world.envoy.http2();
            for token in tokens {
                let request = gateway.get("/").bearer_auth(&token.token);
                clients.spawn(async move { Answer::to(request).await.status });
            }
        }
        self.world.envoy.until_in_flight((tokens.len() * CLIENTS) as u64).await;
        let asked = self.world.envoy.metric("callouts_under_way").await;
        wait::until("the service has said yes", async || {
            (self.yeses().await >= before + asked.max(tokens.len() as u64)).then_some(())
        })
        .await;
        clients
    }

    async fn revoke(&self, tokens: &[Made]) {
        for token in tokens {
            self.world.admin.revoke(&token.id).await;
        }
    }

    /// What each token is answered, on connections that any worker may get.
    async fn statuses(&self, tokens: &[Made]) -> BTreeSet<u16> {
        let mut statuses = BTreeSet::new();
        for _ in 0..CLIENTS {
            let gateway = self.world.envoy.http2();
            for token in tokens {
                statuses.insert(Answer::to(gateway.get("/").bearer_auth(&token.token)).await.status);
            }
        }
        statuses
    }
}

#[tokio::test]
async fn prompt_a_yes_that_arrives_after_its_revocation_was_told_lets_nobody_through() {
    let scene = Scene::start().await;
    let world = &scene.world;
    for round in 1..=8 {
        let (marker, tokens) = (scene.tokens(1).await, scene.tokens(TOKENS).await);
        warm_up(world, &marker[0].token).await;
        let passed = world.upstream.count();
        let clients = scene.held_up(&tokens).await;
        scene.revoke(&tokens).await;
        // Revisions are told in their order: who has forgotten the marker has heard of all before it.
        let told = world.envoy.metric("cache_evictions.changed").await + Filter::chosen().edges(WORKERS);
        scene.revoke(&marker).await;
        wait::until("every worker has heard of it", async || {
            (world.envoy.metric("cache_evictions.changed").await == told).then_some(())
        })
        .await;
        scene.look_ups.mend();
        let refused = BTreeSet::from([401]);
        let answers: BTreeSet<u16> = clients.join_all().await.into_iter().collect();
        assert_eq!(answers, refused, "round {round}");
        assert_eq!(scene.statuses(&tokens).await, refused, "round {round}");
        assert_eq!(world.upstream.count(), passed, "round {round}: a revoked token passed");
    }
}

#[tokio::test]
async fn prompt_a_yes_and_a_revocation_that_arrive_together_leave_no_revoked_token_accepted() {
    let scene = Scene::start().await;
    for round in 0..8 {
        let tokens = scene.tokens(TOKENS).await;
        let clients = scene.held_up(&tokens).await;
        // The answers go on in the middle of the revocations: each round somewhere else.
        let (first, second) = tokens.split_at(round * TOKENS / 8);
        scene.revoke(first).await;
        scene.look_ups.mend();
        scene.revoke(second).await;
        let answers: BTreeSet<u16> = clients.join_all().await.into_iter().collect();
        assert!(answers.is_subset(&BTreeSet::from([200, 401])), "round {round}: {answers:?}");
        let refused = BTreeSet::from([401]);
        wait::until("no worker lets any of them pass", async || {
            (scene.statuses(&tokens).await == refused).then_some(())
        })
        .await;
        assert_eq!(scene.statuses(&tokens).await, refused, "round {round}: never again");
    }
}
