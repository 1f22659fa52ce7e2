//! Every operation gives each of the errors that it is described with: none is documented that never comes.

use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey_admin::attempts::MOST as MOST_FAILED;
use latchkey_admin::domain::period::Period;
use latchkey_admin::jobs::delete_expired::JOB;
use latchkey_admin::store::{Holder, Lease};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::described::{Operation, operations};
use crate::every_operation::case;
use crate::support::{Answer, Client, Made, TestService};

const UNKNOWN: &str = "lk_0000000000000000000000000000000000000000000000000";
/// What a healthy service does not answer with; `trouble`, `attempts` and the tests of the limits show that an ailing one does.
const TROUBLE: [&str; 5] =
    ["internal_error", "not_bootstrapped", "overloaded", "request_timeout", "insufficient_storage"];

/// Users and tokens in every state that an error tells of.
struct World {
    service: TestService,
    alices: String,
    bobs: Made,
    /// Bob's, bound to networks.
    bound: Made,
    /// Bob's, for one scheme alone.
    bearer: Made,
    /// Bob's, which ends soon.
    brief: Made,
    /// Of dora, who was deleted.
    deleted: String,
    revoked: String,
    /// Rotated, as its successor was.
    rotated: String,
    /// Works for an overlap, without a successor; its user may have no other.
    overlapped: String,
    elsewhere: Client,
}

/// A request that is answered with an error.
struct Ask {
    client: Client,
    user: &'static str,
    token: String,
    body: Option<Value>,
    query: &'static str,
}

impl World {
    async fn new() -> Self {
        let service = TestService::start().await;
        let alices = service.user_with("alice", &["latchkey:tokens"]).await.id;
        let bobs = service.user_with("bob", &[]).await;
        let bound = json!({"name": "bound", "scopes": ["latchkey:tokens"], "allowed_cidrs": ["127.0.0.0/8"]});
        let bound = service.make_token("bob", bound).await;
        let bearer = json!({"name": "bearer", "scopes": ["latchkey:tokens"], "schemes": ["bearer"]});
        let bearer = service.make_token("bob", bearer).await;
        let brief = json!({"name": "brief", "scopes": ["latchkey:tokens"], "expires_in": "30d"});
        let brief = service.make_token("bob", brief).await;
        let deleted = service.user_with("dora", &[]).await.id;
        service.admin().delete("/users/dora").await.expect(StatusCode::NO_CONTENT);
        let revoked = service.make_token("bob", json!({"name": "revoked"})).await.id;
        service.admin().delete(&format!("/tokens/{revoked}")).await.expect(StatusCode::NO_CONTENT);
        let rotated = service.make_token("bob", json!({"name": "rotated"})).await.id;
        let next = rotate(&service, &rotated).await;
        rotate(&service, &next).await;
        let overlapped = service.user_with("erin", &[]).await.id;
        let next = rotate(&service, &overlapped).await;
        service.admin().delete(&format!("/tokens/{next}")).await.expect(StatusCode::NO_CONTENT);
        let none = json!({"max_tokens_per_user": 0});
        service.admin().put("/users/erin/restrictions", none).await.expect(StatusCode::OK);
        let far = json!({"name": "far", "scopes": ["latchkey:admin"], "allowed_cidrs": ["192.0.2.0/24"]});
        let elsewhere = service.make_token("admin", far).await.token;
        let elsewhere = service.with(&elsewhere);
        Self { service, alices, bobs, bound, bearer, brief, deleted, revoked, rotated, overlapped, elsewhere }
    }

    /// The usual request of an operation, by an administrator.
    fn usual(&self, operation: &Operation) -> Ask {
        let (client, token) = (self.service.admin(), self.alices.clone());
        Ask { client, user: "alice", body: case(operation, &token).body, token, query: "" }
    }

