//! Moving in: tokens that another system has made pass the gateway, once their hashes are imported.

use latchkey::token::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World};

const TOKENS: [&str; 3] = ["ghp_anothersystemsownform", "Zm9vOmJhcg==", "0123456789abcdef"];

#[tokio::test]
async fn an_imported_token_passes_at_once_although_it_was_just_refused() {
    // So long that only the change feed can have a refusal forgotten.
    let cache = json!({"negative_ttl_ms": 3_600_000});
    let world = World::with(|config| config.plugin("token_prefix", Value::Null).plugin("cache", cache)).await;
    world.admin.create_user("alice").await;
    let gateway = world.envoy.http1();
    for token in TOKENS {
        // Twice: the second is refused from the cache.
        for _ in 0..2 {
            let refused = Answer::to(gateway.get("/").bearer_auth(token)).await;
            refused.assert_refused(401, "Provided API key is invalid");
        }
    }
    let tokens =
        TOKENS.map(|token| json!({"token_hash": TokenHash::of(token.as_bytes()), "name": "moved in"}));
    let body = json!({ "tokens": tokens });
    let imported = world.admin.expect(200, Method::POST, "/users/alice/tokens:import", Some(body)).await;
    assert_eq!(imported["imported"], 3);
    for token in TOKENS {
        world.envoy.until_passed(token).await;
        let basic = Answer::to(gateway.get("/").basic_auth("alice", Some(token))).await;
        assert_eq!(basic.status, 200, "{basic:?}");
        assert_eq!(world.upstream.last().header("x-latchkey-user").as_deref(), Some("alice"));
    }
}
