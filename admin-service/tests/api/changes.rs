//! `GET /edge/v1/changes`: edges are told of changes at once, of all of them, and of nothing else.

use std::time::Duration;

use insta::assert_snapshot;
use latchkey::token::TokenHash;
use latchkey::wire::{CHANGES_PATH, ChangesResponse};
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tokio::task::{JoinHandle, JoinSet};

use crate::postgres;
use crate::support::{Answer, Client, TestService};

/// No test waits for this, and none takes it.
const LONG_MS: u64 = 60_000;
const DEADLINE: Duration = Duration::from_secs(30);

async fn ask(edge: &Client, query: &str) -> Answer {
    Answer::to(edge.request(Method::GET, &format!("{CHANGES_PATH}{query}"))).await
}

/// What an edge is told at a position.
async fn told(edge: &Client, epoch: &str, after: u64, wait_ms: u64) -> ChangesResponse {
    let answer = ask(edge, &format!("?epoch={epoch}&after={after}&wait_ms={wait_ms}")).await;
    serde_json::from_str(&answer.expect(StatusCode::OK).text).unwrap()
}

/// What an edge is told that knows nothing.
async fn join(edge: &Client) -> ChangesResponse {
    serde_json::from_str(&ask(edge, "").await.expect(StatusCode::OK).text).unwrap()
}

/// Waits for what comes after `here`.
fn wait(edge: &Client, here: &ChangesResponse) -> JoinHandle<ChangesResponse> {
    let (edge, epoch, after) = (edge.clone(), here.epoch.clone(), here.revision);
    tokio::spawn(async move { told(&edge, &epoch, after, LONG_MS).await })
}

async fn in_time<T>(waiting: JoinHandle<T>) -> T {
    tokio::time::timeout(DEADLINE, waiting).await.expect("nothing was told").unwrap()
}

/// Waits until so many feeds wait.
async fn until_waiting(service: &TestService, count: usize) {
    let enough = async {
        while service.feed.waiting() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, enough).await.expect("they do not wait");
}

fn hash(token: &str) -> TokenHash {
    TokenHash::of(token.as_bytes())
}

#[tokio::test]
async fn an_edge_is_told_of_every_change_of_a_verdict() {
    for http2 in [false, true] {
        let service = TestService::start().await;
        let edge = if http2 { service.edge().http2() } else { service.edge() };
        let alice = service.user_with("alice", &[]).await;
        let bob = service.user_with("bob", &[]).await;
        let carol = service.user_with("carol", &[]).await;
        let mut here = join(&edge).await;
        assert!((here.reset, here.more, here.token_hashes.len()) == (true, false, 0));

        let mut waiting = wait(&edge, &here);
        until_waiting(&service, 1).await;
        service.admin().delete(&format!("/tokens/{}", alice.id)).await.expect(StatusCode::NO_CONTENT);
        here = expect_told(waiting, &here, &alice.token).await;

        waiting = wait(&edge, &here);
        until_waiting(&service, 1).await;
        service.admin().patch("/users/bob", json!({"active": false})).await.expect(StatusCode::OK);
        here = expect_told(waiting, &here, &bob.token).await;

        waiting = wait(&edge, &here);
        service.admin().patch("/users/bob", json!({"active": true})).await.expect(StatusCode::OK);
        here = expect_told(waiting, &here, &bob.token).await;

        waiting = wait(&edge, &here);
        service.admin().delete("/users/carol").await.expect(StatusCode::NO_CONTENT);
        here = expect_told(waiting, &here, &carol.token).await;
        assert_eq!(here.revision, 4);
    }
}

/// One revision later, and one token.
async fn expect_told(
    waiting: JoinHandle<ChangesResponse>,
    before: &ChangesResponse,
    token: &str,
) -> ChangesResponse {
    let answer = in_time(waiting).await;
    let expected = ChangesResponse {
        epoch: before.epoch.clone(),
        revision: before.revision + 1,
        reset: false,
        more: false,
        token_hashes: vec![hash(token)],
        hash_prefixes: Vec::new(),
        next_offset: None,
    };
    assert_eq!(answer, expected);
    answer
}

