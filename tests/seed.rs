//! The seed of this product, as its users wrote it: who am I, and what the administrator's limits do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::reference::Reference;
use crate::support::{Admin, Answer, Envoy, Service, wait};

const MYSELF: &str = "/rest/api/2/myself";
const INVALID: &str = "Provided API key is invalid";

/// The service, with an administrator, behind no gateway.
async fn service() -> (Service, Admin) {
    let service = Service::start().await;
    let admin = service.bootstrap();
    (service, admin)
}

async fn behind_the_reference() -> (Service, Admin, Envoy) {
    let (service, admin) = service().await;
    let envoy = Envoy::start_reference(&Reference::on_loopback(&service)).await;
    (service, admin, envoy)
}

#[tokio::test]
async fn myself_answers_the_user_of_a_basic_and_of_a_bearer_token_and_401_for_a_wrong_one() {
    let (service, admin, envoy) = behind_the_reference().await;
    let profile = json!({
        "name": "alice", "displayName": "Alice Example", "emailAddress": "alice@example.com", "timeZone": "Europe/Berlin",
    });
    admin.expect(201, Method::POST, "/users", Some(profile)).await;
    let alice = admin.create_token("alice", json!({"name": "ci"})).await;
    let other = admin.user_with_token("bob").await;

    for (version, gateway) in envoy.both() {
        let bearer = gateway.get(MYSELF).bearer_auth(&alice.token);
        let basic = gateway.get(MYSELF).basic_auth("alice", Some(&alice.token));
        for (scheme, request) in [("Bearer", bearer), ("Basic", basic)] {
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 200, "{version}, {scheme}: {answer:?}");
            let mut user = answer.json();
            let key = user["key"].take();
            assert!(key.as_str().is_some_and(|key| key.len() == 36), "{key}");
            let expected = json!({
                "self": format!("http://{}/api/v1/users/alice", service.management_address()),
                "key": null, "name": "alice", "displayName": "Alice Example", "emailAddress": "alice@example.com",
                "active": true, "deleted": false, "timeZone": "Europe/Berlin",
            });
            assert_eq!(user, expected, "{version}, {scheme}");
        }
        let unknown = "lk_00000000000000000000000000000000000000000000000000";
        for wrong in [
            gateway.get(MYSELF).bearer_auth(unknown),
            gateway.get(MYSELF).bearer_auth(&alice.token[..alice.token.len() - 1]),
            gateway.get(MYSELF).basic_auth("alice", Some(&other.token)),
            gateway.get(MYSELF).basic_auth("alice", Some("password")),
        ] {
            Answer::to(wrong).await.assert_refused(401, INVALID);
        }
    }
}

#[tokio::test]
async fn a_token_has_a_name_and_an_expiry_is_refused_when_it_is_revoked_or_expires_and_expired_ones_go_together()
 {
    let (_service, admin, envoy) = behind_the_reference().await;
    for user in ["alice", "bob"] {
        admin.create_user(user).await;
    }
    let month = admin.create_token("alice", json!({"name": "month", "expires_in": "30d"})).await;
    assert_eq!(month.answer["name"], "month");
    let shown = admin.expect(200, Method::GET, &format!("/tokens/{}", month.id), None).await;
    assert_eq!(shown["expires_at"], month.answer["expires_at"]);
    let left = shown["expires_in_seconds"].as_i64().expect("seconds");
    assert!((30 * 86_400 - 60..=30 * 86_400).contains(&left), "{left}");

    let revoked = admin.create_token("alice", json!({"name": "revoked", "expires_in": "1s"})).await;
    let brief = json!({"name": "brief", "expires_in": "1s"});
    let expiring = [
        admin.create_token("alice", brief.clone()).await,
        admin.create_token("alice", brief.clone()).await,
        admin.create_token("bob", brief).await,
    ];
    let gateway = envoy.http1();
    let status = async |token: &str| Answer::to(gateway.get(MYSELF).bearer_auth(token)).await.status;
    assert_eq!((status(&month.token).await, status(&revoked.token).await), (200, 200));
    admin.revoke(&revoked.id).await;
    envoy.until_refused(&revoked.token).await.assert_refused(401, INVALID);

    for token in &expiring {
        let path = format!("/tokens/{}", token.id);
        wait::until("the token has expired", async || {
            let shown = admin.expect(200, Method::GET, &path, None).await;
            (shown["status"] == "expired").then_some(())
        })
        .await;
        Answer::to(gateway.get(MYSELF).bearer_auth(&token.token)).await.assert_refused(401, INVALID);
    }

    let all = async || (names(&admin, "alice").await, names(&admin, "bob").await);
    let before = all().await;
    let path = "/users/alice/tokens";
    for without in [path.to_owned(), format!("{path}?status=active")] {
        let refused = admin.expect(400, Method::DELETE, &without, None).await;
        assert_eq!(refused["error"]["code"], "invalid_query");
        assert_eq!(all().await, before, "a refused call deleted something");
    }
    let expired = format!("{path}?status=expired");
    assert_eq!(admin.expect(200, Method::DELETE, &expired, None).await, json!({"deleted": 2}));
    assert_eq!(names(&admin, "alice").await, ["month", "revoked"]);
    assert_eq!(names(&admin, "bob").await, ["brief"], "another user's expired token is gone");
    assert_eq!(admin.expect(200, Method::DELETE, &expired, None).await, json!({"deleted": 0}));
    assert_eq!(status(&month.token).await, 200);
}

