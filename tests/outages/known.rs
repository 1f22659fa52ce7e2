//! Outages while tokens are known, under load: the service killed, stopped, slow, and cut off in each way. A known token passes
//! until it is stale and not one request longer, a valid one is never refused, one that is revoked meanwhile is when the service
//! is back, and nobody has to help.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::prompt::warm_up;
use crate::support::clients::{Clients, Seen};
use crate::support::service::{Made, Settings};
use crate::support::{Admin, Answer, EnvoyConfig, Filter, Relay, Service, World, made_up, wait};

const STALE: Duration = Duration::from_millis(2000);
/// What an operator is promised for a revocation at an edge whose feed is up.
const PROMPT: Duration = Duration::from_secs(1);
/// How long a worker may need for what lies before it, beside what its slowest answer took.
const LITTLE: Duration = Duration::from_secs(1);

/// A gateway whose look-ups and feed come by relays of their own, and two users with tokens that every worker knows.
struct Scene {
    world: World,
    look_ups: Relay,
    feed: Relay,
    alice: Made,
    bob: Made,
}

/// When the first worker's verdicts became stale, and when the last one's: each heard its feed no earlier than the relay
/// sent the answer on, and hardly later.
#[derive(Clone, Copy)]
struct Staleness {
    first: Instant,
    last: Instant,
}

impl Scene {
    async fn start() -> Self {
        let service = Service::start().await;
        let [look_ups, feed] =
            [Relay::to(service.edge_address()).await, Relay::to(service.edge_address()).await];
        let configure = |config: EnvoyConfig| {
            let config = config.service_at(look_ups.address()).feed(feed.address());
            config.plugin("stale", json!({"max_ms": 2000})).plugin_service("timeout_ms", json!(500))
        };
        let world = World::around(service, configure).await;
        let [alice, bob] =
            [world.admin.user_with_token("alice").await, world.admin.user_with_token("bob").await];
        for token in [&alice, &bob] {
            warm_up(&world, &token.token).await;
        }
        Self { world, look_ups, feed, alice, bob }
    }

    fn clients(&self) -> [Clients; 2] {
        [&self.alice, &self.bob].map(|it| Clients::start(&self.world.envoy.http1(), "/", &it.token))
    }

    fn staleness(&self) -> Staleness {
        let told = self.feed.told();
        assert_eq!(
            told.len() as u64,
            Filter::chosen().edges(2),
            "each follows the feed on a connection of its own"
        );
        let (first, last) = (told.iter().min().expect("one"), told.iter().max().expect("one"));
        Staleness { first: *first + STALE, last: *last + STALE }
    }

    async fn stale_workers(&self) -> u64 {
        self.world.envoy.metric("feeds_stale").await
    }

    async fn until_stale_workers(&self, count: u64) {
        let count = Filter::chosen().edges(count);
        let what = format!("{count} workers are stale");
        wait::until(&what, async || (self.stale_workers().await == count).then_some(())).await;
    }

    async fn status(&self, token: &str) -> u16 {
        Answer::to(self.world.envoy.http1().get("/").bearer_auth(token)).await.status
    }

    /// Revokes bob's token while the service is away, as another replica would.
    async fn revoke_elsewhere(&self) {
        let url = self.world.service.database_url().to_owned();
        let other = Service::with(Settings { database_url: url, ..Settings::default() }).await;
        self.revoke_by(&other.admin_with(&self.world.admin.token)).await;
    }

    async fn revoke(&self) {
        self.revoke_by(&self.world.admin).await;
    }

    async fn revoke_by(&self, admin: &Admin) {
        admin.revoke(&self.bob.id).await;
    }

    /// All of it works again, and verdicts are kept as before.
    async fn assert_recovered(&self) {
        self.until_stale_workers(0).await;
        warm_up(&self.world, &self.alice.token).await;
        let answer = self.world.envoy.until_refused(&self.bob.token).await;
        answer.assert_refused(401, "Provided API key is invalid");
        assert_eq!(self.world.envoy.deaths().await, 0, "the filter has died");
    }

