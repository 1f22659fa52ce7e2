//! The end of PostgreSQL's primary during writes, and its synchronous standby in its place: what was acknowledged is there,
//! the answer to what is not is 503, and nothing has to be restarted. The service reaches its database by a relay that is moved
//! to the standby, as operators do it with a proxy or a virtual address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::durable::{Acknowledged, assert_kept, assert_whole};
use crate::prompt::warm_up;
use crate::support::clients::Clients;
use crate::support::postgres::Cluster;
use crate::support::service::{Edge, Made};
use crate::support::{Admin, Answer, Relay, Service, World, made_up, ports, wait};

const WRITERS: usize = 4;
/// What an operator is promised for a revocation at an edge whose feed is up.
const PROMPT: Duration = Duration::from_secs(1);

/// A primary, its standby, and the relay by which services reach the one or the other.
struct Databases {
    primary: Cluster,
    standby: Cluster,
    standby_address: SocketAddr,
    /// By which the standby hears of what the primary does.
    replication: Relay,
    relay: Relay,
    url: String,
}

impl Databases {
    async fn start() -> Self {
        let ports = [ports::free(), ports::free()];
        let [primary_address, standby_address] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let primary = Cluster::primary(ports[0]);
        let direct = primary.database();
        let replication = Relay::to(primary_address).await;
        let standby = primary.standby(ports[1], replication.address());
        wait::until("the standby is synchronous", async || {
            let state = primary.sql("postgres", "SELECT sync_state FROM pg_stat_replication");
            (state == "sync").then_some(())
        })
        .await;
        let relay = Relay::to(primary_address).await;
        let url = direct.replace(&primary_address.to_string(), &relay.address().to_string());
        Self { primary, standby, standby_address, replication, relay, url }
    }

    /// Keeps from the standby what the primary does, and waits until a change waits for the standby.
    async fn hold_replication(&self) {
        self.replication.hold();
        wait::until("a change waits for the standby", async || {
            let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            (self.primary.sql("postgres", waiting) != "0").then_some(())
        })
        .await;
    }

    /// The end of the primary's machine, with what the standby has not got yet.
    fn kill(&self) {
        self.primary.kill();
        self.replication.cut();
    }

    /// The standby takes the primary's place.
    fn fail_over(&self) {
        self.standby.promote();
        self.relay.cut();
        self.relay.move_to(self.standby_address);
        self.relay.mend();
    }
}

/// Writers, and what they were answered.
#[derive(Default)]
struct Writing {
    book: Mutex<Acknowledged>,
    unavailable: Mutex<usize>,
    ended: AtomicBool,
}

impl Writing {
    fn book(&self) -> MutexGuard<'_, Acknowledged> {
        self.book.lock().expect("the book")
    }

    fn changes(&self) -> usize {
        self.book().changes
    }

    fn unavailable(&self) -> usize {
        *self.unavailable.lock().expect("the count")
    }

    /// Waits until so many more changes were acknowledged.
    async fn until_changes(&self, more: usize) {
        let before = self.changes();
        wait::until("the writers get on", async || (self.changes() >= before + more).then_some(())).await;
    }

    /// Whether the answer acknowledges a change; panics if it neither does nor says that the service cannot now.
    fn acknowledges(&self, answer: &Answer, status: u16) -> bool {
        if answer.status == status {
            return true;
        }
        assert!(answer.status == 503 && answer.json()["error"]["code"] == "unavailable", "{answer:?}");
        *self.unavailable.lock().expect("the count") += 1;
        false
    }
}

/// Makes tokens, of which it revokes every second one.
async fn write(writing: Arc<Writing>, admin: Admin, edge: Edge, user: String) {
    let path = format!("/users/{user}/tokens");
    let mut revoke = false;
    while !writing.ended.load(Ordering::Relaxed) {
        let answer = admin.call(Method::POST, &path, Some(json!({"name": "token"}))).await;
        if !writing.acknowledges(&answer, 201) {
            continue;
        }
        let made = Made::of(answer.json());
        {
            let mut book = writing.book();
            book.live.push(made.clone());
            book.changes += 1;
        }
        revoke = !revoke;
        if revoke {
            self::revoke(&writing, &admin, &edge, made).await;
        }
    }
}

async fn revoke(writing: &Writing, admin: &Admin, edge: &Edge, made: Made) {
    writing.book().unanswered.insert(made.id.clone());
    let answer = admin.call(Method::DELETE, &format!("/tokens/{}", made.id), None).await;
    if !writing.acknowledges(&answer, 204) {
        return;
    }
    {
        let mut book = writing.book();
        book.unanswered.remove(&made.id);
        book.live.retain(|token| token.id != made.id);
        book.revoked.push(made.clone());
        book.changes += 1;
    }
    let verdict = edge.verify(&made.token).await.expect("the service answers");
    if writing.acknowledges(&verdict, 200) {
        let verdict = verdict.json();
        assert_eq!(verdict["reason"], "revoked", "{verdict}");
        let mut book = writing.book();
        book.revision = book.revision.max(verdict["revision"].as_u64().expect("a revision"));
    }
}

async fn until_ready(services: [&Service; 2], status: u16) {
    for service in services {
        let what = format!("/readyz says {status}");
        wait::until(&what, async || (service.readiness().await.status == status).then_some(())).await;
    }
}

/// Two services on the same database, a gateway before the first of them, and two known tokens.
struct Scene {
    databases: Databases,
    world: World,
    other: Service,
    alice: Made,
    bob: Made,
}