    /// A request that an operation answers with an error of this code.
    fn ask(&self, operation: &Operation, code: &str) -> Ask {
        let (service, usual) = (&self.service, self.usual(operation));
        let admin = &service.admin_token;
        match code {
            "api_key_missing" => Ask { client: service.anonymous(), ..usual },
            "api_key_invalid" => Ask { client: service.with(UNKNOWN), ..usual },
            "multiple_credentials" => {
                Ask { client: service.authorized(format!("Bearer {admin}, Bearer {admin}")), ..usual }
            }
            "insufficient_scope" => Ask { client: service.with(&self.bobs.token), ..usual },
            "address_not_permitted" => Ask { client: self.elsewhere.clone(), ..usual },
            "invalid_query" => Ask { query: "surprise=1", ..usual },
            "invalid_cursor" => Ask { query: "cursor=x", ..usual },
            "invalid_body" => Ask { body: Some(json!(7)), ..usual },
            "invalid_value" | "expiry_too_long" => Ask { body: Some(bad_body(operation, code)), ..usual },
            "user_not_found" => Ask { user: "nobody", ..usual },
            "token_not_found" => Ask { token: "01900000-0000-7000-8000-000000000000".to_owned(), ..usual },
            "user_exists" => Ask { body: Some(json!({"name": "alice"})), ..usual },
            "user_not_active" => Ask { user: "dora", token: self.deleted.clone(), ..usual },
            "token_not_active" => Ask { token: self.revoked.clone(), ..usual },
            "token_rotated" => Ask { token: self.rotated.clone(), ..usual },
            "token_exists" => Ask { body: Some(import_of(&self.bobs.token)), ..usual },
            "token_limit_reached" => Ask { user: "erin", token: self.overlapped.clone(), ..usual },
            "networks_too_wide" => self.too_wide(operation, usual),
            "schemes_too_wide" => self.other_schemes(operation, usual),
            "outlives_maker" => self.outliving(operation),
            "caller_would_expire" => Ask {
                query: "apply_to_existing=true",
                body: Some(json!({
                    "max_lifetime": "1s", "max_tokens_per_user": 5,
                    "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
                })),
                ..usual
            },
            _ => panic!("{} documents {code}: say here how it comes to that", operation.name()),
        }
    }

    /// Bob's bound token gives what it lacks.
    fn too_wide(&self, operation: &Operation, usual: Ask) -> Ask {
        let usual = Ask { client: self.service.with(&self.bound.token), user: "bob", ..usual };
        match operation.method {
            Method::PATCH => {
                Ask { token: self.bound.id.clone(), body: Some(json!({"allowed_cidrs": []})), ..usual }
            }
            _ if operation.path.contains("rotate") => Ask { token: self.bobs.id.clone(), ..usual },
            _ => Ask { body: Some(json!({"name": "wide", "allowed_cidrs": []})), ..usual },
        }
    }

    /// Bob's token for one scheme gives the other one.
    fn other_schemes(&self, operation: &Operation, usual: Ask) -> Ask {
        let (client, token) = (self.service.with(&self.bearer.token), self.bobs.id.clone());
        let usual = Ask { client, user: "bob", token, ..usual };
        match operation.method {
            Method::PATCH => Ask { body: Some(json!({"scopes": ["latchkey:tokens"]})), ..usual },
            _ if operation.path.contains("rotate") => usual,
            _ => Ask { body: Some(json!({"name": "basic", "schemes": ["basic"]})), ..usual },
        }
    }

    /// Bob's token that ends soon gives a later end.
    fn outliving(&self, operation: &Operation) -> Ask {
        let (client, token) = (self.service.with(&self.brief.token), self.brief.id.clone());
        let body = match operation.method {
            Method::PATCH => json!({"expires_at": "2026-06-01T00:00:00Z"}),
            _ if operation.path.contains("rotate") => json!({"expires_in": "60d"}),
            _ => json!({"name": "late", "expires_in": "60d"}),
        };
        Ask { client, user: "bob", token, body: Some(body), query: "" }
    }

