//! Tokens that are bound to networks, against the address that Envoy takes for the client's.

use serde_json::json;

use super::bearer;
use crate::support::{Answer, World};

/// Networks of a token, X-Forwarded-For (behind one trusted proxy), and whether the token passes.
const ROWS: &[(&str, &str, bool)] = &[
    // No proxy said anything: the connection's address, 127.0.0.1.
    ("127.0.0.0/8", "", true),
    ("127.0.0.1", "", true),
    ("::ffff:127.0.0.0/104", "", true),
    ("10.0.0.0/8", "", false),
    ("::1", "", false),
    // IPv4.
    ("192.0.2.0/24", "192.0.2.7", true),
    ("192.0.2.0/24", "192.0.3.7", false),
    ("192.0.2.7", "192.0.2.7", true),
    ("192.0.2.7", "192.0.2.8", false),
    ("0.0.0.0/0", "198.51.100.1", true),
    // IPv6.
    ("2001:db8::/32", "2001:db8::7", true),
    ("2001:db8::/32", "2001:DB8:0:0::7", true),
    ("2001:db8::/32", "2001:db9::7", false),
    ("2001:db8::7", "2001:db8::7", true),
    // One family does not stand for the other.
    ("192.0.2.0/24", "2001:db8::7", false),
    ("2001:db8::/32", "192.0.2.7", false),
    ("0.0.0.0/0", "2001:db8::7", false),
    // IPv4 in IPv6 is IPv4, on both sides.
    ("192.0.2.0/24", "::ffff:192.0.2.7", true),
    ("192.0.2.0/24", "::ffff:c000:207", true),
    ("192.0.2.0/24", "::ffff:192.0.3.7", false),
    ("::ffff:192.0.2.0/120", "192.0.2.7", true),
    ("::ffff:192.0.2.0/120", "::ffff:192.0.2.7", true),
    ("::ffff:192.0.2.0/120", "192.0.3.7", false),
    // Several networks; one is enough.
    ("10.0.0.0/8 192.0.2.0/24 2001:db8::/32", "2001:db8::1", true),
    ("10.0.0.0/8 192.0.2.0/24 2001:db8::/32", "203.0.113.1", false),
    // The last address is the one that the trusted proxy saw; what comes before it, the client may have made up.
    ("192.0.2.0/24", "192.0.2.7, 203.0.113.9", false),
    ("192.0.2.0/24", "203.0.113.9, 192.0.2.7", true),
    // No address at all: the connection's.
    ("192.0.2.0/24", "unknown", false),
];

#[tokio::test]
async fn a_token_bound_to_networks_passes_only_from_their_addresses() {
    let world = World::with(|config| config.http(json!({"xff_num_trusted_hops": 1}))).await;
    world.admin.create_user("alice").await;
    world.admin.lift_limits().await;
    let gateway = world.envoy.http1();
    let mut refused = 0;
    for (networks, forwarded, passes) in ROWS {
        let networks: Vec<_> = networks.split(' ').collect();
        let what = format!("{networks:?} from {forwarded:?}");
        let spec = json!({"name": what.get(..100).unwrap_or(&what), "allowed_cidrs": networks});
        let made = world.admin.create_token("alice", spec).await;
        let mut request = gateway.get("/").header("authorization", bearer(&made.token));
        if !forwarded.is_empty() {
            request = request.header("x-forwarded-for", *forwarded);
        }
        let before = world.upstream.count();
        let answer = Answer::to(request).await;
        if *passes {
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
        } else {
            assert_eq!(answer.status, 403, "{what}: {answer:?}");
            answer.assert_refused(403, "API key is not permitted from this address");
            refused += 1;
        }
        assert_eq!(world.upstream.count() - before, usize::from(*passes), "{what}");
    }
    assert_eq!(world.envoy.metric("refused.address").await, refused);
}

#[tokio::test]
async fn unspoofable_the_address_that_a_client_names_itself_is_not_believed() {
    let world = World::start().await;
    world.admin.create_user("alice").await;
    let spec = json!({"name": "t", "allowed_cidrs": ["192.0.2.0/24"]});
    let made = world.admin.create_token("alice", spec).await;
    for header in ["x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address", "client-ip"] {
        for (version, gateway) in world.envoy.both() {
            let request = gateway.get("/").bearer_auth(&made.token).header(header, "192.0.2.7");
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 403, "{header}, {version}: {answer:?}");
        }
    }
    assert_eq!(world.upstream.count(), 0, "a refused request reached the upstream");
}
