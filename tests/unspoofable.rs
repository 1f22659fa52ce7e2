//! Unspoofable: an identity header at the upstream was set by the filter, whatever the client sent, on every path; and
//! no upstream gets a credential of ours that it was not meant to have.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::client::Pieces;
use crate::support::service::Made;
use crate::support::upstream::Received;
use crate::support::{Answer, EnvoyConfig, World, raw};

const IDENTITY: [&str; 3] = ["x-latchkey-user", "x-latchkey-token-id", "x-latchkey-scopes"];

/// Names that servers take for `name`: any mixture of cases, and of `-` and `_`.
fn spellings(name: &str) -> Vec<String> {
    let dashed = |from: usize| {
        let words: Vec<_> = name.split('-').collect();
        format!("{}{}", words[..from].join("-"), if from < words.len() { "_" } else { "" })
            + &words[from..].join("_")
    };
    let mixed = name.split('-').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]));
    let mixed = mixed.collect::<Vec<_>>().join("-");
    vec![
        name.to_owned(),
        name.to_uppercase(),
        mixed.replace('-', "_"),
        mixed,
        name.replace('-', "_"),
        name.to_uppercase().replace('-', "_"),
        dashed(1),
        dashed(2),
    ]
}

/// The header lines of a client that tries everything for each of these names, each twice.
fn forged(names: &[&str]) -> String {
    let all = names.iter().flat_map(|name| spellings(name)).collect::<Vec<_>>();
    all.iter().chain(&all).map(|name| format!("{name}: mallory\n")).collect()
}

/// Rules of every kind, trailers in HTTP/1.1 too, and an upstream that gets them.
fn configured(config: EnvoyConfig) -> EnvoyConfig {
    let rules = json!([
        {"match": {"path": "/none"}, "auth": "none"},
        {"match": {"path": "/optional"}, "auth": "optional"},
    ]);
    config.rules(rules).upstream_http2().http(json!({"http_protocol_options": {"enable_trailers": true}}))
}

/// Sends forged headers and trailers by HTTP/1.1 and HTTP/2, and gives what the upstream got of each.
async fn received(world: &World, path: &str, token: Option<&str>, names: &[&str]) -> Vec<Received> {
    let before = world.upstream.count();
    let forged = forged(names);
    let authorization = token.map(|token| format!("authorization: Bearer {token}\n")).unwrap_or_default();
    let request = format!(
        "POST {path} HTTP/1.1\nhost: gateway\nconnection: close, {}\ntransfer-encoding: chunked\n{forged}{authorization}\n\
         4\nbody\n0\n{forged}authorization: Bearer trailing\nx-kept: yes\n\n",
        names[0]
    );
    let answer = raw::exchange(world.envoy.port(), &raw::lines(&request)).await;
    assert_eq!(raw::status(&answer), Some(200), "{path}: {}", answer.escape_ascii());

    let lower = forged.to_lowercase();
    let fields: Vec<_> = lower.lines().filter_map(|line| line.split_once(": ")).collect();
    let trailers = fields.iter().copied().chain([("authorization", "Bearer trailing"), ("x-kept", "yes")]);
    let body = Pieces::of(["body"]).trailers(trailers).into_body();
    let request = world.envoy.http2().post(path).body(body);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = token.into_iter().fold(request, RequestBuilder::bearer_auth);
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");

    let seen = world.upstream.received().split_off(before);
    assert_eq!(seen.len(), 2, "{path}");
    for request in &seen {
        assert_eq!(request.body, "body", "{path}");
        assert!(request.trailers.contains_key("x-kept"), "trailers reach the upstream: {request:?}");
        assert!(!request.trailers.contains_key("authorization"), "{request:?}");
    }
    seen
}

/// What the upstream has to get: nothing, or the identity behind a token without scopes.
fn identity(made: Option<&Made>) -> [Vec<String>; 3] {
    made.map_or_else(Default::default, |made| {
        // The token has no scopes, and so no header for them.
        [vec!["alice".to_owned()], vec![made.id.clone()], Vec::new()]
    })
}

#[tokio::test]
async fn unspoofable_identity_headers_are_the_filters_own_on_every_path() {
    for mode in ["enforce", "shadow"] {
        let world = World::with(|config| configured(config).plugin("mode", json!(mode))).await;
        let alice = world.admin.user_with_token("alice").await;
        let (good, bad) = (Some(alice.token.as_str()), Some("lk_bad"));
        let mut rows = vec![
            ("/none", None, None),
            ("/none", good, None),
            ("/none", bad, None),
            ("/optional", None, None),
            ("/optional", good, Some(&alice)),
            ("/", good, Some(&alice)),
        ];
        if mode == "shadow" {
            rows.extend([("/optional", bad, None), ("/", None, None), ("/", bad, None)]);
        }
        for (path, token, who) in rows {
            for seen in received(&world, path, token, &IDENTITY).await {
                let found = IDENTITY.map(|name| seen.all_spellings(name));
                assert_eq!(found, identity(who), "{mode}, {path}, {token:?}");
            }
        }
    }
}

#[tokio::test]
async fn unspoofable_identity_headers_that_are_not_set_are_removed_all_the_same() {
    let world = World::with(|config| configured(config).plugin("identity_headers", Value::Null)).await;
    let alice = world.admin.user_with_token("alice").await;
    for (path, token) in [("/none", None), ("/optional", None), ("/", Some(alice.token.as_str()))] {
        for seen in received(&world, path, token, &IDENTITY).await {
            assert_eq!(IDENTITY.map(|name| seen.all_spellings(name)), identity(None), "{path}");
        }
    }
}

#[tokio::test]
async fn unspoofable_renamed_identity_headers_are_the_filters_own_as_well() {
    let names = ["x-who", "x-which-key", "x-may"];
    let renamed = json!({"user": "X-Who", "token_id": names[1], "scopes": names[2]});
    let world = World::with(|config| configured(config).plugin("identity_headers", renamed)).await;
    let alice = world.admin.user_with_token("alice").await;
    for (path, token, who) in [("/none", None, None), ("/", Some(alice.token.as_str()), Some(&alice))] {
        for seen in received(&world, path, token, &names).await {
            assert_eq!(names.map(|name| seen.all_spellings(name)), identity(who), "{path}");
            assert_eq!(IDENTITY.map(|name| seen.all_spellings(name)), identity(None), "{path}");
        }
    }
}