    /// What an operation answers to a request that must be refused, having changed nothing.
    async fn refused(&self, operation: &Operation, ask: Ask) -> Answer {
        let path = path(operation, &ask);
        self.service.refused(&ask.client, operation.method.clone(), &path, ask.body).await
    }

    /// The same of a body that is no value of JSON's, or not declared as one.
    async fn refused_body(&self, operation: &Operation, code: &str) -> Answer {
        let (kind, body) = match code {
            "malformed_json" => ("application/json", "{".to_owned()),
            "body_too_large" => ("application/json", "x".repeat(1_100_000)),
            _ => ("text/plain", "{}".to_owned()),
        };
        let ask = self.usual(operation);
        let path = format!("/api/v1{}", path(operation, &ask));
        let before = self.service.state().await;
        let request = ask.client.request(operation.method.clone(), &path);
        let answer = Answer::to(request.header("content-type", kind).body(body)).await;
        assert_eq!(before, self.service.state().await, "{path} was refused and has changed something");
        answer
    }
}

impl World {
    /// What an operation answers to a page of another site, without a credential.
    async fn refused_cross_site(&self, operation: &Operation) -> Answer {
        let ask = Ask { client: self.service.anonymous(), ..self.usual(operation) };
        let path = format!("/api/v1{}", path(operation, &ask));
        let before = self.service.state().await;
        let request = ask.client.request(operation.method.clone(), &path);
        let answer = Answer::to(request.header("origin", "null").json(&ask.body)).await;
        assert_eq!(before, self.service.state().await, "{path} was refused and has changed something");
        answer
    }
}

/// An import of one token.
fn import_of(token: &str) -> Value {
    json!({"tokens": [{"token_hash": TokenHash::of(token.as_bytes()), "name": "moved"}]})
}

async fn rotate(service: &TestService, token: &str) -> String {
    let path = format!("/tokens/{token}/rotate");
    let made = service.admin().post(&path, json!({"overlap": "1h"})).await.expect(StatusCode::CREATED);
    made.json()["id"].as_str().unwrap().to_owned()
}

fn path(operation: &Operation, ask: &Ask) -> String {
    let path = case(operation, &ask.token).path.replace("/alice", &format!("/{}", ask.user));
    let mark = if path.contains('?') { '&' } else { '?' };
    if ask.query.is_empty() { path } else { format!("{path}{mark}{}", ask.query) }
}

/// A body with a value that cannot be.
fn bad_body(operation: &Operation, code: &str) -> Value {
    let too_long = code == "expiry_too_long";
    match operation.name().as_str() {
        "POST /users/{name}/tokens" if too_long => json!({"name": "t", "expires_in": "400d"}),
        "POST /tokens/{id}/rotate" if too_long => json!({"expires_in": "400d"}),
        "POST /users/{name}/tokens:import" => {
            let value = if too_long { json!("400d") } else { json!("soon") };
            json!({"tokens": [{"token_hash": "0".repeat(64), "name": "t", "expires_in": value}]})
        }
        "PATCH /tokens/{id}" if too_long => json!({"expires_at": "2099-01-01T00:00:00Z"}),
        "POST /users" => json!({"name": "A B"}),
        "PATCH /users/{name}" => json!({"displayName": "<b>"}),
        "POST /users/{name}/tokens" | "PATCH /tokens/{id}" => json!({"name": ""}),
        "POST /tokens/{id}/rotate" => json!({"overlap": "31d"}),
        "PUT /users/{name}/restrictions" => json!({"max_lifetime": "0s"}),
        "PUT /restrictions" => json!({
            "max_lifetime": "0s", "max_tokens_per_user": 5,
            "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
        }),
        name => panic!("{name} documents {code}: say here which body it refuses so"),
    }
}

