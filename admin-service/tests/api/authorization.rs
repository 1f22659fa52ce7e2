//! Who is served by each operation, and who is refused: each operation of the description has a row.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;

use crate::described::{Operation, operations};
use crate::every_operation::case;
use crate::support::{Client, Made, TestService};

/// What somebody gets who calls an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    Served,
    /// 401.
    Unauthorized,
    /// 403 `insufficient_scope`.
    Forbidden,
    /// 404 `token_not_found`: another's token answers as one that never was.
    NotFound,
}
use Gets::{Forbidden, NotFound, Served, Unauthorized};

/// Who calls: nobody known, a token without scopes, one with `latchkey:tokens` on what is its user's own and on what is
/// another's, and an administrator.
const WHO: [&str; 5] = ["anonymous", "without scope", "own", "another's", "administrator"];

/// Operations that any token may call.
const ANYONE: [Gets; 5] = [Unauthorized, Served, Served, Served, Served];
/// Those that show a user.
const SEES_ITSELF: [Gets; 5] = [Unauthorized, Served, Served, Forbidden, Served];
/// Those on a user's tokens and limits.
const OF_USER: [Gets; 5] = [Unauthorized, Forbidden, Served, Forbidden, Served];
/// Those on one token.
const OF_TOKEN: [Gets; 5] = [Unauthorized, Forbidden, Served, NotFound, Served];
/// Those of administrators.
const ADMIN: [Gets; 5] = [Unauthorized, Forbidden, Forbidden, Forbidden, Served];

const MATRIX: [(&str, [Gets; 5]); 27] = [
    ("DELETE /tokens/self", ANYONE),
    ("DELETE /tokens/{id}", OF_TOKEN),
    ("DELETE /users/{name}", ADMIN),
    ("DELETE /users/{name}/restrictions", ADMIN),
    ("DELETE /users/{name}/tokens", OF_USER),
    ("GET /audit", ADMIN),
    ("GET /audit:export", ADMIN),
    ("GET /me", ANYONE),
    ("GET /restrictions", ADMIN),
    ("GET /scheduler", ADMIN),
    ("GET /stats", ADMIN),
    ("GET /tokens", ADMIN),
    ("GET /tokens/self", ANYONE),
    ("GET /tokens/{id}", OF_TOKEN),
    ("GET /users", ADMIN),
    ("GET /users/{name}", SEES_ITSELF),
    ("GET /users/{name}/restrictions", OF_USER),
    ("GET /users/{name}/tokens", OF_USER),
    ("PATCH /tokens/{id}", OF_TOKEN),
    ("PATCH /users/{name}", ADMIN),
    ("POST /scheduler/run", ADMIN),
    ("POST /tokens/{id}/rotate", OF_TOKEN),
    ("POST /users", ADMIN),
    ("POST /users/{name}/tokens", OF_USER),
    ("POST /users/{name}/tokens:import", ADMIN),
    ("PUT /restrictions", ADMIN),
    ("PUT /users/{name}/restrictions", ADMIN),
];

/// Alice, on whose objects operations are called, and bob.
struct World {
    service: TestService,
    /// The token of alice's that operations are called on.
    object: Made,
    clients: [Client; 5],
}

impl World {
    async fn new() -> Self {
        let service = TestService::start().await;
        let object = service.user_with("alice", &["read"]).await;
        let none = service.make_token("alice", json!({"name": "none"})).await.token;
        let scopes = json!(["latchkey:tokens", "read"]);
        let own = service.make_token("alice", json!({"name": "tokens", "scopes": scopes})).await.token;
        service.make_user("bob").await;
        let bobs = service.make_token("bob", json!({"name": "tokens", "scopes": scopes})).await.token;
        let clients = [
            service.anonymous(),
            service.with(&none),
            service.with(&own),
            service.with(&bobs),
            service.admin(),
        ];
        Self { service, object, clients }
    }

    async fn check(&self, operation: &Operation, client: &Client, who: &str, gets: Gets) {
        let (what, case) = (format!("{} by {who}", operation.name()), case(operation, &self.object.id));
        if gets == Served {
            let answer = client.send(operation.method.clone(), &case.path, case.body).await;
            assert!(answer.status.is_success(), "{what}: {}", answer.show());
            return;
        }
        let answer = self.service.refused(client, operation.method.clone(), &case.path, case.body).await;
        let expected = match gets {
            Unauthorized => (StatusCode::UNAUTHORIZED, "api_key_missing"),
            NotFound => (StatusCode::NOT_FOUND, "token_not_found"),
            Forbidden | Served => (StatusCode::FORBIDDEN, "insufficient_scope"),
        };
        assert_eq!((answer.status, answer.code().as_str()), expected, "{what}");
    }
}

#[test]
fn every_operation_of_the_description_has_a_row_that_agrees_with_its_scope() {
    let described: BTreeSet<String> = operations().iter().map(Operation::name).collect();
    let rows: BTreeSet<String> = MATRIX.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rows, described, "each operation needs a row here that says who is served");
    for operation in operations() {
        let gets = row(&operation);
        let expected = match operation.scope.as_deref() {
            None => ANYONE,
            Some("latchkey:admin") if operation.name() == "GET /users/{name}" => SEES_ITSELF,
            Some("latchkey:admin") => ADMIN,
            Some("latchkey:tokens") if operation.path.contains("{id}") => OF_TOKEN,
            Some("latchkey:tokens") => OF_USER,
            Some(other) => panic!("{}: nobody knows the scope {other}", operation.name()),
        };
        assert_eq!(gets, expected, "{}", operation.name());
    }
}

fn row(operation: &Operation) -> [Gets; 5] {
    MATRIX.iter().find(|(name, _)| *name == operation.name()).unwrap().1
}

#[tokio::test]
async fn every_operation_refuses_whom_it_should() {
    let world = World::new().await;
    for operation in operations() {
        for ((who, gets), client) in WHO.iter().zip(row(&operation)).zip(&world.clients) {
            if gets != Served {
                world.check(&operation, client, who, gets).await;
            }
        }
    }
}

#[tokio::test]
async fn every_operation_serves_whom_it_should() {
    for operation in operations() {
        for (place, (who, gets)) in WHO.iter().zip(row(&operation)).enumerate() {
            if gets == Served {
                // What was served before may have taken away what the next one needs.
                let world = World::new().await;
                world.check(&operation, &world.clients[place], who, gets).await;
            }
        }
    }
}
