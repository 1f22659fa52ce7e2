//! Every reason for which a request is refused, with its status, message, challenges, metric and response code details.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use super::{BASIC, BEARER, BEARER_INVALID, Shape, access_line, basic, bearer};
use crate::support::{Admin, Answer, World, made_up, wait};

const MISSING: &str = "API key is missing";
const INVALID: &str = "Provided API key is invalid";
const MULTIPLE: &str = "More than one credential was provided";
const NOT_PERMITTED: &str = "API key does not permit this request";
const NOT_FROM_HERE: &str = "API key is not permitted from this address";
const UNAVAILABLE: &str = "Authorization is temporarily unavailable";

const BEARER_REQUEST: &str = r#"Bearer realm="api", error="invalid_request""#;
const BEARER_SCOPE: &str = r#"Bearer realm="api", error="insufficient_scope", scope="admin write""#;

struct Case {
    name: &'static str,
    path: &'static str,
    authorization: Vec<String>,
    status: u16,
    message: &'static str,
    challenges: &'static [&'static str],
    reason: &'static str,
}

/// A case on a path that needs a valid token and no scope.
fn case(
    name: &'static str,
    authorization: impl Into<Vec<String>>,
    (status, message): (u16, &'static str),
    challenges: &'static [&'static str],
    reason: &'static str,
) -> Case {
    Case { name, path: "/orders", authorization: authorization.into(), status, message, challenges, reason }
}

/// Tokens for all cases.
struct Tokens {
    valid: String,
    bearer_only: String,
    basic_only: String,
    elsewhere: String,
    expired: String,
    revoked: String,
    of_disabled: String,
    of_deleted: String,
}

impl Tokens {
    async fn make(admin: &Admin) -> Self {
        for user in ["alice", "bob", "disabled", "deleted"] {
            admin.create_user(user).await;
        }
        let make = async |user: &str, spec| admin.create_token(user, spec).await;
        let expired = make("alice", json!({"name": "expired", "expires_in": "1s"})).await;
        let revoked = make("alice", json!({"name": "revoked"})).await;
        let tokens = Self {
            valid: make("alice", json!({"name": "valid", "scopes": ["admin"]})).await.token,
            bearer_only: make("alice", json!({"name": "bearer", "schemes": ["bearer"]})).await.token,
            basic_only: make("alice", json!({"name": "basic", "schemes": ["basic"]})).await.token,
            elsewhere: make("alice", json!({"name": "elsewhere", "allowed_cidrs": ["192.0.2.0/24"]}))
                .await
                .token,
            expired: expired.token,
            revoked: revoked.token,
            of_disabled: make("disabled", json!({"name": "t"})).await.token,
            of_deleted: make("deleted", json!({"name": "t"})).await.token,
        };
        admin.revoke(&revoked.id).await;
        admin.expect(200, Method::PATCH, "/users/disabled", Some(json!({"active": false}))).await;
        let deleted = admin.call(Method::DELETE, "/users/deleted", None).await;
        assert!((200..300).contains(&deleted.status), "{deleted:?}");
        wait::until("the short-lived token has expired", async || {
            let token = admin.expect(200, Method::GET, &format!("/tokens/{}", expired.id), None).await;
            (token["status"] == "expired").then_some(())
        })
        .await;
        tokens
    }
}

/// The last character of a token's checksum, changed.
fn mistyped(token: &str) -> String {
    let other = if token.ends_with('a') { 'b' } else { 'a' };
    format!("{}{other}", &token[..token.len() - 1])
}

/// Who the access log says it was: the owner of a token that is known, whatever the reason it is denied for.
fn owner(reason: &str, case: &str) -> &'static str {
    match (reason, case) {
        ("missing" | "unsupported_scheme" | "malformed" | "checksum", _) => "-",
        ("unknown" | "multiple_credentials", _) => "-",
        (_, "a disabled user" | "a disabled user, Basic") => "disabled",
        (_, "a deleted user") => "deleted",
        _ => "alice",
    }
}

