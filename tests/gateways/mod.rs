//! Gateways without the filter that ask the service's `/edge/v1/authz`, with the configurations in `gateways/`: the same answers
//! to the client, and the same request at the upstream, as with the filter.

mod envoy;
mod nginx;
mod paths;

use reqwest::RequestBuilder;
use serde_json::json;

use crate::support::client::Caller;
use crate::support::service::Made;
use crate::support::{Admin, Answer, Service, Upstream, made_up};

const BEARER: &str = r#"Bearer realm="api""#;
const BASIC: &str = r#"Basic realm="api", charset="UTF-8""#;
const BEARER_INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;
const INVALID: &str = "Provided API key is invalid";
const UNAVAILABLE: &str = "Authorization is temporarily unavailable";

/// What stands around a gateway.
struct Around {
    service: Service,
    upstream: Upstream,
    admin: Admin,
    alice: Made,
}

impl Around {
    async fn start() -> Self {
        let (service, upstream) = (Service::start().await, Upstream::start().await);
        let admin = service.bootstrap();
        let alice = admin.user_with_token("alice").await;
        Self { service, upstream, admin, alice }
    }

    /// A valid token passes by either scheme, with and without a body, and nothing that the client made up does.
    async fn assert_passes(&self, gateway: &Caller) {
        let forged = |request: RequestBuilder| {
            let names = ["x-latchkey-user", "X-Latchkey-Scopes", "x-latchkey-token-id"];
            let settings = ["x-latchkey-edge-secret", "x-latchkey-schemes", "x-forwarded-for"];
            names.into_iter().chain(settings).fold(request, |request, name| request.header(name, "mallory"))
        };
        let body = "x".repeat(100_000);
        for request in [
            gateway.get("/orders?x=1").bearer_auth(&self.alice.token),
            gateway.get("/orders?x=1").basic_auth("alice", Some(&self.alice.token)),
            gateway.post("/orders?x=1").bearer_auth(&self.alice.token).body(body.clone()),
        ] {
            let answer = Answer::to(forged(request)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let seen = self.upstream.last();
            assert_eq!(seen.path, "/orders?x=1");
            assert_eq!(seen.all_spellings("x-latchkey-user"), ["alice"], "{seen:?}");
            assert_eq!(seen.all_spellings("x-latchkey-token-id"), [self.alice.id.as_str()], "{seen:?}");
            assert_eq!(seen.all_spellings("x-latchkey-scopes").concat(), "", "{seen:?}");
            assert_eq!(seen.header("authorization"), None, "{seen:?}");
            assert!(seen.body.is_empty() || seen.body == body.as_bytes());
        }
    }

    /// What the filter refuses is refused in the same words, and does not reach the upstream.
    async fn assert_refusals(&self, gateway: &Caller) {
        let spec = json!({"name": "elsewhere", "allowed_cidrs": ["192.0.2.0/24"]});
        let elsewhere = self.admin.create_token("alice", spec).await.token;
        let revoked = self.admin.create_token("alice", json!({"name": "revoked"})).await;
        self.admin.revoke(&revoked.id).await;
        let (unknown, good) = (made_up::token(), &self.alice.token);
        let before = self.upstream.count();
        let get = || gateway.get("/orders");
        let two = format!("Bearer {good}, Bearer {good}");
        for (request, status, message, challenges) in [
            (get(), 401, "API key is missing", &[BEARER, BASIC][..]),
            (get().bearer_auth(&unknown), 401, INVALID, &[BEARER_INVALID]),
            (get().bearer_auth(&revoked.token), 401, INVALID, &[BEARER_INVALID]),
            (get().basic_auth("bob", Some(good)), 401, INVALID, &[BASIC]),
            (get().header("authorization", "Negotiate x"), 401, INVALID, &[BEARER_INVALID, BASIC]),
            (
                gateway.post("/").bearer_auth(&unknown).body("x".repeat(9_999)),
                401,
                INVALID,
                &[BEARER_INVALID],
            ),
            (
                get().header("authorization", two),
                400,
                "More than one credential was provided",
                &[r#"Bearer realm="api", error="invalid_request""#],
            ),
            (
                get().bearer_auth(&elsewhere).header("x-forwarded-for", "192.0.2.1"),
                403,
                "API key is not permitted from this address",
                &[],
            ),
        ] {
            let answer = Answer::to(request).await;
            answer.assert_refused(status, message);
            assert_eq!(answer.all("www-authenticate"), challenges, "{answer:?}");
            assert!(answer.all("x-latchkey-user").is_empty(), "{answer:?}");
        }
        assert_eq!(self.upstream.count(), before, "a refused request reached the upstream");
    }

    /// A token that is bound to the client's network passes, and an open path needs none but shows no identity.
    async fn assert_addresses_and_open_paths(&self, gateway: &Caller) {
        let spec = json!({"name": "here", "allowed_cidrs": ["127.0.0.1"]});
        let here = self.admin.create_token("alice", spec).await.token;
        assert_eq!(Answer::to(gateway.get("/").bearer_auth(here)).await.status, 200);
        let open = gateway.get("/public/logo").header("x-latchkey-user", "mallory");
        assert_eq!(Answer::to(open).await.status, 200);
        assert!(self.upstream.last().all_spellings("x-latchkey-user").is_empty());
        let before = self.upstream.count();
        for path in ["/public/..;/orders", "/public/%2e%2e/orders", "/public/..%2forders", "/public/%3bx"] {
            let answer = Answer::to(gateway.get(path)).await;
            assert!([400, 401].contains(&answer.status), "{path}: {answer:?}");
        }
        assert_eq!(self.upstream.count(), before);
    }

    /// While the service cannot be asked nobody is told that a token is wrong, and nothing passes.
    async fn assert_unavailable(&self, gateway: &Caller) {
        let before = self.upstream.count();
        for token in [&self.alice.token, &made_up::token()] {
            let answer = Answer::to(gateway.get("/orders").bearer_auth(token)).await;
            answer.assert_refused(503, UNAVAILABLE);
            assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
        }
        assert_eq!(self.upstream.count(), before, "a request passed without a decision");
    }

    /// The gateway's secret is no longer one.
    async fn change_secret(&self) {
        self.service.change_edge_secret("MARKED-another-edge-secret").await;
    }
}
