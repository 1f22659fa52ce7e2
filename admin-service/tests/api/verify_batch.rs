//! `POST /edge/v1/verify` for several tokens at once.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use latchkey::wire::MAX_TOKEN_HASHES;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::edge::verify;
use crate::postgres;
use crate::support::{Answer, Client, Made, TestService, bootstrap, text};

async fn send(edge: &Client, body: &Value) -> Answer {
    Answer::to(edge.request(Method::POST, "/edge/v1/verify").json(body)).await
}

async fn verify_all(edge: &Client, tokens: &[&str]) -> Answer {
    let hashes: Vec<_> = tokens.iter().map(|token| TokenHash::of(token.as_bytes())).collect();
    send(edge, &json!({"token_hashes": hashes})).await
}

async fn on_postgres() -> TestService {
    TestService::start_on(Some(postgres::shared().database().parse().unwrap()), None).await
}

#[tokio::test]
async fn a_batch_says_of_each_token_in_its_place_what_is_said_of_it_alone_on_sqlite() {
    says_of_each_what_is_said_of_it_alone(TestService::start().await).await;
}

#[tokio::test]
async fn a_batch_says_of_each_token_in_its_place_what_is_said_of_it_alone_on_postgres() {
    says_of_each_what_is_said_of_it_alone(on_postgres().await).await;
}

async fn says_of_each_what_is_said_of_it_alone(service: TestService) {
    let revoked = service.user_with("alice", &[]).await;
    let spec = json!({"name": "ci", "expires_in": "1h", "scopes": ["read", "write"], "schemes": ["bearer"],
        "allowed_cidrs": ["10.0.0.0/8", "2001:db8::/32"]});
    let usable = service.make_token("alice", spec).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    let disabled = service.user_with("bob", &[]).await;
    service.clock.advance(Duration::from_secs(60));
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
    let all =
        [&expired.token, "lk_never_made", &usable.token, &disabled.token, &revoked.token, &usable.token];
    let mut alone = Vec::new();
    for token in all {
        alone.push(verify(&service.edge(), token).await.expect(StatusCode::OK).json());
    }
    let before = service.state().await;
    for edge in [service.edge(), service.edge().http2()] {
        let answer = verify_all(&edge, &all).await.expect(StatusCode::OK);
        assert_eq!(answer.header("content-type"), ["application/json"]);
        assert_eq!(answer.header("x-request-id").len(), 1);
        let batch = answer.json();
        let fields: Vec<_> = batch.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["epoch", "revision", "verdicts"]);
        let verdicts = batch["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), all.len());
        for (verdict, alone) in verdicts.iter().zip(&alone) {
            let mut verdict = verdict.clone();
            verdict["epoch"] = batch["epoch"].clone();
            verdict["revision"] = batch["revision"].clone();
            assert_eq!(verdict, *alone);
        }
    }
    assert_eq!(service.state().await, before, "a look-up has changed something");
}

#[tokio::test]
async fn a_batch_is_spelt_as_the_contract_spells_it() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["read"]).await;
    let gone = service.make_token("alice", json!({"name": "gone", "expires_in": "1h"})).await;
    service.admin().delete(&format!("/tokens/{}", gone.id)).await.expect(StatusCode::NO_CONTENT);
    assert_snapshot!(verify_all(&service.edge(), &[&own.token, &gone.token, "x"]).await.show(), @r#"
    200 OK
    {
      "epoch": "[id]",
      "revision": 1,
      "verdicts": [
        {
          "token": {
            "allowed_cidrs": [],
            "expires_in_ms": 31535999000,
            "id": "[id]",
            "name": "own",
            "schemes": [
              "bearer",
              "basic"
            ],
            "scopes": [
              "read"
            ],
            "user": "alice"
          },
          "token_hash": "[hash]"
        },
        {
          "denied_token": {
            "id": "[id]",
            "user": "alice"
          },
          "reason": "revoked",
          "token": null,
          "token_hash": "[hash]"
        },
        {
          "reason": "unknown",
          "token": null,
          "token_hash": "[hash]"
        }
      ]
    }
    "#);
    let one = verify_all(&service.edge(), &["x"]).await.expect(StatusCode::OK).json();
    assert_eq!(one["verdicts"].as_array().unwrap().len(), 1);
    assert!(one.get("token").is_none(), "a batch of one is a batch");
}

