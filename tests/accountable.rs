//! Rule 9, accountable: every change is in the audit log, with who made it, by which token, from where and in which
//! request. That both come in one transaction, `durable` shows: after a kill there is never one without the other.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Service};

#[tokio::test]
async fn accountable_every_change_is_in_the_audit_log_once_and_what_changes_nothing_is_not() {
    let service = Service::start().await;
    let admin = service.bootstrap();
    admin.create_user("bob").await;
    let token = admin.create_token("bob", json!({"name": "to be revoked"})).await;
    let (tokens, own) = ("/users/bob/tokens", "/users/alice/restrictions");
    let revoke = format!("/tokens/{}", token.id);
    let limits = json!({
        "max_lifetime": "30d", "max_tokens_per_user": 2, "delete_expired": {"enabled": false, "after": "30d", "every": "1h"},
    });
    let me = audit(&admin).await[0]["subject"].clone();
    let changes = [
        (Method::POST, "/users", json!({"name": "alice"}), 201, Some(("user.created", "alice"))),
        (Method::POST, "/users", json!({"name": "alice"}), 409, None),
        (Method::PATCH, "/users/alice", json!({"displayName": "A"}), 200, Some(("user.updated", "alice"))),
        (Method::PATCH, "/users/alice", json!({"displayName": "A"}), 200, None),
        (Method::PATCH, "/users/alice", json!({"active": false}), 200, Some(("user.updated", "alice"))),
        (Method::POST, "/users/alice/tokens", json!({"name": "x"}), 409, None),
        (
            Method::PUT,
            own,
            json!({"max_tokens_per_user": 9}),
            200,
            Some(("user_restrictions.updated", "alice")),
        ),
        (Method::PUT, own, json!({"max_tokens_per_user": 9}), 200, None),
        (Method::DELETE, own, Value::Null, 204, Some(("user_restrictions.updated", "alice"))),
        (Method::DELETE, own, Value::Null, 204, None),
        (Method::DELETE, "/users/alice", Value::Null, 204, Some(("user.deleted", "alice"))),
        (Method::DELETE, "/users/alice", Value::Null, 204, None),
        (Method::PUT, "/restrictions?dry_run=true", limits.clone(), 200, None),
        (Method::PUT, "/restrictions", limits, 200, Some(("restrictions.updated", "restrictions"))),
        (Method::POST, tokens, json!({"name": "x", "expires_in": "31d"}), 422, None),
        (Method::POST, tokens, json!({"name": "x"}), 201, Some(("token.created", ""))),
        (Method::POST, tokens, json!({"name": "x"}), 409, None),
        (Method::DELETE, &revoke, Value::Null, 204, Some(("token.revoked", &token.id))),
        (Method::DELETE, &revoke, Value::Null, 204, None),
        (Method::DELETE, "/users/bob/tokens?status=expired", Value::Null, 200, None),
        (Method::GET, "/users", Value::Null, 200, None),
    ];
    for (number, (method, path, body, status, expected)) in changes.into_iter().enumerate() {
        let (before, ticket) = (audit(&admin).await, format!("ticket-{number}"));
        let request = admin.request(method.clone(), path, Some(body).filter(|body| !body.is_null()));
        let answer = Answer::to(request.header("x-request-id", &ticket)).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let mut after = audit(&admin).await;
        after.retain(|entry| !before.contains(entry));
        let Some((action, subject)) = expected else {
            assert!(after.is_empty(), "{method} {path} changed nothing, and the log has {after:?}");
            continue;
        };
        assert_eq!(after.len(), 1, "{method} {path}: {after:?}");
        let entry = &after[0];
        let made = if subject.is_empty() { answer.json()["id"].clone() } else { json!(subject) };
        assert_eq!((&entry["action"], &entry["subject"]), (&json!(action), &made), "{entry}");
        let origin = [&entry["actor"], &entry["token_id"], &entry["address"], &entry["client_request_id"]];
        assert_eq!(origin, [&json!("admin"), &me, &json!("127.0.0.1"), &json!(ticket)], "{entry}");
    }
}

/// All entries, of which the first made token is the administrator's.
async fn audit(admin: &crate::support::Admin) -> Vec<Value> {
    let mut entries = admin.all("/audit?limit=200").await;
    entries.sort_by_key(|entry| (entry["action"] != "token.created", entry["id"].to_string()));
    entries
}