#[tokio::test]
async fn every_operation_gives_each_error_that_it_is_described_with() {
    let world = World::new().await;
    let mut seen = 0;
    for operation in operations() {
        for (status, code) in operation.codes() {
            let answer = match code {
                // Tests of their own show these.
                "unavailable" | "too_many_failures" | "too_many_changes" | "scheduler_running" => continue,
                "cross_site" => world.refused_cross_site(&operation).await,
                _ if TROUBLE.contains(&code) => continue,
                "malformed_json" | "body_too_large" | "unsupported_media_type" => {
                    world.refused_body(&operation, code).await
                }
                _ => world.refused(&operation, world.ask(&operation, code)).await,
            };
            let given = (answer.status.as_str().to_owned(), answer.code());
            assert_eq!(given, (status.to_owned(), code.to_owned()), "{}", operation.name());
            seen += 1;
        }
    }
    assert!(seen > 150, "only {seen} errors");
}

#[tokio::test]
async fn every_operation_succeeds_as_it_is_described() {
    for operation in operations() {
        let service = TestService::start().await;
        let token = service.user_with("alice", &[]).await.id;
        let case = case(&operation, &token);
        let answer = service.admin().send(operation.method.clone(), &case.path, case.body).await;
        let answers = operation.described["responses"].as_object().unwrap().keys();
        // Answered where there is more to do than there is time for.
        let long = ["POST /scheduler/run", "DELETE /users/{name}/tokens"];
        let goes_on = |status: &&String| long.contains(&&*operation.name()) && *status == "202";
        let described: Vec<&String> =
            answers.filter(|status| status.starts_with('2') && !goes_on(status)).collect();
        assert_eq!(described, [answer.status.as_str()], "{}", operation.name());
    }
}

#[tokio::test]
async fn every_operation_answers_429_when_too_many_attempts_have_failed() {
    let world = World::new().await;
    let stranger = world.service.with(UNKNOWN);
    for _ in 0..MOST_FAILED {
        stranger.get("/me").await.expect(StatusCode::UNAUTHORIZED);
    }
    for operation in operations() {
        let ask = Ask { client: stranger.clone(), ..world.usual(&operation) };
        let answer = world.refused(&operation, ask).await;
        assert_eq!(answer.code(), "too_many_failures", "{}", operation.name());
    }
}

#[tokio::test]
async fn every_operation_is_unavailable_without_the_database() {
    let world = World::new().await;
    world.service.store.close().await;
    for operation in operations() {
        let ask = world.usual(&operation);
        let answer = ask.client.send(operation.method.clone(), &path(&operation, &ask), ask.body).await;
        let expected = (StatusCode::SERVICE_UNAVAILABLE, "unavailable");
        assert_eq!((answer.status, answer.code().as_str()), expected, "{}", operation.name());
    }
}

#[tokio::test]
async fn every_operation_is_not_bootstrapped_where_there_never_was_an_administrator() {
    let world = World::new().await;
    let service = TestService::start_without_administrator().await;
    for operation in operations() {
        let ask = world.usual(&operation);
        let client = service.with(&world.service.admin_token);
        let answer = client.send(operation.method.clone(), &path(&operation, &ask), ask.body).await;
        let expected = (StatusCode::SERVICE_UNAVAILABLE, "not_bootstrapped");
        assert_eq!((answer.status, answer.code().as_str()), expected, "{}", operation.name());
    }
}

#[tokio::test]
async fn a_run_of_the_scheduler_is_refused_while_another_replica_is_at_it() {
    let service = TestService::start().await;
    let lasts = Period::from_millis(60_000);
    let lease = Lease { job: JOB, holder: Holder("replica-2".to_owned()), lasts };
    // The service itself may be at it, for it has just begun.
    let taken = tokio::time::timeout(Duration::from_secs(60), async {
        while service.store.acquire_lease(&lease).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    taken.await.expect("the service does not give the lease back");
    let refused = service.refused(&service.admin(), Method::POST, "/scheduler/run", None).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::CONFLICT, "scheduler_running"));
}