async fn names(admin: &Admin, user: &str) -> Vec<String> {
    let name = |token: &Value| token["name"].as_str().expect("a name").to_owned();
    admin.tokens_of(user).await.iter().map(name).collect()
}

#[tokio::test]
async fn exact_no_token_lives_longer_than_the_longest_expiry() {
    let (_service, admin) = service().await;
    admin.create_user("alice").await;
    admin.restrict(json!({"max_lifetime": "90d"})).await;
    let tokens = "/users/alice/tokens";
    let asked = Some(json!({"name": "long", "expires_in": "7776001s"}));
    let refused = admin.expect(422, Method::POST, tokens, asked).await;
    assert_eq!(refused["error"]["code"], "expiry_too_long");
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("90d")), "{refused}");
    assert!(admin.tokens_of("alice").await.is_empty(), "a refused token was made");

    for spec in [json!({"name": "longest", "expires_in": "90d"}), json!({"name": "unsaid"})] {
        let made = admin.create_token("alice", spec).await;
        let left = made.answer["expires_in_seconds"].as_i64().expect("seconds");
        assert!((90 * 86_400 - 60..=90 * 86_400).contains(&left), "{left}");
    }
    admin.restrict(json!({"max_lifetime": null})).await;
    let made = admin.create_token("alice", json!({"name": "for ever"})).await;
    assert_eq!(
        (&made.answer["expires_at"], &made.answer["expires_in_seconds"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn exact_a_user_has_no_more_live_tokens_than_the_limit_and_dead_ones_do_not_count() {
    let (_service, admin) = service().await;
    admin.create_user("alice").await;
    admin.restrict(json!({"max_tokens_per_user": 3})).await;
    let make = async |spec: Value| admin.call(Method::POST, "/users/alice/tokens", Some(spec)).await;
    let first = admin.create_token("alice", json!({"name": "first"})).await;
    let brief = admin.create_token("alice", json!({"name": "brief", "expires_in": "1s"})).await;
    let path = format!("/tokens/{}", brief.id);
    wait::until("the token has expired", async || {
        (admin.expect(200, Method::GET, &path, None).await["status"] == "expired").then_some(())
    })
    .await;
    for name in ["second", "third"] {
        admin.create_token("alice", json!({"name": name})).await;
    }

    let refused = make(json!({"name": "fourth"})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let error = &refused.json()["error"];
    let facts = (&error["code"], &error["limit"], &error["count"]);
    assert_eq!(facts, (&json!("token_limit_reached"), &json!(3), &json!(3)));
    assert_eq!(names(&admin, "alice").await.len(), 4, "a refused token was made");

    admin.revoke(&first.id).await;
    assert_eq!(make(json!({"name": "fourth"})).await.status, 201);
    assert_eq!(make(json!({"name": "fifth"})).await.status, 409);
}

#[tokio::test]
async fn exact_expired_tokens_are_deleted_when_they_have_been_expired_for_so_long_and_no_others() {
    let (service, admin) = service().await;
    admin.create_user("alice").await;
    let after = 2000;
    admin.restrict(json!({"delete_expired": {"enabled": true, "after": "2s", "every": "1s"}})).await;
    let brief = admin.create_token("alice", json!({"name": "brief", "expires_in": "1s"})).await;
    admin.create_token("alice", json!({"name": "live", "expires_in": "1h"})).await;
    let revoked = admin.create_token("alice", json!({"name": "revoked", "expires_in": "1h"})).await;
    admin.revoke(&revoked.id).await;
    let mut database = Database::open(service.database_url()).await;
    let expiry = format!("SELECT expires_at FROM tokens WHERE id = '{}'", brief.id);
    let expires_at = database.number(&expiry).await;

    let path = format!("/tokens/{}", brief.id);
    wait::until("the scheduler has deleted the token", async || {
        (admin.call(Method::GET, &path, None).await.status == 404).then_some(())
    })
    .await;
    let deleted = admin.all("/audit?action=tokens.deleted").await;
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert_eq!(
        (&deleted[0]["actor"], &deleted[0]["subject"]),
        (&json!("system:scheduler"), &json!("scheduler"))
    );
    assert_eq!(deleted[0]["details"]["token_ids"], json!([brief.id]));
    let at = database.number("SELECT at FROM audit WHERE action = 'tokens.deleted'").await;
    assert!(at >= expires_at + after, "deleted {} ms after its expiry", at - expires_at);
    assert_eq!(names(&admin, "alice").await, ["live", "revoked"]);
    let state = wait::until("the scheduler has noted its run", async || {
        let state = admin.expect(200, Method::GET, "/scheduler", None).await;
        state["last_run_at"].is_string().then_some(state)
    })
    .await;
    assert_eq!(state["last_error"], Value::Null);
}