/// Each body is refused with its message, gets no verdict, and changes nothing.
async fn refuses(service: &TestService, bodies: Vec<(Value, &str)>) {
    let before = service.state().await;
    for (body, message) in bodies {
        let answer = send(&service.edge(), &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.code(), "invalid_body", "{body}");
        assert_eq!(text(&answer.json()["error"]["message"]), message, "{body}");
        assert!(answer.json().get("verdicts").is_none() && answer.json().get("token").is_none());
        assert!(!answer.text.contains(&service.admin_token), "{body}");
    }
    assert_eq!(service.state().await, before, "a refused request has changed something");
}

#[tokio::test]
async fn a_request_with_neither_field_or_both_or_too_few_or_too_many_hashes_is_told_the_limit() {
    let service = TestService::start().await;
    let hash = TokenHash::of(service.admin_token.as_bytes()).to_string();
    let either =
        "Give exactly one of the fields `token_hash`, a token hash, and `token_hashes`, an array of 1 to 64";
    let limit = "Field `token_hashes`: must hold 1 to 64 token hashes";
    let bodies = vec![
        (json!({}), either),
        (json!({"token_hash": hash, "token_hashes": [hash]}), either),
        (json!({"token_hashes": []}), limit),
        (json!({"token_hashes": vec![&hash; MAX_TOKEN_HASHES + 1]}), limit),
        (json!({"token_hashes": vec![&hash; 900]}), limit),
    ];
    refuses(&service, bodies).await;
    let most = send(&service.edge(), &json!({"token_hashes": vec![&hash; MAX_TOKEN_HASHES]})).await;
    let most = most.expect(StatusCode::OK).json();
    let verdicts = most["verdicts"].as_array().unwrap();
    assert!(verdicts.len() == MAX_TOKEN_HASHES && verdicts.iter().all(|one| *one == verdicts[0]));
}

#[tokio::test]
async fn a_request_with_what_is_no_list_of_hashes_is_told_which_field_and_what_it_should_hold() {
    let service = TestService::start().await;
    let token = service.admin_token.clone();
    let hash = TokenHash::of(token.as_bytes()).to_string();
    let [first, second, null] = [
        "Field `token_hashes[0]`: a token hash is SHA-256 in 64 hexadecimal digits",
        "Field `token_hashes[1]`: a token hash is SHA-256 in 64 hexadecimal digits",
        "Field `token_hashes[1]`: invalid type: null, expected a string",
    ];
    let array =
        |got: &str| format!("Field `token_hashes`: invalid type: {got}, expected an array of token hashes");
    let unknown = "Unknown field `more`, expected `token_hash` or `token_hashes`";
    let bodies = vec![
        (json!({"token_hashes": [hash, &hash[1..]]}), second),
        (json!({"token_hashes": [hash, format!("{hash}0"), hash]}), second),
        (json!({"token_hashes": [token]}), first),
        (json!({"token_hashes": [hash, null]}), null),
        (json!({"token_hashes": [hash], "more": 1}), unknown),
        (json!([[hash]]), "The body must be a JSON object"),
    ];
    refuses(&service, bodies).await;
    for (value, got) in [(json!(hash), "string"), (Value::Null, "null"), (json!({"0": hash}), "map")] {
        refuses(&service, vec![(json!({"token_hashes": value}), &array(got))]).await;
    }
}

