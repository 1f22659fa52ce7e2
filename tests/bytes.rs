//! Contained: no byte, anywhere in a request, harms the worker. Each VM is the same afterwards, and serves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::service::Made;
use crate::support::{Answer, Filter, World, raw};

/// One worker, so that what a request breaks is what the next one meets.
struct Scene {
    world: World,
    alice: Made,
    vms: u64,
}

impl Scene {
    async fn start() -> Self {
        let limits = json!({"max_headers_count": 200});
        let http = json!({"common_http_protocol_options": limits});
        let world = World::with(|config| config.concurrency(1).http(http)).await;
        let alice = world.admin.user_with_token("alice").await;
        let vms = world.envoy.stat("wasm.envoy.wasm.runtime.v8.created").await;
        assert_eq!(vms > 0, Filter::chosen() == Filter::Wasm, "the number of VMs is known");
        Self { world, alice, vms }
    }

    /// The answer's status; `None` if the connection was closed without one.
    async fn status(&self, request: &[u8]) -> Option<u16> {
        let answer = raw::answer(self.world.envoy.port(), request).await;
        assert!(answer.is_empty() || raw::status(&answer).is_some(), "{}", answer.escape_ascii());
        raw::status(&answer)
    }

    /// A request with this line among its headers, and whatever else stands in it.
    async fn with_line(&self, line: &[u8]) -> Option<u16> {
        let head = b"GET / HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n".as_slice();
        self.status(&[head, line, b"\r\n\r\n"].concat()).await
    }