#[tokio::test]
async fn who_asks_for_prefixes_is_told_by_them_and_a_wrong_offset_is_refused() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &[]).await;
    let here = join(&service.edge()).await;
    service.admin().delete(&format!("/tokens/{}", token.id)).await.expect(StatusCode::NO_CONTENT);
    let path = format!("{CHANGES_PATH}?epoch={}&after={}&wait_ms={LONG_MS}", here.epoch, here.revision);
    let ask = async |offset: &str| {
        let request = service.edge().request(Method::GET, &path);
        Answer::to(request.header("x-latchkey-prefix-offset", offset)).await
    };
    let answer: ChangesResponse = serde_json::from_str(&ask("0").await.expect(StatusCode::OK).text).unwrap();
    let expected = ChangesResponse {
        reset: false,
        revision: here.revision + 1,
        hash_prefixes: vec![hash(&token.token).prefix()],
        ..here.clone()
    };
    assert_eq!(answer, expected);
    for wrong in ["", "-1", "x", "+1", "0, 0"] {
        let answer = ask(wrong).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn who_is_nowhere_in_the_history_is_reset_at_once() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &[]).await;
    service.admin().delete(&format!("/tokens/{}", token.id)).await.expect(StatusCode::NO_CONTENT);
    let joined = ask(&service.edge(), "").await;
    assert_snapshot!(joined.show(), @r#"
    200 OK
    {
      "epoch": "[id]",
      "more": false,
      "reset": true,
      "revision": 1,
      "token_hashes": []
    }
    "#);
    assert_eq!(joined.header("content-type"), ["application/json"]);
    let epoch = join(&service.edge()).await.epoch;
    for query in [
        format!("?wait_ms={LONG_MS}"),
        format!("?epoch={epoch}"),
        "?after=0".to_owned(),
        "?epoch=elsewhere&after=0".to_owned(),
        "?epoch=&after=1".to_owned(),
        format!("?epoch={epoch}&after=2"),
        format!("?epoch={epoch}&after={}", u64::MAX),
    ] {
        let answer = tokio::time::timeout(DEADLINE, ask(&service.edge(), &query)).await.expect(&query);
        assert_eq!((answer.status, &answer.text), (StatusCode::OK, &joined.text), "{query}");
    }
    // It has nothing to forget.
    assert_eq!(told(&service.edge(), &epoch, 0, 0).await.token_hashes, [hash(&token.token)]);
}

#[tokio::test]
async fn what_does_not_fit_into_a_page_comes_in_the_next_one() {
    let service = TestService::start().await;
    let joined = join(&service.edge()).await;
    let path = service.database_url.to_string();
    let mut beside = SqliteConnection::connect(&path).await.unwrap();
    // Not so old that the job that the service begins with may forget them.
    let at = service.store.sources().now().as_millisecond();
    for (revision, touched) in [(1, 600), (2, 600), (3, 1_500), (4, 1)] {
        let mut change = beside.begin().await.unwrap();
        for statement in [
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {touched}) \
                 INSERT INTO changes (revision, token_hash, at) SELECT {revision}, randomblob(32), {at} FROM n"
            ),
            format!("UPDATE history SET revision = {revision}"),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *change).await.unwrap();
        }
        change.commit().await.unwrap();
    }
    // Now the service has heard of all of them.
    assert_eq!(join(&service.edge()).await.revision, 4);
    let mut pages = Vec::new();
    let mut here = joined;
    loop {
        here = told(&service.edge(), &here.epoch, here.revision, LONG_MS).await;
        pages.push((here.revision, here.token_hashes.len(), here.more));
        if here.revision == 4 {
            break;
        }
    }
    assert_eq!(pages, [(1, 600, true), (2, 600, true), (3, 1_500, true), (4, 1, false)]);
}