    /// The service gives no answer any more, neither to look-ups nor to the feed, and then it does again.
    async fn outage(
        &mut self,
        begin: impl AsyncFnOnce(&mut Self),
        revoke: impl AsyncFnOnce(&Self),
        end: impl AsyncFnOnce(&mut Self),
    ) {
        let [alice, bob] = self.clients();
        alice.see(200).await;
        bob.see(200).await;
        begin(self).await;
        let stale = self.staleness();
        revoke(self).await;
        assert_eq!(self.status(&made_up::token()).await, 503, "what is not known needs the service");
        alice.see(503).await;
        bob.see(503).await;
        self.until_stale_workers(2).await;
        alice.see(503).await;
        let back = wait::now();
        end(self).await;
        alice.see(200).await;
        bob.see(401).await;
        self.assert_recovered().await;
        let late = alice.slowest(stale.first) + LITTLE;
        let alice = alice.assert_saw_only(&[200, 503]).await;
        let bob = bob.assert_saw_only(&[200, 503, 401]).await;
        for seen in [&alice, &bob] {
            stale.assert_served_until_then(seen, back, late);
        }
        let passed = bob.iter().filter(|it| it.status == 200 && it.answered >= back).count();
        assert_eq!(passed, 0, "a revoked token was let through when the service was back");
    }
}

impl Staleness {
    /// No request was refused for want of a verdict before the first worker was stale, and none that was sent when the last
    /// one was has passed. A worker comes to the feed's answer as late as to a client's request: `late`.
    fn assert_served_until_then(self, seen: &[Seen], back: Instant, late: Duration) {
        let during = || seen.iter().filter(|it| it.answered < back);
        if let Some(early) = during().find(|it| it.status == 503 && it.answered < self.first) {
            panic!("a known token was refused {:?} before it was stale", self.first - early.answered);
        }
        if let Some(long) = during().rfind(|it| it.status == 200 && it.sent > self.last + late) {
            panic!("a known token passed {:?} after it was stale ({late:?} allowed)", long.sent - self.last);
        }
        let passed = during().filter(|it| it.status == 200 && it.sent > self.last - STALE / 2).count();
        assert!(passed > 10, "only {passed} requests passed in the second half of the time");
    }
}

#[tokio::test]
async fn steady_known_tokens_pass_until_they_are_stale_while_the_service_is_killed() {
    let mut scene = Scene::start().await;
    let kill = async |scene: &mut Scene| scene.world.service.kill().await;
    let start = async |scene: &mut Scene| scene.world.service.start_again().await;
    scene.outage(kill, Scene::revoke_elsewhere, start).await;
}

#[tokio::test]
async fn steady_known_tokens_pass_until_they_are_stale_while_the_service_is_stopped() {
    let mut scene = Scene::start().await;
    let stop = async |scene: &mut Scene| scene.world.service.pause();
    let resume = async |scene: &mut Scene| scene.world.service.resume();
    scene.outage(stop, Scene::revoke_elsewhere, resume).await;
}

#[tokio::test]
async fn steady_known_tokens_pass_until_they_are_stale_while_the_service_is_cut_off() {
    let mut scene = Scene::start().await;
    let cut = async |scene: &mut Scene| {
        scene.feed.cut();
        scene.look_ups.cut();
    };
    scene.outage(cut, Scene::revoke, mend).await;
}

async fn mend(scene: &mut Scene) {
    scene.feed.mend();
    scene.look_ups.mend();
}

#[tokio::test]
async fn steady_a_slow_service_is_waited_for_and_one_that_is_too_slow_is_away() {
    let mut scene = Scene::start().await;
    let by = |scene: &Scene, milliseconds: u64| {
        scene.feed.delay(Duration::from_millis(milliseconds));
        scene.look_ups.delay(Duration::from_millis(milliseconds));
    };
    by(&scene, 200);
    let begun = wait::now();
    while begun.elapsed() < STALE + STALE / 4 {
        assert_eq!(scene.status(&scene.alice.token).await, 200);
        assert_eq!(scene.status(&made_up::token()).await, 401, "the service's answer is in time");
        assert_eq!(scene.stale_workers().await, 0);
    }
    // Longer than a look-up may take, and than the feed's question with its wait.
    let slow = async |scene: &mut Scene| by(scene, 1500);
    scene.outage(slow, Scene::revoke, mend).await;
}

