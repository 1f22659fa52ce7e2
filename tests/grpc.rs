//! gRPC: a refusal is an answer of trailers alone, with the status that the contract gives and the message by itself; a
//! valid call passes whole.

use reqwest::RequestBuilder;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::support::client::{Answer, Pieces};
use crate::support::service::Made;
use crate::support::{World, made_up};

const PATH: &str = "/orders.Orders/Get";

/// Panics unless this is gRPC's way to say no: HTTP 200, no body, the status and the message.
fn assert_refused(answer: &Answer, status: &str, message: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"), "{answer:?}");
    assert_eq!(answer.header("grpc-status").as_deref(), Some(status), "{answer:?}");
    assert_eq!(answer.header("grpc-message").as_deref(), Some(message), "{answer:?}");
    assert_eq!(answer.body, "", "{answer:?}");
    assert!(answer.trailers.is_empty(), "{answer:?}");
}

async fn world() -> (World, Made) {
    let rules = json!([{"match": {"path_prefix": "/admin.Admin/"}, "scopes": ["admin"]}]);
    let world = World::with(|config| config.uncached().rules(rules).upstream_http2()).await;
    let alice = world.admin.user_with_token("alice").await;
    (world, alice)
}

#[tokio::test]
async fn a_refused_grpc_call_is_answered_by_trailers_alone_with_the_contracts_status() {
    let (mut world, alice) = world().await;
    let elsewhere = json!({"name": "elsewhere", "allowed_cidrs": ["192.0.2.0/24"]});
    let elsewhere = world.admin.create_token("alice", elsewhere).await.token;
    let unknown = made_up::token();
    let invalid = ("16", "Provided API key is invalid", "unknown");
    let (good, bad) = ([alice.token.as_str()].to_vec(), vec![unknown.as_str()]);
    let rows = [
        (PATH, vec![], ("16", "API key is missing", "missing")),
        (PATH, bad, invalid),
        (
            "/admin.Admin/Get",
            good.clone(),
            ("7", "API key does not permit this request", "insufficient_scope"),
        ),
        (PATH, vec![elsewhere.as_str()], ("7", "API key is not permitted from this address", "address")),
        (
            PATH,
            [good.clone(), good.clone()].concat(),
            ("13", "More than one credential was provided", "multiple_credentials"),
        ),
    ];
    let (http1, http2) = (world.envoy.http1(), world.envoy.http2());
    for (path, tokens, (status, message, reason)) in rows {
        for gateway in [&http1, &http2] {
            let call = gateway.grpc(path, b"question");
            let call = tokens.iter().fold(call, RequestBuilder::bearer_auth);
            assert_refused(&Answer::to(call).await, status, message);
        }
        assert_eq!(world.envoy.metric(&format!("refused.{reason}")).await, 2, "{reason}");
    }
    world.service.kill().await;
    for gateway in [&http1, &http2] {
        let answer = Answer::to(gateway.grpc(PATH, b"question").bearer_auth(&alice.token)).await;
        assert_refused(&answer, "14", "Authorization is temporarily unavailable");
        assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    }
    assert_eq!(world.upstream.count(), 0, "a refused call reached the upstream");
}

#[tokio::test]
async fn a_valid_grpc_call_passes_with_its_trailers_and_its_answer_with_its_own() {
    let (world, alice) = world().await;
    let message = "\0\0\0\0\x08question";
    let call = world.envoy.http2().post(PATH).bearer_auth(&alice.token);
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let body = Pieces::of([message]).trailers([("x-client-trailer", "sent")]);
    let answer = Answer::to(call.body(body.into_body())).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, message), "{answer:?}");
    let trailer = |name: &str| answer.trailers.get(name).map(|value| value.as_bytes().to_vec());
    assert_eq!(trailer("grpc-status").as_deref(), Some(b"0".as_slice()), "{answer:?}");
    assert_eq!(trailer("x-upstream-trailer").as_deref(), Some(b"sent".as_slice()), "{answer:?}");
    let seen = world.upstream.last();
    assert_eq!(seen.body, message);
    assert_eq!(seen.trailers.get("x-client-trailer").map(HeaderValue::as_bytes), Some(b"sent".as_slice()));
    assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"));
    assert_eq!(seen.header("te").as_deref(), Some("trailers"));
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn what_envoy_takes_for_grpc_is_answered_as_grpc_and_everything_else_in_json() {
    let (world, _) = world().await;
    for (content_type, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc+json", true),
        ("application/grpc+", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpcx", false),
        ("application/grpc; charset=utf-8", false),
        ("application/GRPC", false),
        ("text/plain", false),
        ("", false),
    ] {
        for (version, gateway) in world.envoy.both() {
            let answer = Answer::to(gateway.post(PATH).header("content-type", content_type)).await;
            if is_grpc {
                assert_refused(&answer, "16", "API key is missing");
            } else {
                assert_eq!(answer.status, 401, "{content_type}, {version}: {answer:?}");
                answer.assert_refused(401, "API key is missing");
            }
        }
    }
    assert_eq!(world.upstream.count(), 0, "a refused call reached the upstream");
}