#[tokio::test]
async fn an_edge_that_hears_nothing_stays_where_it_is() {
    let service = TestService::start().await;
    let joined = join(&service.edge()).await;
    let expected = ChangesResponse { reset: false, ..joined.clone() };
    for wait_ms in [0, 1, 50] {
        assert_eq!(told(&service.edge(), &joined.epoch, joined.revision, wait_ms).await, expected);
    }
    // What alters no verdict is no change.
    service.user_with("alice", &[]).await;
    service.admin().patch("/users/alice", json!({"displayName": "A."})).await.expect(StatusCode::OK);
    assert_eq!(told(&service.edge(), &joined.epoch, joined.revision, 0).await, expected);
    let metrics = Answer::to(service.monitoring().request(Method::GET, "/metrics")).await.text;
    for line in [
        r#"latchkey_changes_answered_total{outcome="timeout"}"#,
        r#"latchkey_changes_answered_total{outcome="reset"}"#,
        "# HELP latchkey_feeds_waiting ",
        "\nlatchkey_feeds_waiting ",
        "# HELP latchkey_revision ",
        "\nlatchkey_revision ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_feed_waits_for_longer_than_other_requests_may_take() {
    let service = TestService::start().await;
    let joined = join(&service.edge()).await;
    // Longer than a request's time limit, and than what a connection has for its first success.
    let (old, new) = (service.edge(), service.edge().http2());
    let answers = tokio::join!(
        told(&old, &joined.epoch, joined.revision, 10_500),
        told(&new, &joined.epoch, joined.revision, 10_500),
    );
    let expected = ChangesResponse { reset: false, ..joined };
    assert_eq!(answers, (expected.clone(), expected));
}

#[tokio::test]
async fn parameters_that_cannot_be_are_refused() {
    let service = TestService::start().await;
    let long = "x".repeat(60);
    let mut shown = String::new();
    for query in [
        "?wait_ms=60001",
        "?wait_ms=-1",
        "?wait_ms=+1",
        "?wait_ms=1.5",
        "?wait_ms=",
        "?after=x&epoch=e",
        "?after=%2B1&epoch=e",
        "?after=18446744073709551616&epoch=e",
        "?Epoch=e",
        "?wait=1",
        "?epoch=e&epoch=f",
        &format!("?{long}=1"),
    ] {
        let before = service.state().await;
        let answer = ask(&service.edge(), query).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_query"));
        assert!(!answer.text.contains(&long));
        assert_eq!(before, service.state().await);
        shown += &format!("{}\n", answer.json()["error"]["message"].as_str().unwrap());
    }
    assert_snapshot!(shown, @"
    The query parameter `wait_ms` must be a whole number from 0 to 60000
    The query parameter `wait_ms` must be a whole number from 0 to 60000
    The query parameter `wait_ms` must be a whole number from 0 to 60000
    The query parameter `wait_ms` must be a whole number from 0 to 60000
    The query parameter `wait_ms` must be a whole number from 0 to 60000
    The query parameter `after` must be a revision: a whole number
    The query parameter `after` must be a revision: a whole number
    The query parameter `after` must be a revision: a whole number
    Unknown query parameter `Epoch`, expected one of `epoch`, `after`, `wait_ms`
    Unknown query parameter `wait`, expected one of `epoch`, `after`, `wait_ms`
    Duplicate query parameter `epoch`
    Unknown query parameter, expected one of `epoch`, `after`, `wait_ms`
    ");
    let post = Answer::to(service.edge().request(Method::POST, CHANGES_PATH)).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn with_a_secret_nobody_else_is_told_anything() {
    let service = TestService::start_with(Some("correct-edge-secret")).await;
    let with = |value: &'static str, query: &str| {
        let request = service.edge().request(Method::GET, &format!("{CHANGES_PATH}{query}"));
        Answer::to(request.header("authorization", value))
    };
    with("Bearer correct-edge-secret", "").await.expect(StatusCode::OK);
    for query in ["", "?wait_ms=x", "?unknown=1"] {
        for answer in [ask(&service.edge(), query).await, with("Bearer wrong", query).await] {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::UNAUTHORIZED, "edge_secret_invalid")
            );
        }
    }
}

