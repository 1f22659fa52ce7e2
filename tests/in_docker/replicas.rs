//! `envoy/compose.yaml` with `--profile postgres`: two replicas of the service on one PostgreSQL, behind one Envoy.

use reqwest::Method;
use serde_json::json;

use crate::support::compose::Compose;
use crate::support::{Answer, docker, wait};

#[tokio::test]
async fn two_replicas_on_postgres_know_what_each_other_does_and_one_is_enough() {
    docker::require();
    let compose = Compose::up_on_postgres().await;
    let running = compose.run(&["ps", "--services", "--filter", "status=running"]);
    let mut running: Vec<_> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["envoy", "postgres", "replica-1", "replica-2"], "the profile starts nothing else");
    let token = compose.run(&["exec", "-T", "replica-1", "/latchkey", "bootstrap"]);
    let (one, other) = compose.admins(token.trim());

    // Made at one replica, known to the other at once, and a token of either passes.
    let alice = one.user_with_token("alice").await;
    let alices = other.expect(200, Method::GET, "/users/alice/tokens", None).await;
    assert_eq!(alices["items"][0]["id"], json!(alice.id));
    let gateway = compose.gateway();
    let myself = |token: &str| Answer::to(gateway.get("/rest/api/2/myself").bearer_auth(token));
    let passes = async |token: &str| (myself(token).await.status == 200).then_some(());
    wait::until("a token of the first replica's passes", || passes(&alice.token)).await;

    // Revoked at the other one.
    other.revoke(&alice.id).await;
    let refused = wait::until("the gateway refuses the revoked token", async || {
        let answer = myself(&alice.token).await;
        (answer.status == 401 && answer.json()["error"]["code"].is_null()).then_some(answer)
    });
    refused.await.assert_refused(401, "Provided API key is invalid");

    // One of them dies: nobody who has a good token is refused, and all goes on.
    compose.run(&["kill", "replica-1"]);
    let bob = other.user_with_token("bob").await;
    wait::until("a token passes with one replica", async || {
        let answer = myself(&bob.token).await;
        assert!(![401, 403].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    compose.run(&["up", "--detach", "--no-build"]);
    compose.ready().await;
    one.revoke(&bob.id).await;
    wait::until("the gateway refuses it", async || (myself(&bob.token).await.status == 401).then_some(()))
        .await;
}
