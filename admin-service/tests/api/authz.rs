//! `ANY /edge/v1/authz`: for gateways without the filter, the filter's decisions and refusals.

use std::time::Duration;

use base64::Engine;
use insta::assert_snapshot;
use latchkey::token::TokenHash;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::support::{Answer, Client, TestService, text};

const PATH: &str = "/edge/v1/authz";
const IDENTITY: [&str; 3] = ["x-latchkey-user", "x-latchkey-token-id", "x-latchkey-scopes"];
const UNKNOWN: &str = "lk_0000000000000000000000000000000000000000000000000";

fn ask(edge: &Client) -> RequestBuilder {
    edge.request(Method::GET, PATH)
}

fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{token}")))
}

/// Panics unless this is the filter's refusal, and names nobody.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, message: &str, challenges: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.show());
    assert_eq!(answer.header("content-type"), ["application/json"]);
    assert_eq!(answer.json(), json!({"error": {"status": "ERROR", "message": message}}));
    assert_eq!(answer.header("www-authenticate"), challenges);
    assert!(IDENTITY.iter().all(|name| answer.header(name).is_empty()), "a refusal names somebody");
}

#[tokio::test]
async fn a_valid_token_passes_with_its_identity_in_headers_whatever_the_method_and_the_path() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let own = service.make_token("alice", json!({"name": "ci", "scopes": ["read", "write"]})).await;
    for client in [service.edge(), service.edge().http2()] {
        for (method, path) in [
            (Method::GET, PATH),
            (Method::GET, "/edge/v1/authz/"),
            (Method::POST, "/edge/v1/authz/orders/7?x-latchkey-require-scopes=admin"),
            (Method::DELETE, "/edge/v1/authz//a/%2e%2e/b"),
            (Method::HEAD, "/edge/v1/authz/refusal"),
            (Method::OPTIONS, PATH),
            ("PURGE".parse().unwrap(), PATH),
        ] {
            for value in [format!("Bearer {}", own.token), basic("alice", &own.token)] {
                let request = client.request(method.clone(), path).header("authorization", value);
                let answer = Answer::to(request.header("x-latchkey-user", "mallory")).await;
                assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.show());
                assert_eq!(answer.header("x-latchkey-user"), ["alice"]);
                assert_eq!(answer.header("x-latchkey-token-id"), [own.id.as_str()]);
                assert_eq!(answer.header("x-latchkey-scopes"), ["read write"]);
                assert_eq!(answer.header("x-envoy-auth-headers-to-remove"), ["authorization"]);
            }
        }
    }
    let answer = Answer::to(ask(&service.edge()).bearer_auth(&own.token)).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    {
      "epoch": "[id]",
      "revision": 0
    }
    "#);
    assert_eq!(answer.header("content-type"), ["application/json"]);
}

#[tokio::test]
async fn a_token_without_scopes_has_an_empty_header_for_them_so_that_none_of_the_clients_stays() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let answer = Answer::to(ask(&service.edge()).bearer_auth(&own.token)).await.expect(StatusCode::OK);
    assert_eq!(answer.header("x-latchkey-scopes"), [""]);
}