#[tokio::test]
async fn a_batch_is_for_edges_alone() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let body = json!({"token_hashes": [TokenHash::of(service.admin_token.as_bytes())]});
    let with = async |secret: &str| {
        let request = service.edge().request(Method::POST, "/edge/v1/verify").json(&body);
        Answer::to(request.header("authorization", format!("Bearer {secret}"))).await
    };
    with("correct-edge-secret").await.expect(StatusCode::OK);
    for refused in [with("wrong").await, send(&service.edge(), &body).await] {
        assert_eq!((refused.status.as_u16(), refused.code()), (401, "edge_secret_invalid".into()));
        assert!(refused.json().get("verdicts").is_none());
    }
}

#[tokio::test]
async fn a_successor_in_a_batch_is_in_use_from_then_on_and_not_replaced_by_a_repeated_rotation() {
    for service in [TestService::start().await, on_postgres().await] {
        let old = service.user_with("alice", &[]).await;
        let (admin, path) = (service.admin(), format!("/tokens/{}/rotate", old.id));
        let rotate = || admin.post(&path, json!({"overlap": "1h"}));
        let made = |answer: Answer| {
            let body = answer.expect(StatusCode::CREATED).json();
            Made { id: text(&body["id"]), token: text(&body["token"]) }
        };
        // Until one is looked up, each call replaces the successor of the one before.
        let (replaced, new) = (made(rotate().await), made(rotate().await));
        let batch = verify_all(&service.edge(), &["x", &new.token, &replaced.token, &old.token]).await;
        let batch = batch.expect(StatusCode::OK).json();
        let said = |place: usize| &batch["verdicts"][place];
        assert_eq!((&said(0)["reason"], &said(2)["reason"]), (&json!("unknown"), &json!("revoked")));
        assert_eq!((&said(1)["token"]["id"], &said(3)["token"]["id"]), (&json!(new.id), &json!(old.id)));
        assert_eq!(rotate().await.expect(StatusCode::CONFLICT).code(), "token_rotated");
        let again = verify(&service.edge(), &new.token).await.expect(StatusCode::OK).json();
        assert_eq!(again["token"]["id"], json!(new.id));
    }
}

#[tokio::test]
async fn each_verdict_of_a_batch_is_counted() {
    let service = TestService::start().await;
    let marked = service.user_with("alice", &[]).await;
    let counted = async |outcome: &str| {
        let metrics = Answer::to(service.monitoring().request(Method::GET, "/metrics")).await.text;
        let name = format!("latchkey_verdicts_total{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    // Other tests of this process count too.
    let [usable, unknown] = [counted("usable").await, counted("unknown").await];
    let tokens = [vec![marked.token.as_str(); 20], vec!["x"; 30]].concat();
    verify_all(&service.edge(), &tokens).await.expect(StatusCode::OK);
    assert!(counted("usable").await >= usable + 20);
    assert!(counted("unknown").await >= unknown + 30);
    let unavailable = counted("unavailable").await;
    service.store.close().await;
    verify_all(&service.edge(), &tokens).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(counted("unavailable").await >= unavailable + 50);
}

#[tokio::test]
async fn while_the_database_is_away_there_is_no_verdict_on_any_token_of_a_batch() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = verify_all(&service.edge(), &[&service.admin_token, "x"]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable".into()));
    assert_eq!(answer.header("retry-after"), ["1"]);
    assert!(answer.json().get("verdicts").is_none());
}

#[tokio::test]
async fn a_database_without_an_administrator_gives_no_verdict_on_any_token_of_a_batch() {
    let service = TestService::start_without_administrator().await;
    let before = service.state().await;
    let answer = verify_all(&service.edge(), &["x", "y"]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "not_bootstrapped".into()));
    assert_eq!(answer.header("retry-after"), ["1"]);
    assert_eq!(service.state().await, before, "something was changed");
    bootstrap(&service.store).await;
    let answer = verify_all(&service.edge(), &["x", "y"]).await.expect(StatusCode::OK);
    assert_eq!(answer.json()["verdicts"][1]["reason"], "unknown");
}
