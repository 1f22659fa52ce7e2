//! `POST /users/{name}/tokens:import`: tokens of other systems move in by their hashes.

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::edge::verify;
use crate::support::{Answer, TestService};

const PATH: &str = "/users/alice/tokens:import";

fn entry(token: &str) -> Value {
    json!({"token_hash": TokenHash::of(token.as_bytes()), "name": "moved"})
}

fn import(tokens: impl IntoIterator<Item = Value>) -> Value {
    json!({"tokens": tokens.into_iter().collect::<Vec<_>>()})
}

async fn refused(service: &TestService, body: Value) -> Answer {
    service.refused(&service.admin(), Method::POST, PATH, Some(body)).await
}

/// The limit of tokens, and when the limits of lifetimes are those of the start.
async fn limited(service: &TestService, limit: Option<u32>) {
    service
        .admin()
        .put("/users/alice/restrictions", json!({"max_tokens_per_user": limit}))
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn an_imported_token_works_as_one_of_the_service_s_own() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let token = "an-opaque-token-of-another-system";
    let whole = json!({
        "token_hash": TokenHash::of(token.as_bytes()), "name": "ci", "hint": "an-op", "description": "moved in",
        "schemes": ["bearer"], "scopes": ["read"], "allowed_cidrs": ["127.0.0.0/8"], "expires_in": "30d",
    });
    let answer = service.admin().post(PATH, import([whole.clone()])).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    {
      "already_stored": 0,
      "imported": 1,
      "items": [
        {
          "allowed_cidrs": [
            "127.0.0.0/8"
          ],
          "created_at": "2026-01-01T00:00:01Z",
          "description": "moved in",
          "expires_at": "2026-01-31T00:00:01Z",
          "expires_in_seconds": 2592000,
          "hint": "an-op",
          "id": "[id]",
          "last_used_at": null,
          "made_by": "[id]",
          "name": "ci",
          "revoked_at": null,
          "schemes": [
            "bearer"
          ],
          "scopes": [
            "read"
          ],
          "status": "active",
          "user": "alice"
        }
      ]
    }
    "#);
    let id = answer.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let verdict = verify(&service.edge(), token).await.json();
    assert_eq!(verdict["token"]["id"], id);
    assert_eq!((&verdict["token"]["user"], &verdict["token"]["scopes"]), (&json!("alice"), &json!(["read"])));

    let before = service.state().await;
    let again = service.admin().post(PATH, import([whole])).await.expect(StatusCode::OK);
    assert_eq!(service.state().await, before);
    assert_eq!((&again.json()["imported"], &again.json()["already_stored"]), (&json!(0), &json!(1)));
    assert_eq!(again.json()["items"][0]["id"], id);
}

/// Entries that cannot be, each with the error's code, the field that it names, and what it says.
fn bad_entries() -> [(Value, &'static str, &'static str, &'static str); 7] {
    let of = |token: &str, more: Value| {
        let mut entry = entry(token);
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let bad = "invalid_value";
    [
        (of("x", json!({"token_hash": "zz"})), bad, "tokens[1].token_hash", "64 hexadecimal"),
        (of("x", json!({"name": ""})), bad, "tokens[1].name", "1 to 100"),
        (of("the-secret", json!({"name": "the-secret"})), bad, "tokens[1].name", "the token itself"),
        (of("the-secret", json!({"hint": "the-secret"})), bad, "tokens[1].hint", "the token itself"),
        (of("x", json!({"hint": "h".repeat(33)})), bad, "tokens[1].hint", "1 to 32"),
        (of("x", json!({"expires_in": "400d"})), "expiry_too_long", "", "365d"),
        (
            of("x", json!({"expires_at": "2020-01-01T00:00:00Z"})),
            bad,
            "tokens[1].expires_at",
            "in the future",
        ),
    ]
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_a_refusal_names_the_entry() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let bobs = service.user_with("bob", &[]).await;
    for (second, code, field, says) in bad_entries() {
        let answer = refused(&service, import([entry("good"), second])).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.code(), code, "{error}");
        assert_eq!(
            (&error["entry"], error["field"].as_str().unwrap_or_default()),
            (&json!(1), field),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert!(!answer.text.contains("the-secret"), "{error}");
    }
    let taken = refused(&service, import([entry("good"), entry(&bobs.token)])).await;
    assert_eq!((taken.status, taken.code().as_str()), (StatusCode::CONFLICT, "token_exists"));
    assert_eq!(taken.json()["error"]["entry"], 1);
}

#[tokio::test]
async fn limits_hold_for_imports_unless_they_are_to_be_ignored() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    service.make_token("alice", json!({"name": "own"})).await;
    limited(&service, Some(3)).await;
    let answer = refused(&service, import(["a", "b", "c"].map(entry))).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "token_limit_reached"));
    assert_snapshot!(answer.json()["error"]["message"].as_str().unwrap(), @"The user has 1 live tokens and the user's own limit is 3, so that 3 more cannot be imported; import fewer, give the user a limit of its own, or import with `ignore_restrictions`");
    let body = import(["a", "b"].map(entry));
    service.admin().post(PATH, body).await.expect(StatusCode::OK);
    let mut body = import(["b", "c"].map(entry));
    assert_eq!(refused(&service, body.clone()).await.code(), "token_limit_reached");
    body["ignore_restrictions"] = json!(true);
    body["tokens"][1]["expires_in"] = json!("4000d");
    let answer = service.admin().post(PATH, body).await.expect(StatusCode::OK);
    assert_eq!((&answer.json()["imported"], &answer.json()["already_stored"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn an_import_of_none_or_too_many_or_too_large_is_refused() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let numbered = |count: usize| import((0..count).map(|number| entry(&number.to_string())));
    for count in [0, 1001] {
        let answer = refused(&service, numbered(count)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["field"]), (422, &json!("tokens")), "{count}");
        assert!(error["message"].as_str().unwrap().contains("1 to 1000"), "{error}");
    }
    let mut large = numbered(1);
    large["tokens"][0]["description"] = json!("x".repeat(1_100_000));
    let answer = refused(&service, large).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["limit"]), (413, &json!(1_048_576)));
    let mut most = numbered(1000);
    most["ignore_restrictions"] = json!(true);
    let answer = service.admin().post(PATH, most).await.expect(StatusCode::OK);
    assert_eq!(answer.json()["imported"], 1000);
}