#[tokio::test]
async fn steady_with_the_feed_alone_cut_off_valid_tokens_always_pass_and_by_the_service_s_word_once_stale() {
    let scene = Scene::start().await;
    let [alice, bob] = scene.clients();
    alice.see(200).await;
    scene.feed.cut();
    let stale = scene.staleness();
    scene.revoke().await;
    bob.see(401).await;
    scene.until_stale_workers(2).await;
    let late = alice.slowest(stale.first) + LITTLE;
    wait::until("all is stale", async || (wait::now() > stale.last + late).then_some(())).await;
    let hits = scene.world.envoy.metric("cache_hits").await;
    alice.see(200).await;
    bob.see(401).await;
    assert_eq!(scene.world.envoy.metric("cache_hits").await, hits, "a stale verdict was served");
    scene.feed.mend();
    scene.assert_recovered().await;
    alice.assert_saw_only(&[200]).await;
    let bob = bob.assert_saw_only(&[200, 401]).await;
    let last = bob.iter().filter(|it| it.status == 200).map(|it| it.sent).max();
    assert!(last.is_some_and(|last| last <= stale.last + late), "a revoked token passed when it was stale");
}

#[tokio::test]
async fn steady_with_look_ups_alone_cut_off_known_tokens_always_pass_and_revoked_ones_never_again() {
    let scene = Scene::start().await;
    let [alice, bob] = scene.clients();
    bob.see(200).await;
    scene.look_ups.cut();
    scene.revoke().await;
    let revoked = wait::now();
    bob.see(503).await;
    assert_eq!(scene.status(&made_up::token()).await, 503);
    wait::until("it lasts for longer than verdicts may be stale", async || {
        assert_eq!(scene.stale_workers().await, 0, "the feed is heard");
        (revoked.elapsed() > STALE + STALE / 4).then_some(())
    })
    .await;
    scene.look_ups.mend();
    bob.see(401).await;
    scene.assert_recovered().await;
    let late = PROMPT + alice.slowest(wait::now());
    alice.assert_saw_only(&[200]).await;
    let bob = bob.assert_saw_only(&[200, 503, 401]).await;
    let last = bob.iter().filter(|it| it.status == 200).map(|it| it.sent).max();
    assert!(last.is_some_and(|last| last <= revoked + late), "a revoked token passed for longer");
}

/// How often the feed of the one worker was asked in vain.
async fn failures(world: &World) -> u64 {
    let mut failures = 0;
    for end in ["unreachable", "timeout", "not_sent"] {
        failures += world.envoy.metric(&format!("feed_answers.{end}")).await;
    }
    failures
}

/// How long a revoked token passed after the service was back and had answered a look-up.
async fn passed_after_the_return(world: &World, relays: [&Relay; 2], round: usize) -> Duration {
    let bob = world.admin.create_token("bob", json!({"name": format!("round {round}")})).await;
    warm_up(world, &bob.token).await;
    relays.into_iter().for_each(Relay::cut);
    let before = failures(world).await;
    world.admin.revoke(&bob.id).await;
    // The eighth is followed by a pause of two and a half seconds at least.
    wait::until("the feed backs off", async || (failures(world).await >= before + 8).then_some(())).await;
    relays.into_iter().for_each(Relay::mend);
    let gateway = world.envoy.http1();
    wait::until("a look-up is answered", async || {
        let answer = Answer::to(gateway.get("/").bearer_auth(made_up::token())).await;
        (answer.status == 401).then_some(())
    })
    .await;
    let back = wait::now();
    world.envoy.until_refused(&bob.token).await;
    back.elapsed()
}

#[tokio::test]
async fn prompt_a_feed_that_backs_off_is_asked_at_once_when_a_look_up_is_answered() {
    let service = Service::start().await;
    let [look_ups, feed] = [Relay::to(service.edge_address()).await, Relay::to(service.edge_address()).await];
    let configure = |config: EnvoyConfig| {
        let config = config.service_at(look_ups.address()).feed(feed.address()).concurrency(1);
        config.plugin("stale", json!({"max_ms": 600_000}))
    };
    let world = World::around(service, configure).await;
    world.admin.create_user("bob").await;
    let mut took = Vec::new();
    // The machine may be busy at one time and not at another.
    while took.len() < 4 {
        took.push(passed_after_the_return(&world, [&look_ups, &feed], took.len()).await);
        if took.last().is_some_and(|took| *took < Duration::from_secs(1)) {
            println!("a revoked token passed for {took:?} after the service was back");
            return;
        }
    }
    panic!("a revoked token passed for {took:?} after the service was back");
}
