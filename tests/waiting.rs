//! Requests that wait for a verdict: they share callouts, each with its own deadline, whoever else goes away; and nothing of
//! them reaches the upstream before the verdict.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::envoy_config::connection_manager;
use crate::support::fake_service::good_verdict;
use crate::support::kind::with_trailers;
use crate::support::{
    Answer, Behaviour, Envoy, EnvoyConfig, FakeService, Upstream, World, made_up, raw, wait,
};

/// One worker, where everyone who asks for a token meets, and time enough for a busy machine.
fn patient(config: EnvoyConfig) -> EnvoyConfig {
    config.uncached().concurrency(1).plugin_service("timeout_ms", json!(30_000))
}

#[tokio::test]
async fn contained_streams_that_ask_for_the_same_token_share_one_callout_however_many_they_are() {
    let world = World::with(patient).await;
    let [alice, bob] = [world.admin.user_with_token("alice").await, world.admin.user_with_token("bob").await];
    world.service.pause();
    let mut clients = JoinSet::new();
    let (http1, http2) = (world.envoy.http1(), world.envoy.http2());
    for number in 0..100 {
        let gateway = if number % 2 == 0 { &http1 } else { &http2 };
        clients.spawn(Answer::to(gateway.get("/shared").bearer_auth(&alice.token)));
    }
    clients.spawn(Answer::to(http1.get("/other").bearer_auth(&bob.token)));
    world.envoy.until_in_flight(101).await;
    assert_eq!(world.envoy.metric("callouts_under_way").await, 2);
    assert_eq!(world.upstream.count(), 0, "a request reached the upstream before its verdict");

    world.service.resume();
    for answer in clients.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(world.upstream.count(), 101);
    assert_eq!(world.envoy.metric("callouts.ok").await, 2);
    assert_eq!(world.envoy.metric("callouts_under_way").await, 0);
    assert_eq!(world.envoy.deaths().await, 0, "the filter has died");
}

const TIMEOUT: Duration = Duration::from_millis(2000);
/// When an answer comes at the end of one's own time. Envoy counts from when its event loop last read the clock, so a timer may end
/// a little early; on a busy machine an answer is late, by less than another's time on top of one's own.
const IN_TIME: Range<Duration> =
    TIMEOUT.saturating_sub(Duration::from_millis(100))..TIMEOUT.saturating_add(Duration::from_millis(1900));

/// Sends a request, and tells its answer's status and how long that took.
async fn timed(request: RequestBuilder) -> (u16, Duration) {
    let begun = wait::now();
    (Answer::to(request).await.status, begun.elapsed())
}

#[tokio::test]
async fn each_stream_waits_for_its_own_time_and_not_for_another_s() {
    let (hopeful, hopeless) = (made_up::token(), made_up::token());
    let asked: Mutex<HashMap<String, u32>> = Mutex::default();
    let recovering = latchkey::token::TokenHash::of(hopeful.as_bytes()).to_string();
    // Silent on the first question about each token, and on every question about one of them.
    let service = FakeService::start(move |question| {
        let hash = question["token_hash"].as_str().unwrap_or_default().to_owned();
        let mut asked = asked.lock().expect("the counts");
        let count = asked.entry(hash.clone()).or_default();
        *count += 1;
        if *count > 1 && hash == recovering {
            Behaviour::Json(good_verdict(question))
        } else {
            Behaviour::RawThenHang(Vec::new())
        }
    })
    .await;
    let upstream = Upstream::start().await;
    let config =
        EnvoyConfig::new(service.address(), upstream.address()).fake_service(service.address()).uncached();
    let timeout = json!(u64::try_from(TIMEOUT.as_millis()).expect("a short time"));
    let envoy = Envoy::start(config.concurrency(1).plugin_service("timeout_ms", timeout)).await;

    let request = |token: &str| envoy.http1().get("/").bearer_auth(token);
    let early = [&hopeful, &hopeless].map(|token| tokio::spawn(timed(request(token))));
    envoy.until_in_flight(2).await;
    let joined = wait::now();
    wait::until("half of their time is over", async || (joined.elapsed() > TIMEOUT / 2).then_some(())).await;
    let late = [&hopeful, &hopeless].map(|token| tokio::spawn(timed(request(token))));

    for early in early {
        let (status, took) = early.await.expect("an answer");
        assert_eq!(status, 503);
        assert!(IN_TIME.contains(&took), "an early one was answered after {took:?}");
    }
    let [recovered, failed] = late.map(async |late| late.await.expect("an answer"));
    let (status, took) = recovered.await;
    assert_eq!(status, 200, "asked for again, it got the verdict; after {took:?}");
    assert!(took < IN_TIME.end, "a late one was answered after {took:?}");
    let (status, took) = failed.await;
    assert_eq!(status, 503);
    assert!(IN_TIME.contains(&took), "a late one was answered after {took:?}");
    assert_eq!(service.questions().len(), 4, "each token is asked about twice");
    assert_eq!(upstream.count(), 1);
}

/// A request on a connection of its own, not read yet.
async fn send(envoy: &Envoy, path: &str, token: &str) -> TcpStream {
    let mut stream = raw::connect(envoy.port()).await;
    let request = raw::get_with_authorization(path, format!("Bearer {token}").as_bytes());
    stream.write_all(&request).await.expect("the request is sent");
    stream
}

