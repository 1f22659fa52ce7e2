//! Answers that are no verdict, from a stand-in for the service.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::fake_service::{answer, good_verdict, json_answer};
use crate::support::{Behaviour, Envoy, EnvoyConfig, FakeService, Kind, Upstream, kind, made_up};

/// What the stand-in does with a question.
type Behave = fn(&Value) -> Behaviour;

/// What it does, and the outcome by which the filter counts it.
type Row = (&'static str, Behave, &'static str);

const JSON: &str = "content-type: application/json\r\n";

/// The good verdict, with another value at a JSON pointer's place.
fn but(question: &Value, pointer: &str, value: Value) -> Behaviour {
    let mut verdict = good_verdict(question);
    *verdict.pointer_mut(pointer).expect("a field of the verdict") = value;
    Behaviour::Json(verdict)
}

/// The good verdict without one of its fields.
fn without(question: &Value, field: &str) -> Behaviour {
    let mut verdict = good_verdict(question);
    verdict.as_object_mut().expect("an object").remove(field).expect("a field of the verdict");
    Behaviour::Json(verdict)
}

/// The good verdict under another status line and other headers.
fn under(question: &Value, status: &str, headers: &str) -> Behaviour {
    Behaviour::Answer(answer(status, headers, &good_verdict(question).to_string()))
}

/// The first part of the good verdict.
fn half(question: &Value) -> Vec<u8> {
    let whole = json_answer(&good_verdict(question));
    whole[..whole.len() - 20].to_vec()
}

/// The items of a verdict in the order of its fields.
fn positions(question: &Value) -> Behaviour {
    let verdict = good_verdict(question);
    let fields = ["epoch", "revision", "token_hash", "token", "reason"];
    Behaviour::Json(fields.iter().map(|field| verdict.get(field).cloned().unwrap_or_default()).collect())
}

/// The good verdict with a token of which the same is true.
fn token_by_positions(question: &Value) -> Behaviour {
    let facts =
        json!(["0190c000-0000-7000-8000-000000000001", "test", "alice", ["bearer", "basic"], [], [], null]);
    but(question, "/token", facts)
}

const UNUSABLE: [Row; 40] = [
    ("closes without a word", |_| Behaviour::Raw(Vec::new()), "unreachable"),
    ("resets without a word", |_| Behaviour::RawThenReset(Vec::new()), "unreachable"),
    ("says nothing", |_| Behaviour::RawThenHang(Vec::new()), "timeout"),
    ("does not speak HTTP", |_| Behaviour::Raw(b"\0\xffSSH-2.0 nonsense\r\n\r\n".to_vec()), "unreachable"),
    ("closes in mid-headers", |_| Behaviour::Raw(b"HTTP/1.1 200 OK\r\nconten".to_vec()), "unreachable"),
    ("stops in mid-headers", |_| Behaviour::RawThenHang(b"HTTP/1.1 200 OK\r\nconten".to_vec()), "timeout"),
    ("closes in mid-body", |q| Behaviour::Raw(half(q)), "unreachable"),
    ("resets in mid-body", |q| Behaviour::RawThenReset(half(q)), "unreachable"),
    ("stops in mid-body", |q| Behaviour::RawThenHang(half(q)), "unreachable"),
    (
        "headers without end",
        |q| under(q, "200 OK", &format!("{JSON}x-long: {}\r\n", "x".repeat(200_000))),
        "unreachable",
    ),
    (
        "HTML",
        |_| Behaviour::Answer(answer("200 OK", "content-type: text/html\r\n", "<h1>It works!</h1>")),
        "bad_answer",
    ),
    (
        "HTML said to be JSON",
        |_| Behaviour::Answer(answer("200 OK", JSON, "<h1>It works!</h1>")),
        "bad_answer",
    ),
    ("a verdict without a content type", |q| under(q, "200 OK", ""), "bad_answer"),
    ("a verdict as text", |q| under(q, "200 OK", "content-type: text/plain\r\n"), "bad_answer"),
    ("a verdict as other JSON", |q| under(q, "200 OK", "content-type: application/jsonx\r\n"), "bad_answer"),
    ("no body", |_| Behaviour::Answer(answer("200 OK", JSON, "")), "bad_answer"),
    ("JSON of another shape", |_| Behaviour::Json(json!({"status": "UP"})), "bad_answer"),
    ("a list", |q| Behaviour::Json(json!([good_verdict(q)])), "bad_answer"),
    ("a verdict by positions", positions, "bad_answer"),
    ("a token by positions", token_by_positions, "bad_answer"),
    ("null", |_| Behaviour::Json(Value::Null), "bad_answer"),
    (
        "two verdicts",
        |q| Behaviour::Answer(answer("200 OK", JSON, &good_verdict(q).to_string().repeat(2))),
        "bad_answer",
    ),
    ("a verdict on another token", |q| but(q, "/token_hash", json!("ab".repeat(32))), "bad_answer"),
    ("a verdict on no token", |q| without(q, "token_hash"), "bad_answer"),
    ("a verdict without an epoch", |q| without(q, "epoch"), "bad_answer"),
    ("a verdict without a revision", |q| without(q, "revision"), "bad_answer"),
    ("a user that is no text", |q| but(q, "/token/user", json!(7)), "bad_answer"),
    ("a verdict that leaves the token out", |q| without(q, "token"), "bad_answer"),
    ("a scheme that is no text", |q| but(q, "/token/schemes", json!([7])), "bad_answer"),
    ("too large an answer", |q| but(q, "/token/name", json!("x".repeat(70_000))), "bad_answer"),
    ("201 with a verdict", |q| under(q, "201 Created", JSON), "bad_answer"),
    (
        "301 with a verdict",
        |q| under(q, "301 Moved Permanently", &format!("{JSON}location: /\r\n")),
        "bad_answer",
    ),
    ("400 with a verdict", |q| under(q, "400 Bad Request", JSON), "refused"),
    ("401 with a verdict", |q| under(q, "401 Unauthorized", JSON), "unauthorized"),
    ("403 with a verdict", |q| under(q, "403 Forbidden", JSON), "unauthorized"),
    ("404 with a verdict", |q| under(q, "404 Not Found", JSON), "bad_answer"),
    ("408 with a verdict", |q| under(q, "408 Request Timeout", JSON), "timeout"),
    ("429 with a verdict", |q| under(q, "429 Too Many Requests", JSON), "bad_answer"),
    ("500 with a verdict", |q| under(q, "500 Internal Server Error", JSON), "bad_answer"),
    ("503 with a verdict", |q| under(q, "503 Service Unavailable", JSON), "unreachable"),
];