#[tokio::test]
async fn every_refusal_is_the_filters() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await.token;
    let bearer_only = service.make_token("alice", json!({"name": "b", "schemes": ["bearer"]})).await.token;
    let live = service.make_token("alice", json!({"name": "live"})).await.token;
    let disabled = service.user_with("bob", &[]).await.token;
    service.clock.advance(Duration::from_secs(60));
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
    let state = service.state().await;
    let invalid = "Provided API key is invalid";
    let by_bearer = r#"Bearer realm="api", error="invalid_token""#;
    let by_basic = r#"Basic realm="api", charset="UTF-8""#;
    let missing = Answer::to(ask(&service.edge())).await;
    assert_refused(&missing, 401, "API key is missing", &[r#"Bearer realm="api""#, by_basic]);
    for (what, value, challenges) in [
        ("unknown", format!("Bearer {UNKNOWN}"), &[by_bearer][..]),
        ("expired", format!("Bearer {expired}"), &[by_bearer]),
        ("revoked", format!("Bearer {}", revoked.token), &[by_bearer]),
        ("of a disabled user", format!("Bearer {disabled}"), &[by_bearer]),
        ("malformed", "Bearer a b".to_owned(), &[by_bearer]),
        ("of another user", basic("bob", &live), &[by_basic]),
        ("made for the other scheme", basic("alice", &bearer_only), &[by_basic]),
        ("of another scheme", "Negotiate abc".to_owned(), &[by_bearer, by_basic]),
    ] {
        let answer = Answer::to(ask(&service.edge()).header("authorization", value)).await;
        assert_refused(&answer, 401, invalid, challenges);
        assert!(answer.header("retry-after").is_empty(), "{what}");
    }
    for twice in [
        ask(&service.edge()).bearer_auth(&live).bearer_auth(&live),
        ask(&service.edge()).header("authorization", format!("Bearer {live}, Bearer {live}")),
    ] {
        let challenge = r#"Bearer realm="api", error="invalid_request""#;
        assert_refused(&Answer::to(twice).await, 400, "More than one credential was provided", &[challenge]);
    }
    assert_eq!(state, service.state().await, "a refusal has changed something");
}

#[tokio::test]
async fn the_gateway_says_which_scopes_schemes_and_realm_and_its_client_can_only_ask_for_more() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &["read"]).await;
    let asking = |lines: &[(&'static str, &'static str)]| {
        let request = ask(&service.edge()).bearer_auth(&own.token);
        Answer::to(lines.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    };
    asking(&[("x-latchkey-require-scopes", "read")]).await.expect(StatusCode::OK);
    let lines = [("x-latchkey-require-scopes", "read, write"), ("x-latchkey-realm", "my api")];
    let lacking = r#"Bearer realm="my api", error="insufficient_scope", scope="read write""#;
    assert_refused(&asking(&lines).await, 403, "API key does not permit this request", &[lacking]);
    let lines = [("x-latchkey-require-scopes", "write"), ("x-latchkey-require-scopes", "read")];
    assert_eq!(asking(&lines).await.status, StatusCode::FORBIDDEN);
    let basic_alone = asking(&[("x-latchkey-schemes", "basic")]).await;
    assert_refused(
        &basic_alone,
        401,
        "Provided API key is invalid",
        &[r#"Basic realm="api", charset="UTF-8""#],
    );
    let lines = [("x-latchkey-schemes", "basic"), ("x-latchkey-schemes", "basic, bearer")];
    assert_eq!(asking(&lines).await.status, StatusCode::UNAUTHORIZED);
    for line in
        [("x-latchkey-schemes", "digest"), ("x-latchkey-realm", "a\"b"), ("x-latchkey-require-scopes", "\"")]
    {
        let answer = asking(&[line]).await;
        assert_refused(&answer, 503, "Authorization is temporarily unavailable", &[]);
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_networks_passes_from_where_the_gateway_says() {
    let service = TestService::start().await;
    service.make_user("alice").await;
    let spec = json!({"name": "bound", "allowed_cidrs": ["192.0.2.0/24", "2001:db8::/32"]});
    let bound = service.make_token("alice", spec).await.token;
    let from = |lines: &[&'static str]| {
        let request = ask(&service.edge()).bearer_auth(&bound);
        Answer::to(lines.iter().fold(request, |request, line| request.header("x-forwarded-for", *line)))
    };
    for good in [&["192.0.2.7"][..], &["203.0.113.1, 192.0.2.7"], &["203.0.113.1", "2001:db8::9"]] {
        assert_eq!(from(good).await.status, StatusCode::OK, "{good:?}");
    }
    for bad in [&[][..], &["203.0.113.1"], &["192.0.2.7, 203.0.113.1"], &["192.0.2.7", "unknown"]] {
        let answer = from(bad).await;
        assert_refused(&answer, 403, "API key is not permitted from this address", &[]);
    }
}

#[tokio::test]
async fn with_a_secret_nobody_else_is_told_who_it_is() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let token = &service.admin_token;
    let with = |secrets: &[&'static str]| {
        let request = ask(&service.edge()).bearer_auth(token);
        Answer::to(secrets.iter().fold(request, |request, it| request.header("x-latchkey-edge-secret", *it)))
    };
    with(&["correct-edge-secret"]).await.expect(StatusCode::OK);
    let missing = with(&[]).await;
    assert_snapshot!(missing.show(), @r#"
    401 Unauthorized
    {
      "error": {
        "code": "edge_secret_invalid",
        "message": "The edge secret is missing or wrong: send `x-latchkey-edge-secret: <edge secret>`",
        "status": "ERROR"
      }
    }
    "#);
    assert_eq!(missing.header("www-authenticate"), [r#"Latchkey-Edge-Secret realm="edge""#]);
    let twice = ["correct-edge-secret", "correct-edge-secret"];
    for bad in [&["wrong"][..], &[""], &["Bearer correct-edge-secret"], &twice] {
        assert_eq!(with(bad).await.text, missing.text, "{bad:?}");
    }
    let as_an_edge = ask(&service.edge()).bearer_auth("correct-edge-secret");
    let made_up = ask(&service.edge()).bearer_auth(UNKNOWN);
    for request in [as_an_edge, made_up] {
        assert_eq!(Answer::to(request).await.text, missing.text);
    }
}

#[tokio::test]
async fn while_the_database_is_away_nobody_is_told_that_a_token_is_wrong() {
    let service = TestService::start().await;
    service.store.close().await;
    let answer = Answer::to(ask(&service.edge()).bearer_auth(&service.admin_token)).await;
    assert_refused(&answer, 503, "Authorization is temporarily unavailable", &[]);
    assert_eq!(answer.header("retry-after"), ["1"]);
}

#[tokio::test]
async fn a_refused_grpc_request_gets_the_message_alone_and_never_a_status_that_passes() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    let grpc = || ask(&service.edge()).header("x-latchkey-content-type", "application/grpc+proto");
    let answer = Answer::to(grpc().bearer_auth(UNKNOWN)).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::UNAUTHORIZED, "Provided API key is invalid")
    );
    assert_eq!(answer.header("content-type"), ["application/grpc"]);
    Answer::to(grpc().bearer_auth(&own.token)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_refusal_is_told_again_for_gateways_that_take_a_status_alone_and_is_never_a_pass() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let again = |authorization: Option<String>| {
        let request = service.edge().request(Method::GET, "/edge/v1/authz-refusal");
        let request = request.header("x-latchkey-edge-secret", "correct-edge-secret");
        Answer::to(
            authorization.iter().fold(request, |request, value| request.header("authorization", value)),
        )
    };
    let missing = again(None).await;
    let challenges = [r#"Bearer realm="api""#, r#"Basic realm="api", charset="UTF-8""#];
    assert_refused(&missing, 401, "API key is missing", &challenges);
    let unknown = again(Some(format!("Bearer {UNKNOWN}"))).await;
    assert_refused(
        &unknown,
        401,
        "Provided API key is invalid",
        &[r#"Bearer realm="api", error="invalid_token""#],
    );
    let passes = again(Some(format!("Bearer {}", service.admin_token))).await;
    assert_refused(&passes, 503, "Authorization is temporarily unavailable", &[]);
    assert_eq!(passes.header("retry-after"), ["1"]);
    let stranger = service.edge().request(Method::GET, "/edge/v1/authz-refusal").bearer_auth(UNKNOWN);
    assert_refused(&Answer::to(stranger).await, 503, "Authorization is temporarily unavailable", &[]);
}

#[tokio::test]
async fn what_passes_and_what_is_refused_is_counted_and_written_down_in_a_batch() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    service.clock.advance(Duration::from_secs(600));
    for scope in ["", "", "admin"] {
        let request = ask(&service.edge()).bearer_auth(&own.token).header("x-latchkey-require-scopes", scope);
        Answer::to(request).await;
    }
    let told_again = service.edge().request(Method::GET, "/edge/v1/authz-refusal").bearer_auth(&own.token);
    Answer::to(told_again.header("x-latchkey-require-scopes", "admin")).await.expect(StatusCode::FORBIDDEN);
    assert!(crate::usage::kept(&service).await.is_empty(), "each request was written down by itself");
    service.clock.advance(Duration::from_secs(15));
    let path = format!("/tokens/{}", own.id);
    let used = async {
        loop {
            let token = service.admin().get(&path).await.expect(StatusCode::OK).json();
            match token["last_used_at"].as_str() {
                Some(time) => return time.to_owned(),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let used = tokio::time::timeout(Duration::from_secs(30), used).await.expect("the use is written down");
    assert_eq!(used, "2026-01-01T00:10:00Z");
    let kept = crate::usage::kept(&service).await;
    assert_eq!(kept.len(), 3, "one edge, one hour, one token: {kept:?}");
    assert!(kept[1].ends_with(", 2, 1]"), "{kept:?}");
}

#[tokio::test]
async fn what_is_denied_is_counted_for_its_token_whatever_the_reason_and_is_no_use_of_it() {
    let service = TestService::start().await;
    let revoked = service.user_with("alice", &[]).await;
    let expired = service.make_token("alice", json!({"name": "short", "expires_in": "1m"})).await;
    let bearer_only = service.make_token("alice", json!({"name": "b", "schemes": ["bearer"]})).await;
    let bound = service.make_token("alice", json!({"name": "n", "allowed_cidrs": ["192.0.2.0/24"]})).await;
    let disabled = service.user_with("bob", &[]).await;
    service.clock.advance(Duration::from_secs(600));
    service.admin().delete(&format!("/tokens/{}", revoked.id)).await.expect(StatusCode::NO_CONTENT);
    service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
    let bearer = |token: &str| format!("Bearer {token}");
    for value in [
        bearer(&revoked.token),
        bearer(&expired.token),
        bearer(&bound.token),
        bearer(&disabled.token),
        basic("alice", &bearer_only.token),
        basic("bob", &bearer_only.token),
        bearer(UNKNOWN),
    ] {
        let answer = Answer::to(ask(&service.edge()).header("authorization", value)).await;
        assert!(answer.status.is_client_error(), "{}", answer.show());
    }
    let form = format!("token={}", revoked.token);
    let introspect = service.edge().request(Method::POST, "/edge/v1/introspect").body(form);
    let introspect = introspect.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(Answer::to(introspect).await.json(), json!({"active": false}));
    let replica = service.replica().await;
    service.end().await;
    // Six requests and one question; the unknown one is nobody's.
    let kept = crate::usage::kept(&replica).await;
    assert_eq!(kept.len(), 2, "one edge, one hour, and no token in use: {kept:?}");
    assert!(kept[1].ends_with(", 0, 7]"), "{kept:?}");
}

#[tokio::test]
async fn credentials_as_peoples_tools_write_them_pass() {
    let service = TestService::start().await;
    service.make_user("dev@example.com").await;
    let own = service.make_token("dev@example.com", json!({"name": "ci"})).await;
    let shapes = ["ATCTT3xFfGN0-plain=1A2B", "123456:ABC-def", "a;b|c"];
    for (number, shape) in (0..).zip(shapes) {
        let hash = TokenHash::of(shape.as_bytes()).to_string();
        let token = json!({"token_hash": hash, "name": format!("imported {number}")});
        let path = "/users/dev@example.com/tokens:import";
        service.admin().post(path, json!({"tokens": [token]})).await.expect(StatusCode::OK);
    }
    let unpadded = |text: String| {
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        format!("Basic {}", engine.encode(text))
    };
    let mut values = vec![
        basic("Dev@Example.com", &own.token),
        basic("dev@example.com", &format!("{}\n", own.token)),
        basic("DEV@EXAMPLE.COM", &format!("{}\r\n", own.token)),
        unpadded(format!("dev@example.com:{}", own.token)),
        unpadded(format!("dev@example.com:{}\n", own.token)),
    ];
    values.extend(shapes.map(|shape| format!("Bearer {shape}")));
    for value in values {
        let answer = Answer::to(ask(&service.edge()).header("authorization", &value)).await;
        assert_eq!(answer.status, StatusCode::OK, "{value}: {}", answer.show());
        assert_eq!(answer.header("x-latchkey-user"), ["dev@example.com"], "the owner's name, as it is");
    }
    let two_ends = basic("dev@example.com", &format!("{}\n\n", own.token));
    let answer = Answer::to(ask(&service.edge()).header("authorization", two_ends)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_was_counted_is_written_down_when_the_service_ends() {
    let service = TestService::start().await;
    let own = service.user_with("alice", &[]).await;
    Answer::to(ask(&service.edge()).bearer_auth(&own.token)).await.expect(StatusCode::OK);
    let replica = service.replica().await;
    service.end().await;
    let token = replica.admin().get(&format!("/tokens/{}", own.id)).await.expect(StatusCode::OK).json();
    assert_eq!(text(&token["last_used_at"]), "2026-01-01T00:00:00Z");
}