    /// The same VMs as at the start, none of them reloaded, and the worker serves.
    async fn assert_unharmed(&self) {
        let answer = Answer::to(self.world.envoy.http1().get("/").bearer_auth(&self.alice.token)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(self.world.envoy.deaths().await, 0);
        let stats = self.world.envoy.admin("/stats?filter=vm_reload|wasm.*(created|crash|fail)").await;
        let created = format!("wasm.envoy.wasm.runtime.v8.created: {}", self.vms);
        assert!(self.vms == 0 || stats.contains(&created), "a VM was made anew: {stats}");
        let reloads = stats.lines().filter(|line| line.contains("vm_reload"));
        assert!(reloads.clone().all(|line| line.ends_with(": 0")), "a VM was reloaded: {stats}");
        let log = self.world.envoy.log();
        assert!(!log.contains("Wasm VM failed") && !log.contains("panicked"), "{log}");
    }
}

/// What stands at `place` of `text` with `byte` put in: 0 is before it, 1 in its middle, 2 behind it.
fn insert(text: &str, place: usize, byte: u8) -> Vec<u8> {
    let (before, after) = text.split_at(text.len() * place / 2);
    [before.as_bytes(), &[byte], after.as_bytes()].concat()
}

#[tokio::test]
async fn contained_every_byte_at_every_place_of_a_credential_is_refused_and_harms_nothing() {
    let scene = Scene::start().await;
    let pair = STANDARD.encode(format!("alice:{}", scene.alice.token));
    let credentials = [format!("Bearer {}", scene.alice.token), format!("Basic {pair}")];
    let mut counts = [0; 3];
    for credential in &credentials {
        for place in 0..3 {
            for byte in 0..=u8::MAX {
                let value = insert(credential, place, byte);
                let status = scene.with_line(&[b"authorization: ", value.as_slice()].concat()).await;
                let what = format!("{}, byte {byte:#x} at place {place}", value.escape_ascii());
                let expected = match (byte, place) {
                    // Blanks around a value are no part of it.
                    (b' ' | b'\t', 0 | 2) => Some(200),
                    (b',', _) => Some(400),
                    // Envoy's codec drops a carriage return, ends a line at a line feed, and refuses what HTTP does not
                    // allow in a value: none of these bytes comes to the filter.
                    (b'\r', _) | (b'\n', 2) => Some(200),
                    (0..b' ' | 0x7f, _) if byte != b'\t' => Some(400),
                    _ => Some(401),
                };
                assert_eq!(status, expected, "{what}");
                counts[match status {
                    Some(200) => 0,
                    Some(401) => 1,
                    _ => 2,
                }] += 1;
            }
        }
    }
    assert_eq!(counts, [16, 1330, 190], "passed, refused as invalid, refused as bad requests");
    assert_eq!(scene.world.upstream.count(), counts[0], "what was refused reached the upstream");
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn contained_every_byte_inside_a_basic_pair_but_one_line_end_is_refused_and_harms_nothing() {
    let scene = Scene::start().await;
    let pair = format!("alice:{}", scene.alice.token);
    for place in 0..3 {
        for byte in 0..=u8::MAX {
            let value = format!("authorization: Basic {}", STANDARD.encode(insert(&pair, place, byte)));
            // One line end after the token is what `echo` leaves there.
            let expected = if place == 2 && byte == b'\n' { 200 } else { 401 };
            assert_eq!(scene.with_line(value.as_bytes()).await, Some(expected), "{byte:#x} at place {place}");
        }
    }
    assert_eq!(scene.world.upstream.count(), 1, "what was refused reached the upstream");
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn contained_every_byte_in_other_headers_the_path_and_the_host_harms_nothing() {
    let scene = Scene::start().await;
    let credential = format!("authorization: Bearer {}\r\n", scene.alice.token);
    // Where the byte stands; the rest is a good request.
    let places: [(&str, &str, &str); 9] = [
        ("a value", "GET / HTTP/1.1\r\nx-other: a", "b\r\n"),
        ("a name", "GET / HTTP/1.1\r\nx-oth", "er: a\r\n"),
        ("an identity header's value", "GET / HTTP/1.1\r\nx-latchkey-user: a", "b\r\n"),
        ("an identity header's name", "GET / HTTP/1.1\r\nx-latchkey", "user: a\r\n"),
        (
            "the content type",
            "POST / HTTP/1.1\r\ncontent-length: 0\r\ncontent-type: application/grpc",
            "+\r\n",
        ),
        ("the path", "GET /a", "b HTTP/1.1\r\n"),
        ("the query", "GET /?a=", "b HTTP/1.1\r\n"),
        ("the method", "GE", "T / HTTP/1.1\r\n"),
        ("X-Forwarded-For", "GET / HTTP/1.1\r\nx-forwarded-for: 192.0.2.1", ", 192.0.2.2\r\n"),
    ];
    let mut passed = 0;
    for (place, before, after) in places {
        let end = format!("{after}host: gateway\r\nconnection: close\r\n{credential}\r\n");
        for byte in 0..=u8::MAX {
            let status = scene.status(&[before.as_bytes(), &[byte], end.as_bytes()].concat()).await;
            let harmless = status.is_none_or(|status| status < 500 || status == 501);
            assert!(harmless, "{byte:#x} in {place}: {status:?}");
            passed += usize::from(status == Some(200));
        }
    }
    assert!(passed > 1000, "most of it is let through by Envoy, and so by the filter: {passed}");
    for byte in 0..=u8::MAX {
        let head =
            [b"GET / HTTP/1.1\r\nconnection: close\r\nhost: gate".as_slice(), &[byte], b"way\r\n"].concat();
        let status = scene.status(&[&head, credential.as_bytes(), b"\r\n"].concat()).await;
        assert!(status.is_none_or(|status| status < 500), "{byte:#x} in the host: {status:?}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn contained_very_long_values_and_many_headers_are_answered_and_harm_nothing() {
    let scene = Scene::start().await;
    let long = |length: usize| "a".repeat(length);
    let pair = |length: usize| STANDARD.encode(format!("alice:{}", long(length)));
    // 60 KiB of headers is Envoy's own limit.
    for (length, status) in [
        (1, 401),
        (256, 401),
        (257, 401),
        (8191, 401),
        (8192, 401),
        (8193, 401),
        (59_000, 401),
        (70_000, 431),
    ] {
        for value in [format!("Bearer {}", long(length)), long(length), format!("Bearer lk_{}", long(length))]
        {
            let answer = scene.with_line(format!("authorization: {value}").as_bytes()).await;
            assert_eq!(answer, Some(status), "{} bytes", value.len());
        }
        if length < 40_000 {
            let answer = scene.with_line(format!("authorization: Basic {}", pair(length)).as_bytes()).await;
            assert_eq!(answer, Some(401), "a pair of {length} bytes");
        }
    }
    let commas = format!("authorization: Bearer {}", ",".repeat(50_000));
    assert_eq!(scene.with_line(commas.as_bytes()).await, Some(400));
    let parameters = format!("authorization: Digest {}", "a=b,".repeat(14_000).trim_end_matches(','));
    assert_eq!(scene.with_line(parameters.as_bytes()).await, Some(401));
    assert_eq!(scene.world.upstream.count(), 0, "what was refused reached the upstream");

    let credential = format!("authorization: Bearer {}", scene.alice.token);
    for (count, status) in [(100, 200), (190, 200), (250, 431)] {
        let others: String = (0..count).map(|number| format!("x-header-{number}: {number}\r\n")).collect();
        assert_eq!(
            scene.with_line(format!("{others}{credential}").as_bytes()).await,
            Some(status),
            "{count}"
        );
    }
    let forged: String = (0..150).map(|_| "x-latchkey-user: mallory\r\n").collect();
    assert_eq!(scene.with_line(format!("{forged}{credential}").as_bytes()).await, Some(200));
    assert_eq!(scene.world.upstream.last().all_spellings("x-latchkey-user"), ["alice"]);
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn contained_a_connection_that_sends_garbage_is_closed_and_harms_nothing() {
    let scene = Scene::start().await;
    for garbage in
        [b"\0\0\0\0".as_slice(), b"\xff\xfe\xfd\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense"]
    {
        let mut stream: TcpStream = raw::connect(scene.world.envoy.port()).await;
        stream.write_all(garbage).await.expect("it is sent");
        stream.shutdown().await.expect("the sending side is closed");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_ne!(raw::status(&answer), Some(200), "{}", garbage.escape_ascii());
    }
    assert_eq!(scene.world.upstream.count(), 0);
    scene.assert_unharmed().await;
}