/// More than Envoy holds of a callout's answer, which is 32 MiB.
fn flood(_: &Value) -> Behaviour {
    Behaviour::Answer(answer("200 OK", JSON, &" ".repeat(34_000_000)))
}

/// A gateway whose service is a stand-in that does what the table's row says.
struct Scene {
    behaviour: Arc<Mutex<Behave>>,
    service: FakeService,
    upstream: Upstream,
    envoy: Envoy,
}

impl Scene {
    async fn start() -> Self {
        let behaviour: Arc<Mutex<Behave>> =
            Arc::new(Mutex::new(|question| Behaviour::Json(good_verdict(question))));
        let current = Arc::clone(&behaviour);
        let service = FakeService::start(move |question| {
            let behave = *current.lock().expect("the behaviour");
            behave(question)
        })
        .await;
        let upstream = Upstream::start().await;
        let config = EnvoyConfig::new(service.address(), upstream.address())
            .fake_service(service.address())
            .plugin_service("timeout_ms", json!(3000));
        let envoy = Envoy::start(config).await;
        Self { behaviour, service, upstream, envoy }
    }

    /// One row: every kind of request fails as it should, and passes as soon as the service is well again.
    async fn assert_outage(&self, (what, behave, outcome): Row, kinds: &[Kind]) {
        let tokens = made_up::tokens(kinds.len());
        let metric = format!("callouts.{outcome}");
        let (passed, asked) = (self.upstream.count(), self.service.questions().len());
        let counted = self.envoy.metric(&metric).await;

        *self.behaviour.lock().expect("the behaviour") = behave;
        for (kind, answer) in kind::send_all(&self.envoy, kinds, &tokens).await {
            kind.assert_unavailable(&answer, what);
        }
        // A worker asks for several tokens in one callout where it has two in flight, and for halves of them where that fails.
        let asks = self.service.questions().len() - asked;
        assert!(asks >= kinds.len().min(3), "{what}: every request asked, and not {asks} times");
        assert_eq!(self.upstream.count(), passed, "{what}: something reached the upstream");
        let counted = self.envoy.metric(&metric).await - counted;
        assert!((1..=asks as u64).contains(&counted), "{what}: {metric}: {counted} of {asks}");

        *self.behaviour.lock().expect("the behaviour") = |question| Behaviour::Json(good_verdict(question));
        for (kind, answer) in kind::send_all(&self.envoy, kinds, &tokens).await {
            assert_eq!(answer.status, 200, "after a service that {what}, {kind:?}: {answer:?}");
        }
        assert_eq!(self.upstream.count(), passed + kinds.len(), "{what}");
    }
}

#[tokio::test]
async fn outage_is_not_refusal_whatever_the_service_answers_and_nothing_of_it_is_remembered() {
    let scene = Scene::start().await;
    for row in UNUSABLE {
        scene.assert_outage(row, &Kind::ALL).await;
    }
    let refused = scene.envoy.metric("refused.unavailable").await;
    assert_eq!(refused, (UNUSABLE.len() * Kind::ALL.len()) as u64);
    scene.assert_outage(("answer is a flood", flood, "unreachable"), &[Kind::Http2Body]).await;
    assert_eq!(scene.envoy.deaths().await, 0, "the filter has died");
}
