//! The table of paths through each gateway without the filter, before real servers: nobody gets past what is open, and no token
//! past the scopes that it has, whatever the server made of the path, the method and the headers.

use super::Around;
use crate::readings::attempt::{Client, Ran, Request, Version};
use crate::readings::table;
use crate::support::nginx::Nginx;
use crate::support::servers::{Server, Software};

use Software::{Flask, FlaskOverrides, Jetty, Node, Tomcat};

const ALL: [Software; 5] = [Flask, FlaskOverrides, Node, Tomcat, Jetty];
/// What servers read as a header that is the gateway's to set: identities, and what it says to the service.
const ALIKE: [&str; 12] = [
    "x-latchkey-user",
    "X_Latchkey_User",
    "x.latchkey.user",
    "x~latchkey~scopes",
    "x-latchkey_token-id",
    "x-latchkey-scopes",
    "x-latchkey-edge-secret",
    "x.latchkey.edge.secret",
    "x-latchkey-require-scopes",
    "x-latchkey-schemes",
    "x-latchkey-realm",
    "x-latchkey-content-type",
];

/// The table, with other methods, and with headers that some server takes for another method or path.
fn requests() -> Vec<Request> {
    let mut requests = table::requests();
    for method in ["HEAD", "POST", "post", "DELETE", "BREW"] {
        requests
            .extend(["/public/x", "/rest/admin/x", "/rest/ADMIN"].map(|target| Request::new(method, target)));
    }
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X.HTTP.Method.Override"] {
        requests.push(Request::get("/public/x").header(name, "DELETE"));
    }
    for name in ["X-Original-URL", "X-Rewrite-URL", "x.rewrite.url", "X_Original_URL"] {
        for target in ["/public/x", "/rest/pub/x"] {
            requests.push(Request::get(target).header(name, "/rest/admin/x"));
            requests.push(Request::get(target).header(name, "/other"));
        }
    }
    requests
}

/// Whether a server read what is open.
fn is_open(ran: &Ran) -> bool {
    ran.handler == "public" && ["GET", "HEAD"].contains(&ran.method.as_str())
}

/// Sends all of it, without a token and with one that has no scope; each request by one of the versions, another one before the
/// next server.
async fn assert_holds(around: &Around, port: u16, versions: &[Version], software: Software) {
    let admin =
        around.admin.create_token("alice", serde_json::json!({"name": "admin", "scopes": ["admin"]})).await;
    let (mut holes, mut ran) = (Vec::new(), 0);
    let place = ALL.iter().position(|it| *it == software).unwrap_or_default();
    for (turn, version) in versions.iter().enumerate() {
        let mut client = Client::new(*version, port);
        for (_, request) in
            requests().iter().enumerate().filter(|(number, _)| (number + place) % versions.len() == turn)
        {
            for token in [None, Some(around.alice.token.as_str())] {
                let Some(did) = client.send(request, token).await.ran else { continue };
                ran += 1;
                if !is_open(&did) && (token.is_none() || did.handler == "admin") {
                    holes
                        .push(format!("{version:?}, {software:?}, {token:?}: {request:?} -> {}", did.answer));
                }
            }
        }
    }
    assert!(holes.is_empty(), "{} requests did what they must not:\n{}", holes.len(), holes.join("\n"));
    assert!(ran > 0, "no request reached a server, which shows nothing");
    for version in versions {
        assert_control(&mut Client::new(*version, port), &around.alice.token, &admin.token).await;
    }
}

/// What is meant to pass does.
async fn assert_control(client: &mut Client, plain: &str, admin: &str) {
    let rows = [
        ("/public/x", [200, 200, 200]),
        ("/public/a%20b/%C3%A9.png?next=/../x;y", [200, 200, 200]),
        ("/rest/pub/x", [401, 200, 200]),
        ("/rest/pub/a%20b", [401, 200, 200]),
        ("/rest/admin/x", [401, 403, 200]),
        ("/rest/admin", [401, 403, 200]),
    ];
    for (target, statuses) in rows {
        for (token, status) in [None, Some(plain), Some(admin)].into_iter().zip(statuses) {
            let outcome = client.send(&Request::get(target), token).await;
            assert_eq!(outcome.status, Some(status), "{target}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn nginx_lets_nobody_past_what_a_server_reads() {
    for server in Server::start_all(&ALL).await {
        let around = Around::start().await;
        let nginx = Nginx::start(&around.service, server.address).await;
        assert_holds(&around, nginx.port(), &[Version::Http1], server.software).await;
    }
}

#[tokio::test]
async fn envoy_without_the_filter_lets_nobody_past_what_a_server_reads() {
    for server in Server::start_all(&ALL).await {
        let around = Around::start().await;
        let envoy = super::envoy::start_before(&around, server.address).await;
        assert_holds(&around, envoy.port(), &[Version::Http1, Version::Http2], server.software).await;
    }
}

/// Nothing of a client's in these names is at the upstream, on what is open and on what is not.
async fn assert_unspoofable(around: &Around, port: u16, versions: &[Version]) {
    for version in versions {
        let mut client = Client::new(*version, port);
        for (target, token) in [("/public/x", None), ("/orders", Some(around.alice.token.as_str()))] {
            for name in ALIKE {
                let before = around.upstream.count();
                let outcome = client.send(&Request::get(target).header(name, "mallory"), token).await;
                let seen = around.upstream.received().split_off(before);
                let forged = |value: &[u8]| value == b"mallory";
                assert!(
                    !seen
                        .iter()
                        .any(|request| request.headers.values().any(|value| forged(value.as_bytes()))),
                    "{version:?}, {target}: {name} reached the upstream: {seen:?}"
                );
                // It is taken away, or the request with it is refused.
                assert!(
                    matches!(outcome.status, Some(200 | 400) | None),
                    "{version:?}, {target}, {name}: {outcome:?}"
                );
                if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                    assert_eq!((outcome.status, seen.len()), (Some(200), 1), "{version:?}, {target}, {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_header_that_is_the_gateways_to_set_passes_nginx() {
    let around = Around::start().await;
    let nginx = Nginx::start(&around.service, around.upstream.address()).await;
    assert_unspoofable(&around, nginx.port(), &[Version::Http1]).await;
}

#[tokio::test]
async fn no_header_that_is_the_gateways_to_set_passes_envoy_without_the_filter() {
    let around = Around::start().await;
    let envoy = super::envoy::start_before(&around, around.upstream.address()).await;
    assert_unspoofable(&around, envoy.port(), &[Version::Http1, Version::Http2]).await;
}