#[tokio::test]
async fn while_the_database_is_away_no_edge_is_told_that_nothing_changes() {
    let service = TestService::start().await;
    let joined = join(&service.edge()).await;
    service.store.close().await;
    let at_a_position = format!("?epoch={}&after={}&wait_ms={LONG_MS}", joined.epoch, joined.revision);
    for query in ["", &at_a_position] {
        let answer = tokio::time::timeout(DEADLINE, ask(&service.edge(), query)).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
        assert_eq!(answer.header("retry-after"), ["1"]);
    }
}

#[tokio::test]
async fn the_end_of_the_service_answers_those_who_wait_at_once() {
    let service = TestService::start().await;
    let joined = join(&service.edge()).await;
    let waiting: Vec<_> = [service.edge(), service.edge().http2()]
        .into_iter()
        .flat_map(|edge| (0..20).map(move |_| edge.clone()))
        .map(|edge| wait(&edge, &joined))
        .collect();
    until_waiting(&service, 40).await;
    tokio::time::timeout(Duration::from_secs(10), service.end()).await.expect("the service does not end");
    let expected = ChangesResponse { reset: false, ..joined };
    for answer in waiting {
        assert_eq!(in_time(answer).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_changes_another_tells() {
    let url = postgres::shared().database().parse().unwrap();
    let one = TestService::start_on(Some(url), None).await;
    let two = one.replica().await;
    let mut here = join(&two.edge()).await;
    for (changing, telling) in [(&one, &two), (&two, &one)] {
        let token = changing.user_with(&format!("user{}", here.revision), &[]).await;
        let waiting = wait(&telling.edge(), &here);
        changing.admin().delete(&format!("/tokens/{}", token.id)).await.expect(StatusCode::NO_CONTENT);
        here = expect_told(waiting, &here, &token.token).await;
        // An edge that comes from the replica that knew first is not taken for lost.
        assert!(!told(&changing.edge(), &here.epoch, here.revision, 0).await.reset);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_feeds_are_told_of_one_revocation_and_keep_nobody_else_waiting() {
    const CONNECTIONS: usize = 4;
    const FEEDS: usize = 2_000;
    let service = TestService::start().await;
    let token = service.user_with("alice", &[]).await;
    let joined = join(&service.edge()).await;
    let mut feeds = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let edge = service.edge().http2();
        // So that there is a connection to share.
        assert_eq!(join(&edge).await, joined);
        for _ in 0..FEEDS / CONNECTIONS {
            let (edge, epoch, after) = (edge.clone(), joined.epoch.clone(), joined.revision);
            feeds.spawn(async move { told(&edge, &epoch, after, LONG_MS).await });
        }
    }
    until_waiting(&service, FEEDS).await;
    let question = json!({"token_hash": hash(&token.token).to_string()});
    let verify = service.edge().request(Method::POST, "/edge/v1/verify").json(&question);
    Answer::to(verify).await.expect(StatusCode::OK);
    service.admin().delete(&format!("/tokens/{}", token.id)).await.expect(StatusCode::NO_CONTENT);
    let expected = ChangesResponse {
        reset: false,
        revision: joined.revision + 1,
        token_hashes: vec![hash(&token.token)],
        ..joined
    };
    let answers = tokio::time::timeout(DEADLINE, feeds.join_all()).await.expect("not all were told");
    assert_eq!(answers.len(), FEEDS);
    assert!(answers.iter().all(|answer| *answer == expected));
}
