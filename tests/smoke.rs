//! The product in one test: a token made through the API opens the gateway, and a revoked one does not.

use crate::support::{Answer, World};

#[tokio::test]
async fn a_token_made_through_the_api_opens_the_gateway_and_a_revoked_one_does_not() {
    let world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;

    for (version, gateway) in world.envoy.both() {
        let bearer = gateway.get("/orders?x=1").bearer_auth(&alice.token);
        let basic = gateway.get("/orders?x=1").basic_auth("alice", Some(&alice.token));
        for (scheme, request) in [("Bearer", bearer), ("Basic", basic)] {
            let before = world.upstream.count();
            let answer = Answer::to(request.header("x-latchkey-user", "mallory")).await;
            assert_eq!(answer.status, 200, "{version}, {scheme}: {answer:?}");
            assert_eq!(world.upstream.count(), before + 1, "{version}, {scheme}");
            let seen = world.upstream.last();
            assert_eq!(seen.path, "/orders?x=1");
            assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"), "{version}, {scheme}");
            assert_eq!(seen.header("x-latchkey-token-id").as_ref(), Some(&alice.id), "{version}, {scheme}");
            assert_eq!(seen.header("authorization"), None, "{version}, {scheme}");
        }
    }

    world.admin.revoke(&alice.id).await;
    world.envoy.until_refused(&alice.token).await;
    let (before, refused) = (world.upstream.count(), world.envoy.metric("refused.revoked").await);
    for (version, gateway) in world.envoy.both() {
        let answer = Answer::to(gateway.get("/orders").bearer_auth(&alice.token)).await;
        answer.assert_refused(401, "Provided API key is invalid");
        assert_eq!(
            answer.all("www-authenticate"),
            [r#"Bearer realm="api", error="invalid_token""#],
            "{version}"
        );
    }
    assert_eq!(world.upstream.count(), before, "a refused request reached the upstream");
    assert_eq!(world.envoy.metric("refused.revoked").await, refused + 2);
}
