//! Rule 10, steady: a database that is lost or busy is said so, refuses nobody, and is used again with no restart.

use reqwest::Method;
use serde_json::json;

use crate::prompt::warm_up;
use crate::support::clients::Clients;
use crate::support::database::Database;
use crate::support::postgres::Cluster;
use crate::support::small_disk::SmallDisk;
use crate::support::{Answer, EnvoyConfig, Service, World, test_dir, wait};

#[tokio::test]
async fn steady_a_lost_postgres_is_said_by_readyz_refuses_nobody_and_is_used_again_with_no_restart() {
    let cluster = Cluster::start(false);
    let service = Service::on(&cluster.database()).await;
    let mut world = World::around(service, EnvoyConfig::uncached).await;
    let alice = world.admin.user_with_token("alice").await;
    let process = world.service.process().id();
    let clients = Clients::start(&world.envoy.http1(), "/orders", &alice.token);
    clients.see(200).await;

    cluster.crash();
    clients.see(503).await;
    let answer = Answer::to(world.envoy.http1().get("/orders").bearer_auth(&alice.token)).await;
    answer.assert_refused(503, "Authorization is temporarily unavailable");
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    let ready = world.service.readiness().await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_ne!(ready.json()["checks"]["database"], "ok");
    let verdict = world.service.edge().verify(&alice.token).await.expect("an answer");
    assert_eq!((verdict.status, &verdict.json()["error"]["code"]), (503, &json!("unavailable")));
    let call = world.admin.call(Method::GET, "/me", None).await;
    assert_eq!((call.status, &call.json()["error"]["code"]), (503, &json!("unavailable")), "{call:?}");
    let monitor = world.service.monitor();
    assert_eq!(Answer::to(monitor.get("/livez")).await.status, 200);
    let metrics = Answer::to(monitor.get("/metrics")).await.body;
    assert!(metrics.contains(r#"latchkey_verdicts_total{outcome="unavailable"}"#), "{metrics}");

    cluster.resume();
    clients.see(200).await;
    clients.assert_saw_only(&[200, 503]).await;
    assert_eq!(world.service.readiness().await.status, 200);
    world.admin.revoke(&alice.id).await;
    let answer = Answer::to(world.envoy.http1().get("/orders").bearer_auth(&alice.token)).await;
    answer.assert_refused(401, "Provided API key is invalid");
    world.service.process().assert_running();
    assert_eq!(world.service.process().id(), process);
}

/// SQLite with a write-ahead log: a writer keeps other writers waiting, and never a reader.
#[tokio::test]
async fn steady_a_locked_sqlite_file_still_gives_verdicts_and_changes_wait_or_are_told_to_come_again() {
    let world = World::with(EnvoyConfig::uncached).await;
    let alice = world.admin.user_with_token("alice").await;
    let mut other = Database::open(world.service.database_url()).await;
    let make = || world.admin.call(Method::POST, "/users/alice/tokens", Some(json!({"name": "waits"})));
    let still_works = async || {
        let answer = Answer::to(world.envoy.http1().get("/orders").bearer_auth(&alice.token)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(world.service.readiness().await.status, 200);
    };

    other.run("BEGIN IMMEDIATE").await;
    let waiting = async {
        wait::until("the change is waiting", async || {
            let metrics = Answer::to(world.service.monitor().get("/metrics")).await.body;
            metrics.contains(r#"latchkey_http_requests_under_way{listener="api"} 1"#).then_some(())
        })
        .await;
        still_works().await;
        other.run("COMMIT").await;
    };
    let (made, ()) = tokio::join!(make(), waiting);
    assert_eq!(made.status, 201, "a change did not wait for the lock: {made:?}");

    other.run("BEGIN IMMEDIATE").await;
    let begun = wait::now();
    let refused = make().await;
    let took = begun.elapsed();
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("unavailable")),
        "{refused:?}"
    );
    assert_eq!(refused.header("retry-after").as_deref(), Some("1"));
    assert!(took.as_secs() < 10, "the caller waited {took:?}");
    still_works().await;
    other.run("COMMIT").await;
    assert_eq!(world.admin.tokens_of("alice").await.len(), 2, "a refused change was made");
    assert_eq!(make().await.status, 201);
}

/// The service's disk is full: the gateway goes on, changes are told why they are not made, and room is all that is needed.
#[tokio::test]
async fn steady_a_full_disk_refuses_changes_and_no_request_and_is_written_again_with_no_restart() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let service = Service::on(&format!("sqlite://{}", disk.path().join("latchkey.db").display())).await;
    let mut world = World::around(service, EnvoyConfig::uncached).await;
    let alice = world.admin.user_with_token("alice").await;
    let process = world.service.process().id();
    let clients = Clients::start(&world.envoy.http1(), "/orders", &alice.token);
    clients.see(200).await;

    disk.fill();
    let make = async |number: u32| {
        let user = json!({"name": format!("user{number}")});
        world.admin.call(Method::POST, "/users", Some(user)).await
    };
    let mut made = 0;
    let refused = loop {
        let answer = make(made).await;
        if answer.status != 201 {
            break answer;
        }
        made += 1;
    };
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (507, &json!("insufficient_storage")));
    for _ in 0..20 {
        assert_eq!(make(made).await.status, 507);
    }
    let ready = world.service.readiness().await;
    assert_eq!(ready.status, 200, "{ready:?}");
    assert_eq!(ready.json()["checks"]["changes"], "cannot be written: the disk is full");

    disk.free();
    assert_eq!(make(made).await.status, 201, "the service does not write again");
    assert_eq!(world.service.readiness().await.json()["checks"].get("changes"), None);
    clients.assert_saw_only(&[200]).await;
    assert_eq!(world.service.process().id(), process);
}