impl Scene {
    async fn start() -> Self {
        let databases = Databases::start().await;
        let world = World::around(Service::on(&databases.url).await, |config| config).await;
        let other = Service::on(&databases.url).await;
        world.admin.lift_limits().await;
        let [alice, bob] =
            [world.admin.user_with_token("alice").await, world.admin.user_with_token("bob").await];
        for token in [&alice, &bob] {
            warm_up(&world, &token.token).await;
        }
        Self { databases, world, other, alice, bob }
    }

    fn services(&self) -> [&Service; 2] {
        [&self.world.service, &self.other]
    }

    /// Starts writers at both services.
    async fn write(&self, writing: &Arc<Writing>) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let user = format!("writer-{number}");
            self.world.admin.create_user(&user).await;
            writing.book().users.insert(user.clone());
            let service = self.services()[number % 2];
            let admin = service.admin_with(&self.world.admin.token);
            writers.spawn(write(Arc::clone(writing), admin, service.edge(), user));
        }
        writers
    }

    async fn gateway_answers(&self, token: &str) -> u16 {
        Answer::to(self.world.envoy.http1().get("/").bearer_auth(token)).await.status
    }
}

// The relay runs while a program is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_nothing_acknowledged_is_lost_when_postgres_is_killed_and_its_synchronous_standby_takes_over()
{
    let scene = Scene::start().await;
    let [alice, bob] =
        [&scene.alice, &scene.bob].map(|it| Clients::start(&scene.world.envoy.http1(), "/", &it.token));
    let writing = Arc::<Writing>::default();
    let writers = scene.write(&writing).await;
    writing.until_changes(200).await;

    scene.databases.hold_replication().await;
    scene.databases.kill();
    until_ready(scene.services(), 503).await;
    let kept = writing.changes();
    for service in scene.services() {
        let verdict = service.edge().verify(&made_up::token()).await.expect("an answer");
        assert_eq!(verdict.status, 503, "{verdict:?}");
    }
    assert_eq!(scene.gateway_answers(&made_up::token()).await, 503, "what is not known needs the database");
    alice.see(200).await;
    bob.see(200).await;
    wait::until("each writer was answered 503", async || (writing.unavailable() >= WRITERS).then_some(()))
        .await;
    assert_eq!(writing.changes(), kept, "something was acknowledged with no database");

    let begun = wait::now();
    scene.databases.fail_over();
    until_ready(scene.services(), 200).await;
    println!(
        "ready {:?} after the promotion began; {} answers were 503",
        begun.elapsed(),
        writing.unavailable()
    );
    writing.until_changes(100).await;
    scene.world.admin.revoke(&scene.bob.id).await;
    let revoked = wait::now();
    bob.see(401).await;
    writing.ended.store(true, Ordering::Relaxed);
    writers.join_all().await;

    alice.see(200).await;
    let late = PROMPT + alice.slowest(wait::now());
    alice.assert_saw_only(&[200]).await;
    let seen = bob.assert_saw_only(&[200, 401]).await;
    let early = seen.iter().filter(|it| it.status == 401 && it.answered < revoked - PROMPT).count();
    assert_eq!(early, 0, "a valid token was refused");
    let last = seen.iter().filter(|it| it.status == 200).map(|it| it.sent).max();
    assert!(last.is_some_and(|last| last <= revoked + late), "a revoked token passed for longer");
    assert_eq!(scene.gateway_answers(&made_up::token()).await, 401, "the service is asked again");

    let mut book =
        Arc::into_inner(writing).expect("the writers have ended").book.into_inner().expect("the book");
    book.revoked.push(scene.bob.clone());
    for service in scene.services() {
        assert_kept(service, &service.admin_with(&scene.world.admin.token), &book, 0).await;
    }
    assert_whole(&scene.databases.url, &book).await;
}

/// A wait for a standby that PostgreSQL is made to end, as by a client's cancelling, ends with the change done and the standby
/// without it. A statement's longest time is no such end, nor is the service's patience.
// The relay runs while a program is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_what_the_standby_has_not_got_is_not_acknowledged_however_long_it_takes() {
    let databases = Databases::start().await;
    let mut service = Service::on(&databases.url).await;
    let admin = service.bootstrap();
    let alice = admin.user_with_token("alice").await;
    let asked = tokio::spawn({
        let (admin, id) = (admin.clone(), alice.id.clone());
        databases.replication.hold();
        async move { admin.call(Method::DELETE, &format!("/tokens/{id}"), None).await }
    });
    databases.hold_replication().await;
    // The service itself stands still for longer than a statement may take, and so does not give up in time.
    service.pause();
    let begun = wait::now();
    wait::until("a statement's time is over", async || {
        (begun.elapsed() > Duration::from_secs(7)).then_some(())
    })
    .await;
    service.resume();
    let answer = asked.await.expect("an answer");
    assert_eq!(answer.status, 503, "acknowledged, and the standby does not know it: {answer:?}");

    let verdict = service.edge().verdict(&alice.token).await.expect("a verdict");
    assert_eq!(verdict["token"]["id"], json!(alice.id), "told to edges, and the standby does not know it");
    databases.replication.mend();
    wait::until("the revocation has come through", async || {
        let verdict = service.edge().verdict(&alice.token).await.expect("a verdict");
        (verdict["reason"] == "revoked").then_some(())
    })
    .await;
    admin.revoke(&alice.id).await;
    service.process().assert_running();
}
