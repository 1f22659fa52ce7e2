//! Every operation of the description, against those who may not call it in whatever way. The list comes from the
//! description: an operation without a case here makes the test fail.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::described::{Operation, operations};
use crate::support::{Client, TestService};

/// How to call an operation so that it succeeds, on objects of the user `alice`.
pub struct Case {
    pub path: String,
    pub body: Option<Value>,
}

/// SHA-256 of a token that no service has made.
const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// How to call each operation. A new operation needs a line here.
pub fn case(operation: &Operation, token: &str) -> Case {
    let key = operation.name();
    let body = match key.as_str() {
        "GET /me"
        | "GET /users"
        | "GET /users/{name}"
        | "DELETE /users/{name}"
        | "GET /users/{name}/tokens"
        | "DELETE /users/{name}/tokens"
        | "GET /tokens"
        | "GET /tokens/{id}"
        | "GET /tokens/self"
        | "DELETE /tokens/self"
        | "DELETE /tokens/{id}"
        | "GET /restrictions"
        | "GET /users/{name}/restrictions"
        | "DELETE /users/{name}/restrictions"
        | "GET /scheduler"
        | "POST /scheduler/run"
        | "GET /audit"
        | "GET /audit:export"
        | "GET /stats" => None,
        "POST /users" => Some(json!({"name": "carol"})),
        "PATCH /users/{name}" => Some(json!({"displayName": "Alice"})),
        "PUT /users/{name}/restrictions" => Some(json!({"max_tokens_per_user": 20})),
        "PATCH /tokens/{id}" => Some(json!({"name": "renamed"})),
        "POST /tokens/{id}/rotate" => Some(json!({"overlap": "1h"})),
        "POST /users/{name}/tokens" => Some(json!({"name": "ci"})),
        "POST /users/{name}/tokens:import" => {
            Some(json!({"tokens": [{"token_hash": HASH, "name": "moved"}]}))
        }
        "PUT /restrictions" => Some(json!({
            "max_lifetime": "90d", "max_tokens_per_user": 5,
            "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
        })),
        _ => panic!(
            "{key} is described and has no case here: say how it is called, and this test says to whom it is refused"
        ),
    };
    let query = if key == "DELETE /users/{name}/tokens" { "?status=expired" } else { "" };
    let path = operation.path.replace("{name}", "alice").replace("{id}", token);
    Case { path: format!("{path}{query}"), body }
}

/// A service with alice, and bob, who has one token per scope.
struct World {
    service: TestService,
    alices_token: String,
    none: Client,
    tokens: Client,
    admin: Client,
}

impl World {
    async fn new() -> Self {
        let service = TestService::start().await;
        let alice = service.user_with("alice", &["latchkey:tokens"]).await;
        let none = service.user_with("bob", &[]).await.token;
        let tokens = service
            .make_token("bob", json!({"name": "t", "scopes": ["latchkey:tokens", "read"]}))
            .await
            .token;
        Self {
            alices_token: alice.id,
            none: service.with(&none),
            tokens: service.with(&tokens),
            admin: service.admin(),
            service,
        }
    }

    async fn refused(
        &self,
        client: &Client,
        operation: &Operation,
        case: &Case,
    ) -> (StatusCode, String, Vec<String>) {
        let answer =
            self.service.refused(client, operation.method.clone(), &case.path, case.body.clone()).await;
        (answer.status, answer.code(), answer.header("www-authenticate"))
    }
}

#[tokio::test]
async fn every_operation_refuses_whoever_presents_no_valid_token() {
    let world = World::new().await;
    let strangers = [
        (world.service.anonymous(), "api_key_missing"),
        (world.service.with("lk_0000000000000000000000000000000000000000000000000"), "api_key_invalid"),
        (world.service.authorized("Bearer".to_owned()), "api_key_invalid"),
        (world.service.authorized(format!("Digest {}", world.service.admin_token)), "api_key_invalid"),
    ];
    for operation in operations() {
        let case = case(&operation, &world.alices_token);
        for (stranger, code) in &strangers {
            let (status, found, challenges) = world.refused(stranger, &operation, &case).await;
            assert_eq!((status, found.as_str()), (StatusCode::UNAUTHORIZED, *code), "{}", case.path);
            assert!(!challenges.is_empty(), "{}: no challenge", case.path);
        }
    }
}