/// The volume of the database is not mounted when the service starts again: the database that it makes knows no token.
#[tokio::test]
async fn steady_a_service_on_an_empty_folder_refuses_no_valid_token_and_is_right_again_with_the_old_one() {
    let folder = test_dir::file("data", "dir");
    let away = folder.with_extension("away");
    std::fs::create_dir(&folder).expect("a folder");
    let service = Service::on(&format!("sqlite://{}", folder.join("latchkey.db").display())).await;
    let long = |config: EnvoyConfig| config.plugin("stale", json!({"max_ms": 300_000}));
    let mut world = World::around(service, long).await;
    let alice = world.admin.user_with_token("alice").await;
    let bob = world.admin.user_with_token("bob").await;
    warm_up(&world, &alice.token).await;
    let (gateway, of_bob) = (world.envoy.http1(), world.envoy.http1());
    let known = Clients::start(&gateway, "/orders", &alice.token);
    known.see(200).await;

    world.service.signal("TERM");
    world.service.process().wait().await;
    std::fs::rename(&folder, &away).expect("the volume goes");
    std::fs::create_dir(&folder).expect("an empty folder");
    world.service.start_again().await;
    let unknown = Clients::start(&of_bob, "/orders", &bob.token);
    unknown.see(503).await;
    known.see(200).await;
    let ready = world.service.readiness().await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("not_bootstrapped")), "{ready:?}");
    let call = world.admin.call(Method::GET, "/me", None).await;
    assert_eq!((call.status, &call.json()["error"]["code"]), (503, &json!("not_bootstrapped")));
    let log = world.service.log();
    assert!(log.contains("made a new, empty database") && log.contains("latchkey bootstrap"), "{log}");

    world.service.signal("TERM");
    world.service.process().wait().await;
    std::fs::remove_dir_all(&folder).expect("the empty folder goes");
    std::fs::rename(&away, &folder).expect("the volume is back");
    world.service.start_again().await;
    unknown.see(200).await;
    known.assert_saw_only(&[200]).await;
    unknown.assert_saw_only(&[200, 503]).await;
    assert_eq!(world.envoy.metric("cache_evictions.reset").await, 0, "the edge has forgotten what it knew");
    world.admin.revoke(&alice.id).await;
    world.envoy.until_refused(&alice.token).await.assert_refused(401, "Provided API key is invalid");
}