#[tokio::test]
async fn a_conflict_names_the_token_that_is_there() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let bobs = service.user_with("bob", &[]).await;
    let answer = refused(&service, import([entry("good"), entry(&bobs.token)])).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "token_exists"));
    let error = &answer.json()["error"];
    assert_eq!((&error["entry"], &error["token_id"]), (&json!(1), &json!(bobs.id)));
    let answer = refused(&service, import(["a", "b", "a"].map(entry))).await;
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["entry"]), (&json!("token_exists"), &json!(2)));
    assert_eq!(error["same_as"], 0);
}

#[tokio::test]
async fn values_that_cannot_be_are_refused_with_their_place() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let hash = TokenHash::of(b"x").to_string();
    let mut shown = String::new();
    for (field, value) in [
        ("token_hash", json!(hash.get(..63))),
        ("token_hash", json!(format!("{hash}0"))),
        ("token_hash", json!(format!("0x{}", &hash[2..]))),
        ("token_hash", json!("0".repeat(10_000))),
        ("token_hash", json!(7)),
        ("name", json!("a\u{0}b")),
        ("name", json!("a\u{202e}b")),
        ("name", json!("x".repeat(10_000))),
        ("name", json!("<b>")),
        ("hint", json!("")),
        ("hint", json!("a\nb")),
        ("description", json!("x".repeat(501))),
        ("schemes", json!([])),
        ("schemes", json!(["digest"])),
        ("allowed_cidrs", json!(["10.0.0.1/8"])),
        ("expires_in", json!("0s")),
        ("created_at", json!("2026-01-01T00:01:00Z")),
        ("created_at", json!("yesterday")),
        ("created_at", json!("2024-06-01T00:00:00Z")),
    ] {
        let mut bad = entry("x");
        bad[field] = value;
        let answer = refused(&service, import([entry("good"), bad])).await;
        let error = &answer.json()["error"];
        shown += &format!("{} {}\n", answer.status.as_u16(), error["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @r#"
    422 `tokens[1]`: `token_hash` must be the SHA-256 of a token, 64 hexadecimal digits
    422 `tokens[1]`: `token_hash` must be the SHA-256 of a token, 64 hexadecimal digits
    422 `tokens[1]`: `token_hash` must be the SHA-256 of a token, 64 hexadecimal digits
    422 `tokens[1]`: `token_hash` must be the SHA-256 of a token, 64 hexadecimal digits
    400 Field `tokens[1].token_hash`: invalid type: integer `7`, expected a string
    422 `tokens[1]`: `name` must not contain characters that are not seen, and has U+0000 a control character at column 2
    422 `tokens[1]`: `name` must not contain characters that are not seen, and has U+202E RIGHT-TO-LEFT OVERRIDE at column 2
    422 `tokens[1]`: `name` must have 1 to 100 characters, and has 10000
    422 `tokens[1]`: `name` must not contain '<' or '>'
    422 `tokens[1]`: `hint` must have 1 to 32 characters, and has 0
    422 `tokens[1]`: `hint` must not contain characters that are not seen, and has U+000A a control character at column 2
    422 `tokens[1]`: `description` must have 0 to 500 characters, and has 501
    422 `tokens[1]`: `schemes` must hold at least one of "bearer" and "basic"
    422 `tokens[1]`: `schemes` must hold only "bearer" and "basic"
    422 `tokens[1]`: `allowed_cidrs` must hold networks without bits after their prefix: 10.0.0.0/8 and not 10.0.0.1/8
    422 `tokens[1]`: `expires_in` must be longer than none
    422 `tokens[1]`: `created_at` must be in the past: it is 2026-01-01T00:00:01Z
    422 `tokens[1]`: `created_at` must be a time such as 2030-12-31T00:00:00Z (RFC 3339)
    422 `tokens[1]`: A token may live for at most 365d: until 2025-06-01T00:00:00Z; the latest that is allowed was asked for
    "#);
}

#[tokio::test]
async fn a_hash_is_taken_in_either_case_and_a_token_is_as_old_as_it_says() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let mut one = entry("old");
    one["token_hash"] = json!(TokenHash::of(b"old").to_string().to_uppercase());
    one["created_at"] = json!("2025-07-01T00:00:00Z");
    let answer = service.admin().post(PATH, import([one])).await.expect(StatusCode::OK);
    let token = &answer.json()["items"][0];
    assert_eq!(
        (&token["created_at"], &token["expires_at"]),
        (&json!("2025-07-01T00:00:00Z"), &json!("2026-07-01T00:00:00Z"))
    );
    assert_eq!(verify(&service.edge(), "old").await.json()["token"]["id"], token["id"]);
}
