//! What the filter's settings change in the answers: schemes, realm, token prefix.

use serde_json::json;

use super::{Shape, basic, bearer};
use crate::support::service::Settings;
use crate::support::{Answer, Envoy, EnvoyConfig, Service, Upstream, World, made_up};

#[tokio::test]
async fn only_enabled_schemes_are_taken_and_challenged_in_the_configured_realm() {
    for (scheme, challenge, invalid, multiple) in [
        ("bearer", r#"Bearer realm="my team""#, r#"Bearer realm="my team", error="invalid_token""#, true),
        (
            "basic",
            r#"Basic realm="my team", charset="UTF-8""#,
            r#"Basic realm="my team", charset="UTF-8""#,
            false,
        ),
    ] {
        let world =
            World::with(|config| config.plugin("schemes", json!([scheme])).plugin("realm", json!("my team")))
                .await;
        let alice = world.admin.user_with_token("alice").await;
        let values = [bearer(&alice.token), basic("alice", &alice.token)];
        for shape in Shape::all(&world.envoy) {
            let missing = Answer::to(shape.request("/", &[])).await;
            missing.assert_refused(401, "API key is missing");
            assert_eq!(missing.all("www-authenticate"), [challenge]);
            for value in &values {
                let answer = Answer::to(shape.request("/", std::slice::from_ref(value))).await;
                if value.to_ascii_lowercase().starts_with(scheme) {
                    assert_eq!(answer.status, 200, "{scheme}: {answer:?}");
                } else {
                    answer.assert_refused(401, "Provided API key is invalid");
                    assert_eq!(answer.all("www-authenticate"), [invalid]);
                }
            }
            let both = Answer::to(shape.request("/", &values)).await;
            both.assert_refused(400, "More than one credential was provided");
            let bearer = r#"Bearer realm="my team", error="invalid_request""#;
            assert_eq!(both.all("www-authenticate"), if multiple { vec![bearer] } else { vec![] });
        }
        assert_eq!(world.envoy.metric("refused.unsupported_scheme").await, 5);
        assert_eq!(world.upstream.count(), 5);
    }
}

/// `docker login` looks at the first challenge of a 401 and at no other; it can do Basic, and not our Bearer.
#[tokio::test]
async fn challenges_come_in_the_configured_order_by_rule_too_so_that_docker_login_works() {
    const BEARER: &str = r#"Bearer realm="api""#;
    const BASIC: &str = r#"Basic realm="api", charset="UTF-8""#;
    let rules = json!([
        {"match": {"path_prefix": "/v2/"}, "challenges": ["basic"]},
        {"match": {"path_prefix": "/bearer/"}, "challenges": ["bearer", "basic"]},
    ]);
    let world =
        World::with(|config| config.plugin("challenges", json!(["basic", "bearer"])).rules(rules)).await;
    let alice = world.admin.user_with_token("alice").await;
    for shape in Shape::all(&world.envoy) {
        // More than once, as answers are kept.
        for _ in 0..2 {
            for (path, expected) in
                [("/", &[BASIC, BEARER][..]), ("/v2/", &[BASIC]), ("/bearer/", &[BEARER, BASIC])]
            {
                let missing = Answer::to(shape.request(path, &[])).await;
                missing.assert_refused(401, "API key is missing");
                assert_eq!(missing.all("www-authenticate"), expected, "{path}, {}", shape.name);
            }
            let unsupported = Answer::to(shape.request("/v2/", &["Negotiate x".to_owned()])).await;
            unsupported.assert_refused(401, "Provided API key is invalid");
            assert_eq!(unsupported.all("www-authenticate"), [BASIC], "{}", shape.name);
            // The scheme that was used is what is wrong.
            let used = Answer::to(shape.request("/v2/", &[bearer(&made_up::token())])).await;
            used.assert_refused(401, "Provided API key is invalid");
            let invalid = r#"Bearer realm="api", error="invalid_token""#;
            assert_eq!(used.all("www-authenticate"), [invalid], "{}", shape.name);
        }
        assert_eq!(world.upstream.count() % 2, 0, "a denied request reached the upstream");
        let challenge = Answer::to(shape.request("/v2/", &[])).await.all("www-authenticate")[0].clone();
        assert!(challenge.starts_with("Basic "), "docker login dies of {challenge}");
        for value in [basic("alice", &alice.token), bearer(&alice.token)] {
            assert_eq!(Answer::to(shape.request("/v2/", &[value])).await.status, 200);
        }
    }
}

#[tokio::test]
async fn another_token_prefix_and_none_decide_which_tokens_are_looked_up() {
    let arguments = vec!["--token-prefix".to_owned(), "acme".to_owned()];
    let service = Service::with(Settings { arguments, ..Settings::default() }).await;
    let upstream = Upstream::start().await;
    let alice = service.bootstrap().user_with_token("alice").await;
    assert!(alice.token.starts_with("acme_"), "the service makes tokens with another prefix");
    let config = || EnvoyConfig::new(service.edge_address(), upstream.address());
    let ask = async |envoy: &Envoy, token: &str| {
        let [answer, ..] = Shape::all(envoy).map(|shape| shape.request("/", &[bearer(token)]));
        Answer::to(answer).await.status
    };

    let own = Envoy::start(config().plugin("token_prefix", json!("acme"))).await;
    assert_eq!(ask(&own, &alice.token).await, 200);
    assert_eq!(ask(&own, &made_up::token()).await, 401);
    assert_eq!((own.metric("refused.malformed").await, own.metric("callouts.ok").await), (1, 1));

    let any = Envoy::start(config().plugin("token_prefix", json!(null))).await;
    assert_eq!(ask(&any, &alice.token).await, 200);
    assert_eq!(ask(&any, &made_up::token()).await, 401);
    assert_eq!(ask(&any, "anything").await, 401);
    assert_eq!((any.metric("refused.unknown").await, any.metric("callouts.ok").await), (2, 3));
    assert_eq!(upstream.count(), 2);
}