fn without_a_lookup(tokens: &Tokens) -> Vec<Case> {
    let both: &[&str] = &[BEARER_INVALID, BASIC];
    let valid = &tokens.valid;
    let invalid =
        |name, value: String, challenges, reason| case(name, [value], (401, INVALID), challenges, reason);
    let multiple = |name, values: &[String]| {
        case(name, values, (400, MULTIPLE), &[BEARER_REQUEST], "multiple_credentials")
    };
    vec![
        case("no credential", [], (401, MISSING), &[BEARER, BASIC], "missing"),
        invalid("an empty value", String::new(), both, "malformed"),
        invalid("a token without a scheme", valid.clone(), both, "unsupported_scheme"),
        invalid("Bearer alone", "Bearer".to_owned(), &[BEARER_INVALID], "malformed"),
        invalid("another system's token", bearer("eyJhbGciOiJub25lIn0.e30."), &[BEARER_INVALID], "malformed"),
        invalid("a token cut short", bearer(&valid[..40]), &[BEARER_INVALID], "malformed"),
        invalid(
            "two tokens after Bearer",
            bearer(&format!("{valid} {valid}")),
            &[BEARER_INVALID],
            "malformed",
        ),
        invalid("a tab after Bearer", format!("Bearer\t{valid}"), both, "malformed"),
        invalid("Basic alone", "Basic".to_owned(), &[BASIC], "malformed"),
        invalid("Basic without base64", "Basic a!b".to_owned(), &[BASIC], "malformed"),
        invalid("Basic without a colon", format!("Basic {}", &basic("", "")[6..8]), &[BASIC], "malformed"),
        invalid("Basic with two line ends", basic("alice", &format!("{valid}\n\n")), &[BASIC], "malformed"),
        invalid("Basic with an empty user", basic("", valid), &[BASIC], "malformed"),
        invalid("Basic with a password", basic("alice", "secret"), &[BASIC], "malformed"),
        invalid("a mistyped Bearer token", bearer(&mistyped(valid)), &[BEARER_INVALID], "checksum"),
        invalid("a mistyped Basic token", basic("alice", &mistyped(valid)), &[BASIC], "checksum"),
        invalid("Digest", r#"Digest username="alice", uri="/""#.to_owned(), both, "unsupported_scheme"),
        invalid("Negotiate", "Negotiate YII=".to_owned(), both, "unsupported_scheme"),
        invalid("a made-up scheme", format!("Token {valid}"), both, "unsupported_scheme"),
        multiple("two lines, two schemes", &[bearer(valid), basic("alice", valid)]),
        multiple("two lines, the same", &[bearer(valid), bearer(valid)]),
        multiple("a comma", &[format!("{}, {}", bearer(valid), bearer(valid))]),
        multiple("a comma and an empty part", &[format!("{},", bearer(valid))]),
    ]
}

fn with_a_lookup(tokens: &Tokens) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, token, reason) in [
        ("an unknown token", &made_up::token(), "unknown"),
        ("an expired token", &tokens.expired, "expired"),
        ("a revoked token", &tokens.revoked, "revoked"),
    ] {
        cases.push(case(name, [bearer(token)], (401, INVALID), &[BEARER_INVALID], reason));
        cases.push(case(name, [basic("alice", token)], (401, INVALID), &[BASIC], reason));
    }
    let refused = |name, value, challenges, reason| case(name, [value], (401, INVALID), challenges, reason);
    cases.extend([
        refused("a disabled user", bearer(&tokens.of_disabled), &[BEARER_INVALID], "user_disabled"),
        refused("a disabled user, Basic", basic("disabled", &tokens.of_disabled), &[BASIC], "user_disabled"),
        refused("a deleted user", bearer(&tokens.of_deleted), &[BEARER_INVALID], "user_disabled"),
        refused("another user", basic("bob", &tokens.valid), &[BASIC], "wrong_user"),
        refused("the user and a blank", basic("alice ", &tokens.valid), &[BASIC], "wrong_user"),
        refused("no such user", basic("nobody", &tokens.valid), &[BASIC], "wrong_user"),
        refused("a Basic token as Bearer", bearer(&tokens.basic_only), &[BEARER_INVALID], "wrong_scheme"),
        refused("a Bearer token as Basic", basic("alice", &tokens.bearer_only), &[BASIC], "wrong_scheme"),
    ]);
    for value in [bearer(&tokens.elsewhere), basic("alice", &tokens.elsewhere)] {
        cases.push(case("another address", [value], (403, NOT_FROM_HERE), &[], "address"));
    }
    for value in [bearer(&tokens.valid), basic("alice", &tokens.valid)] {
        let lacking = case("a scope", [value], (403, NOT_PERMITTED), &[BEARER_SCOPE], "insufficient_scope");
        cases.push(Case { path: "/admin/users", ..lacking });
    }
    cases
}

