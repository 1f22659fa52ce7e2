//! What passes, and how it reaches the upstream.

use serde_json::json;

use super::{BODY, Shape, access_line, basic, bearer};
use crate::support::{Answer, World, wait};

#[tokio::test]
async fn a_valid_token_passes_with_its_identity_its_body_and_without_the_credential() {
    let rules = json!([{"match": {"path_prefix": "/admin/"}, "scopes": ["write", "admin"]}]);
    let world = World::with(|config| config.rules(rules)).await;
    world.admin.create_user("alice").await;
    let spec = json!({"name": "t", "scopes": ["admin", "read", "write"], "allowed_cidrs": ["127.0.0.0/8"]});
    let made = world.admin.create_token("alice", spec).await;
    let encoded = basic("alice", &made.token);
    let values = [
        bearer(&made.token),
        encoded.clone(),
        format!("bEARER {}", made.token),
        encoded.replace("Basic", "BASIC"),
        format!("  Bearer   {}  ", made.token),
        made.answer["authorization"]["bearer"].as_str().expect("a value to paste").to_owned(),
        made.answer["authorization"]["basic"].as_str().expect("a value to paste").to_owned(),
    ];
    for shape in Shape::all(&world.envoy) {
        for (number, value) in values.iter().enumerate() {
            let path = format!("/admin/a%20b?case={number}-{}&x=%2F", shape.name);
            let what = format!("value {number}, {}", shape.name);
            let answer = Answer::to(shape.request(&path, std::slice::from_ref(value))).await;
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            let seen = world.upstream.last();
            assert_eq!(seen.path, path);
            assert_eq!(seen.body, if shape.body.is_some() { BODY } else { "" }, "{what}");
            assert_eq!(seen.all_spellings("x-latchkey-user"), ["alice"], "{what}");
            assert_eq!(seen.all_spellings("x-latchkey-token-id"), [made.id.as_str()], "{what}");
            assert_eq!(seen.all_spellings("x-latchkey-scopes"), ["admin read write"], "{what}");
            assert_eq!(seen.header("authorization"), None, "{what}");
            let line = access_line(&world.envoy, &path).await;
            assert!(line.starts_with("200 via_upstream alice "), "{what}: {line}");
        }
    }
    let sent = u64::try_from(values.len()).expect("a few") * 5;
    assert_eq!(world.upstream.count(), usize::try_from(sent).expect("a few"));
    assert_eq!(world.envoy.metric("passed").await, sent);
}

#[tokio::test]
async fn rules_without_a_token_pass_and_optional_ones_judge_a_credential_that_is_there() {
    let rules = json!([
        {"match": {"path_prefix": "/public/"}, "auth": "none"},
        {"match": {"path_prefix": "/optional/"}, "auth": "optional"},
    ]);
    let world = World::with(|config| config.rules(rules)).await;
    let alice = world.admin.user_with_token("alice").await;
    let (good, bad) = (bearer(&alice.token), "Bearer lk_bad".to_owned());
    // Path, credential, status, and who it was.
    let rows = [
        ("/public/", None, 200, None),
        ("/public/", Some(&good), 200, None),
        ("/public/", Some(&bad), 200, None),
        ("/optional/", None, 200, None),
        ("/optional/", Some(&good), 200, Some("alice")),
        ("/optional/", Some(&bad), 401, None),
        ("/else/", None, 401, None),
    ];
    for shape in Shape::all(&world.envoy) {
        for (path, credential, status, user) in &rows {
            let what = format!("{path}, {credential:?}, {}", shape.name);
            let before = world.upstream.count();
            let answer = Answer::to(shape.request(path, credential.cloned().as_slice())).await;
            assert_eq!(answer.status, *status, "{what}: {answer:?}");
            assert_eq!(world.upstream.count() - before, usize::from(*status == 200), "{what}");
            if *status == 200 {
                let seen = world.upstream.last();
                assert_eq!(seen.header("x-latchkey-user").as_deref(), *user, "{what}");
                assert_eq!(seen.header("authorization"), None, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_passes_until_it_expires_and_no_longer() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    let gateway = world.envoy.http1();
    let short = world.admin.create_token("alice", json!({"name": "short", "expires_in": "4s"})).await;
    let ask = async || Answer::to(gateway.get("/").bearer_auth(&short.token)).await;
    assert_eq!(ask().await.status, 200);
    let refused = wait::until("the token has expired", async || {
        let answer = ask().await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.assert_refused(401, "Provided API key is invalid");
    assert_eq!(world.envoy.metric("refused.expired").await, 1);
    let token = world.admin.expect(200, reqwest::Method::GET, &format!("/tokens/{}", short.id), None).await;
    assert_eq!(token["status"], "expired");
}
