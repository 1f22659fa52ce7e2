//! What becomes of `Authorization` on its way to the upstream: ours is removed, another system's is kept where a request
//! passes without one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

#[tokio::test]
async fn secret_where_tokens_have_any_shape_every_credential_of_ours_schemes_is_removed() {
    let schemes_of_ours = |text: &&str| text.starts_with("Bearer") || text.starts_with("Basic");
    let rows = ROWS.iter().filter(|(sent, _)| sent.iter().all(schemes_of_ours));
    let nothing: &[&'static str] = &[];
    check(("token_prefix", Value::Null), rows.map(|(sent, _)| (*sent, nothing))).await;
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
