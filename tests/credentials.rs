//! What becomes of `Authorization` on its way to the upstream: ours is removed, another system's is kept where a request
//! passes without one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latchkey::token::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World};

type Row = (&'static [&'static str], &'static [&'static str]);

/// `Authorization` lines, in which `{token}` is a valid token of alice's, and those that reach an upstream for which
/// no credential is asked.
const ROWS: &[Row] = &[
    // Ours, or so like ours that it may be one.
    (&["Bearer {token}"], &[]),
    (&["bearer {token}"], &[]),
    (&["Bearer lk_short"], &[]),
    (&["Bearer lk_0123456789012345678901234567890123456789012000000"], &[]),
    (&["Basic alice:{token}"], &[]),
    (&["Basic {token}:"], &[]),
    (&["Basic alice:lk_short"], &[]),
    (&["Token {token}"], &[]),
    (&["{token}"], &[]),
    // Nothing that anyone could use, or more than one can tell apart.
    (&["Bearer"], &[]),
    (&["Basic"], &[]),
    (&[""], &[]),
    (&["Bearer a b"], &[]),
    (&["Bearer other, Bearer {token}"], &[]),
    (&["Bearer other", "Bearer {token}"], &[]),
    (&["Bearer other", "Bearer another"], &[]),
    // Another system's.
    (&["Bearer eyJhbGciOiJub25lIn0.e30."], &["Bearer eyJhbGciOiJub25lIn0.e30."]),
    (&["Basic bob:secret"], &["Basic bob:secret"]),
    (&["Negotiate YII="], &["Negotiate YII="]),
    (&["Digest username=\"bob\", uri=\"/\""], &["Digest username=\"bob\", uri=\"/\""]),
];

/// Puts the token into a line, and base64 behind `Basic`.
fn line(text: &str, token: &str) -> String {
    let text = text.replace("{token}", token);
    match text.strip_prefix("Basic ") {
        Some(pair) => format!("Basic {}", STANDARD.encode(pair)),
        None => text,
    }
}

async fn check(change: (&str, Value), rows: impl IntoIterator<Item = Row>) {
    let rules = json!([{"match": {"path_prefix": "/none"}, "auth": "none"}]);
    let (field, value) = change;
    let world = World::with(|config| config.rules(rules).plugin(field, value.clone())).await;
    let alice = world.admin.user_with_token("alice").await;
    for (sent, kept) in rows {
        for (version, gateway) in world.envoy.both() {
            let request = sent.iter().fold(gateway.get("/none"), |request, text| {
                request.header("authorization", line(text, &alice.token))
            });
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 200, "{field}, {sent:?}, {version}: {answer:?}");
            let seen = world.upstream.last().all_spellings("authorization");
            let kept: Vec<_> = kept.iter().map(|text| line(text, &alice.token)).collect();
            assert_eq!(seen, kept, "{field}, {sent:?}, {version}");
        }
    }
}

#[tokio::test]
async fn secret_a_credential_of_ours_never_reaches_an_upstream_that_asks_for_none() {
    check(("mode", json!("enforce")), ROWS.iter().copied()).await;
}

/// The same where tokens have any shape: whatever could be one is removed.
const ANY_SHAPE: &[Row] = &[
    (&["Bearer 123:ABC"], &[]),
    (&["Bearer ATCTT3xFfGN0=1A2B"], &[]),
    (&["Bearer \"x\""], &[]),
    (&["123:ABC"], &[]),
    (&["ATCTT3xFfGN0=1A2B"], &[]),
    (&["Token 123abc"], &[]),
    (&["ApiKey key=123abc"], &[]),
    (&["Basic alice:123:ABC\n"], &[]),
    (&["Negotiate YII="], &["Negotiate YII="]),
    (&["Digest username=\"bob\", uri=\"/\""], &["Digest username=\"bob\", uri=\"/\""]),
];

#[tokio::test]
async fn secret_where_tokens_have_any_shape_whatever_could_be_one_is_removed() {
    let no_other_scheme = |text: &&str| !text.starts_with("Negotiate") && !text.starts_with("Digest");
    let rows = ROWS.iter().filter(|(sent, _)| sent.iter().all(no_other_scheme));
    let nothing: &[&'static str] = &[];
    let rows = rows.map(|(sent, _)| (*sent, nothing));
    check(("token_prefix", Value::Null), rows.chain(ANY_SHAPE.iter().copied())).await;
}

/// How people's tools write credentials that are right, `{token}` being a token of Dev's.
#[tokio::test]
async fn credentials_as_peoples_tools_write_them_pass_and_the_upstream_gets_the_owners_name() {
    let world = World::with(|config| config.plugin("token_prefix", Value::Null)).await;
    let dev = world.admin.user_with_token("dev@example.com").await;
    let shapes = ["ATCTT3xFfGN0-plain=1A2B", "123456:ABC-def", "a;b|c"];
    let tokens =
        shapes.map(|shape| json!({"token_hash": TokenHash::of(shape.as_bytes()), "name": "moved in"}));
    let path = "/users/dev@example.com/tokens:import";
    world.admin.expect(200, Method::POST, path, Some(json!({"tokens": tokens}))).await;
    let unpadded = |text: &str| line(text, &dev.token).trim_end_matches('=').to_owned();
    let mut values: Vec<String> = [
        "Basic Dev@Example.com:{token}",
        "Basic dev@example.com:{token}\n",
        "Basic DEV@example.com:{token}\r\n",
    ]
    .iter()
    .flat_map(|text| [line(text, &dev.token), unpadded(text)])
    .collect();
    values.extend(shapes.iter().map(|shape| format!("Bearer {shape}")));
    for value in &values {
        for (version, gateway) in world.envoy.both() {
            let answer = Answer::to(gateway.get("/orders").header("authorization", value)).await;
            assert_eq!(answer.status, 200, "{value}, {version}: {answer:?}");
            let seen = world.upstream.last();
            assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("dev@example.com"), "{value}");
            assert!(seen.all_spellings("authorization").is_empty(), "{value}, {version}");
        }
    }
    let before = world.upstream.count();
    for text in ["Basic dev@example.com:{token}\n\n", "Basic dev@example.com :{token}", "Basic dev:{token}"] {
        let denied =
            Answer::to(world.envoy.http1().get("/").header("authorization", line(text, &dev.token))).await;
        denied.assert_refused(401, "Provided API key is invalid");
    }
    assert_eq!(world.upstream.count(), before);
}

#[tokio::test]
async fn a_credential_is_forwarded_only_where_the_configuration_says_so() {
    for (forward, kept) in [(false, 0), (true, 1)] {
        let world = World::with(|config| config.plugin("forward_authorization", json!(forward))).await;
        let alice = world.admin.user_with_token("alice").await;
        for (version, gateway) in world.envoy.both() {
            let basic = line("Basic alice:{token}", &alice.token);
            for value in [format!("Bearer {}", alice.token), basic] {
                let answer = Answer::to(gateway.get("/").header("authorization", &value)).await;
                assert_eq!(answer.status, 200, "{version}: {answer:?}");
                let expected: Vec<_> = std::iter::repeat_n(value, kept).collect();
                assert_eq!(world.upstream.last().all_spellings("authorization"), expected, "{version}");
            }
        }
    }
}