async fn read(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(wait::PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    answer
}

#[tokio::test]
async fn when_clients_go_away_while_they_wait_the_others_get_their_answers() {
    let world = World::with(patient).await;
    let alice = world.admin.user_with_token("alice").await;
    let envoy = &world.envoy;
    for (round, gone) in [vec![0], vec![1], vec![2], vec![0, 1, 2]].into_iter().enumerate() {
        let before = world.upstream.count();
        world.service.pause();
        let mut clients = Vec::new();
        for client in 0..3_u64 {
            clients.push(Some(send(envoy, &format!("/{round}/{client}"), &alice.token).await));
            envoy.until_in_flight(client + 1).await;
        }
        for client in &gone {
            drop(clients[*client].take());
        }
        let left: Vec<TcpStream> = clients.into_iter().flatten().collect();
        envoy.until_in_flight(left.len() as u64).await;
        assert_eq!(world.upstream.count(), before);

        world.service.resume();
        let expected = before + left.len();
        for client in left {
            assert_eq!(raw::status(&read(client).await), Some(200), "round {round}");
        }
        wait::until("the callout has ended", async || {
            (envoy.metric("callouts.ok").await == round as u64 + 1).then_some(())
        })
        .await;
        assert_eq!(world.upstream.count(), expected, "round {round}: {gone:?} went away");
    }
    assert_eq!(raw::status(&read(send(envoy, "/after", &alice.token).await).await), Some(200));
    assert_eq!(envoy.deaths().await, 0, "the filter has died");
}

/// Five million bytes that differ.
fn large_body() -> Bytes {
    (0..5_000_000_u32).map(|number| b'a' + u8::try_from(number % 26).expect("a letter")).collect()
}

/// HTTP/2 to the upstream and trailers from HTTP/1.1 clients, so that trailers can pass.
fn with_trailers_enabled(bootstrap: &mut Value) {
    connection_manager(bootstrap)["http_protocol_options"] = json!({"enable_trailers": true});
    bootstrap["static_resources"]["clusters"][1]["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
}

#[tokio::test]
async fn closed_a_body_that_arrives_while_its_request_waits_goes_on_after_the_verdict_alone_and_whole() {
    let world = World::with(|config| patient(config).change(with_trailers_enabled)).await;
    let alice = world.admin.user_with_token("alice").await;
    let body = large_body();
    let post = |caller: crate::support::client::Caller| {
        caller.request(Method::POST, "/upload").bearer_auth(&alice.token)
    };
    let chunked =
        |request: RequestBuilder| request.header("transfer-encoding", "chunked").header("trailer", "x-last");
    for (what, request, trailers) in [
        ("HTTP/1.1", post(world.envoy.http1()).body(body.clone()), 0),
        ("HTTP/1.1 with trailers", chunked(post(world.envoy.http1())).body(with_trailers(body.clone())), 1),
        ("HTTP/2", post(world.envoy.http2()).body(body.clone()), 0),
        ("HTTP/2 with trailers", post(world.envoy.http2()).body(with_trailers(body.clone())), 1),
    ] {
        let received = world.envoy.stat("http.gateway.downstream_cx_rx_bytes_total").await;
        let asked = world.envoy.stat("cluster.upstream.upstream_rq_total").await;
        world.service.pause();
        let answer = tokio::spawn(Answer::to(request));
        wait::until("the first part of the body has arrived", async || {
            let now = world.envoy.stat("http.gateway.downstream_cx_rx_bytes_total").await;
            (now >= received + 50_000).then_some(())
        })
        .await;
        world.envoy.until_in_flight(1).await;
        assert_eq!(world.envoy.stat("cluster.upstream.upstream_rq_total").await, asked, "{what}: too early");

        world.service.resume();
        assert_eq!(answer.await.expect("an answer").status, 200, "{what}");
        let seen = world.upstream.last();
        assert!(seen.body == body, "{what}: {} of {} bytes arrived, or others", seen.body.len(), body.len());
        assert_eq!(seen.trailers.len(), trailers, "{what}: {:?}", seen.trailers);
        assert_eq!(seen.header("x-latchkey-user").as_deref(), Some("alice"), "{what}");
    }
}

#[tokio::test]
async fn closed_pipelined_requests_are_each_decided_and_answered_in_their_order() {
    let world = World::with(patient).await;
    let alice = world.admin.user_with_token("alice").await;
    world.service.pause();
    let with = format!("host: gateway\r\nauthorization: Bearer {}\r\n\r\n", alice.token);
    let without = "host: gateway\r\nconnection: close\r\n\r\n";
    let requests = format!("GET /1 HTTP/1.1\r\n{with}GET /2 HTTP/1.1\r\n{with}GET /3 HTTP/1.1\r\n{without}");
    let mut stream = raw::connect(world.envoy.port()).await;
    stream.write_all(requests.as_bytes()).await.expect("the requests are sent");
    world.envoy.until_in_flight(1).await;
    assert_eq!(world.upstream.count(), 0, "a request reached the upstream before its verdict");

    world.service.resume();
    let answers = String::from_utf8_lossy(&read(stream).await).into_owned();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "401"], "{answers}");
    let paths: Vec<String> = world.upstream.received().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/1", "/2"]);
}
