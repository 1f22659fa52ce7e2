//! `envoy/compose.yaml`, as an operator would try it.

use serde_json::json;

use crate::support::compose::Compose;
use crate::support::{Answer, docker};

#[tokio::test]
async fn the_compose_set_up_starts_answers_keeps_its_state_and_goes() {
    docker::require();
    let compose = Compose::up().await;
    let token = compose.run(&["exec", "-T", "latchkey", "/latchkey", "bootstrap"]);
    let admin = compose.admin(token.trim());
    let alice = admin.user_with_token("alice").await;

    let gateway = compose.gateway();
    let myself = || gateway.get("/rest/api/2/myself");
    for request in [myself().bearer_auth(&alice.token), myself().basic_auth("alice", Some(&alice.token))] {
        let answer = Answer::to(request).await;
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("alice")), "{answer:?}");
    }
    Answer::to(myself()).await.assert_refused(401, "API key is missing");
    Answer::to(myself().bearer_auth("lk_wrong")).await.assert_refused(401, "Provided API key is invalid");
    let stats = Answer::to(compose.envoy_metrics().get("/stats/prometheus")).await;
    assert!(stats.body.contains(r#"latchkey_refused{reason="missing"} 1"#), "{}", stats.body);

    for service in ["latchkey", "envoy"] {
        let sealed = compose.inspect(service, "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}");
        let (read_only, user) = sealed.split_once(' ').expect("two values");
        assert_eq!(read_only, "true", "{service} can write to its file system");
        assert!(
            !["", "0", "root"].contains(&user.split(':').next().unwrap_or("")),
            "{service} runs as \"{user}\""
        );
    }

    compose.run(&["kill", "latchkey"]);
    compose.run(&["up", "--detach", "--no-build"]);
    compose.ready().await;
    crate::support::wait::until("the token opens the gateway again", async || {
        (Answer::to(myself().bearer_auth(&alice.token)).await.status == 200).then_some(())
    })
    .await;
    admin.revoke(&alice.id).await;
    // The demo's upstream is the service, which refuses the token itself, in its own words, until the gateway does.
    let refused = crate::support::wait::until("the gateway refuses the revoked token", async || {
        let answer = Answer::to(myself().bearer_auth(&alice.token)).await;
        (answer.status == 401 && answer.json()["error"]["code"].is_null()).then_some(answer)
    });
    refused.await.assert_refused(401, "Provided API key is invalid");
}