#[tokio::test]
async fn every_refusal_has_the_contracts_status_body_and_challenges_and_reaches_no_upstream() {
    let rules = json!([{"match": {"path_prefix": "/admin/"}, "scopes": ["admin", "write"]}]);
    let world = World::with(|config| config.rules(rules)).await;
    let tokens = Tokens::make(&world.admin).await;
    let cases: Vec<_> = without_a_lookup(&tokens).into_iter().chain(with_a_lookup(&tokens)).collect();

    let mut counts = BTreeMap::<&str, u64>::new();
    for (number, case) in cases.iter().enumerate() {
        for shape in Shape::all(&world.envoy) {
            let what = format!("{}, {}", case.name, shape.name);
            let path = format!("{}?case={number}-{}", case.path, shape.name);
            let answer = Answer::to(shape.request(&path, &case.authorization)).await;
            assert_eq!(answer.status, case.status, "{what}: {answer:?}");
            answer.assert_refused(case.status, case.message);
            assert_eq!(answer.all("www-authenticate"), case.challenges, "{what}");
            assert_eq!(answer.header("retry-after"), None, "{what}");
            let method = if shape.body.is_some() { "POST" } else { "GET" };
            let owner = owner(case.reason, case.name);
            let line = format!("{} latchkey_{} {owner} {method}", case.status, case.reason);
            assert_eq!(access_line(&world.envoy, &path).await, line, "{what}");
            *counts.entry(case.reason).or_default() += 1;
        }
    }
    assert_eq!(world.upstream.count(), 0, "a refused request reached the upstream");
    for (reason, count) in counts {
        assert_eq!(world.envoy.metric(&format!("refused.{reason}")).await, count, "refused.{reason}");
    }
    assert_eq!(world.envoy.metric("passed").await, 0);
}

#[tokio::test]
async fn outage_is_not_refusal_a_valid_token_is_answered_503_while_the_service_is_down() {
    let mut world = World::start().await;
    let alice = world.admin.user_with_token("alice").await;
    world.service.kill().await;
    for shape in Shape::all(&world.envoy) {
        for value in [bearer(&alice.token), basic("alice", &alice.token)] {
            let path = format!("/orders?{}-{}", shape.name, &value[..5]);
            let answer = Answer::to(shape.request(&path, &[value])).await;
            answer.assert_refused(503, UNAVAILABLE);
            assert_eq!(answer.all("retry-after"), ["1"], "{}", shape.name);
            assert_eq!(answer.all("www-authenticate"), [""; 0], "{}", shape.name);
            assert!(access_line(&world.envoy, &path).await.starts_with("503 latchkey_unavailable - "));
        }
        // What needs no service is answered as ever.
        Answer::to(shape.request("/orders", &[])).await.assert_refused(401, MISSING);
    }
    assert_eq!(world.upstream.count(), 0, "a refused request reached the upstream");

    world.service.start_again().await;
    for shape in Shape::all(&world.envoy) {
        let answer = Answer::to(shape.request("/orders", &[bearer(&alice.token)])).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", shape.name);
    }
}