#[tokio::test]
async fn every_operation_refuses_a_token_without_its_scope() {
    let world = World::new().await;
    for operation in operations() {
        let case = case(&operation, &world.alices_token);
        let Some(needed) = &operation.scope else {
            // One of its own, for the call may end it.
            let any = world.service.make_token("bob", json!({"name": "any"})).await.token;
            let answer = world.service.with(&any).send(operation.method, &case.path, case.body).await;
            assert!(answer.status.is_success(), "{}", answer.show());
            continue;
        };
        let lacking: &[&Client] = match needed.as_str() {
            "latchkey:tokens" => &[&world.none],
            "latchkey:admin" => &[&world.none, &world.tokens],
            other => panic!("{}: nobody knows the scope {other}", case.path),
        };
        for client in lacking {
            let (status, code, challenges) = world.refused(client, &operation, &case).await;
            assert_eq!(
                (status, code.as_str()),
                (StatusCode::FORBIDDEN, "insufficient_scope"),
                "{}",
                case.path
            );
            let challenge = format!(r#"Bearer realm="api", error="insufficient_scope", scope="{needed}""#);
            assert_eq!(challenges, [challenge], "{}", case.path);
        }
    }
}

#[tokio::test]
async fn every_operation_on_tokens_refuses_another_users() {
    let world = World::new().await;
    let mut seen = 0;
    for operation in
        operations().iter().filter(|operation| operation.scope.as_deref() == Some("latchkey:tokens"))
    {
        seen += 1;
        let case = case(operation, &world.alices_token);
        let (status, code, _) = world.refused(&world.tokens, operation, &case).await;
        let expected = if operation.path.contains("{id}") {
            (StatusCode::NOT_FOUND, "token_not_found")
        } else {
            (StatusCode::FORBIDDEN, "insufficient_scope")
        };
        assert_eq!((status, code.as_str()), expected, "{} {}", operation.method, case.path);
        // A user or token that is not there is answered in the same words.
        let nobody = Case {
            path: case
                .path
                .replace("alice", "nobody")
                .replace(&world.alices_token, "01900000-0000-7000-8000-000000000000"),
            body: case.body,
        };
        let (status, code, _) = world.refused(&world.tokens, operation, &nobody).await;
        assert_eq!((status, code.as_str()), expected, "{} {}", operation.method, nobody.path);
    }
    assert!(seen >= 5, "only {seen} operations need latchkey:tokens");
}

#[tokio::test]
async fn every_operation_refuses_query_parameters_that_it_does_not_know() {
    let world = World::new().await;
    for operation in operations() {
        let mut case = case(&operation, &world.alices_token);
        case.path += if case.path.contains('?') { "&surprise=1" } else { "?surprise=1" };
        let (status, code, _) = world.refused(&world.admin, &operation, &case).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "invalid_query"), "{}", case.path);
    }
}

#[tokio::test]
async fn every_operation_with_a_body_refuses_one_that_it_does_not_understand() {
    let world = World::new().await;
    let mut seen = 0;
    for operation in operations().into_iter().filter(|operation| operation.has_body) {
        seen += 1;
        let case = case(&operation, &world.alices_token);
        let good = case.body.unwrap();
        let mut surprising = good.clone();
        surprising["surprise"] = json!(1);
        let as_array: Vec<Value> = good.as_object().unwrap().values().cloned().collect();
        for (body, code) in
            [(surprising, "invalid_body"), (json!(as_array), "invalid_body"), (json!(7), "invalid_body")]
        {
            let answer =
                world.service.refused(&world.admin, operation.method.clone(), &case.path, Some(body)).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::BAD_REQUEST, code),
                "{}",
                case.path
            );
        }
    }
    assert!(seen >= 4, "only {seen} operations have a body");
}

#[test]
fn every_operation_documents_what_it_refuses() {
    for operation in operations() {
        let (path, responses) = (&operation.path, &operation.described["responses"]);
        let mut statuses = vec!["400", "401", "403", "500", "503"];
        if operation.path.contains('{') {
            statuses.push("404");
        }
        if operation.has_body {
            statuses.extend(["413", "415", "422"]);
        }
        for status in statuses {
            let response = &responses[status];
            assert!(
                response["description"].as_str().is_some_and(|text| text.contains('`')),
                "{path}: {status}"
            );
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Error", "{path}: {status}");
        }
    }
}
