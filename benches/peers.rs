//! The peers: how each does the same at Envoy.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::EnvoyConfig;
use crate::support::envoy_config::connection_manager;
use crate::support::test_dir::root;

/// One way to decide on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Every request passes.
    NoFilter,
    Latchkey,
    /// The filter, of another build.
    OtherBuild(&'static Build),
    ApiKeyAuth,
    BasicAuth,
    JwtAuthn,
    Lua,
    ExtAuthzHttp,
    ExtAuthzGrpc,
    /// Envoy refuses by itself, with no filter.
    DirectRefusal,
}

/// Another build of the filter, to be held against the one in `dist/`.
#[derive(Debug, PartialEq, Eq)]
pub struct Build {
    name: String,
    path: PathBuf,
}

impl Build {
    /// The builds that `BENCH_FILTERS` names: `label=path,…`, with paths from the root of the checkout.
    pub fn others() -> &'static [Self] {
        static OTHERS: OnceLock<Vec<Build>> = OnceLock::new();
        OTHERS.get_or_init(|| {
            let list = std::env::var("BENCH_FILTERS").unwrap_or_default();
            list.split(',').filter(|item| !item.is_empty()).map(Self::parse).collect()
        })
    }

    fn parse(item: &str) -> Self {
        let (label, path) = item.split_once('=').expect("BENCH_FILTERS is label=path,…");
        let path = root().join(path);
        assert!(path.is_file(), "BENCH_FILTERS names {}, which is no file", path.display());
        Self { name: format!("latchkey ({label})"), path }
    }
}

const JWT: &str = "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCIsICJraWQiOiAiayJ9.eyJpc3MiOiAiYmVuY2giLCAic3ViIjogImFsaWNlIiwgImV4cCI6IDQxMDI0NDQ4MDB9.5r6djEFIHivf_qOpmFqXKyOZ1ufqKSCfydVKSvtiOt4";
const JWKS: &str = r#"{"keys": [{"kty": "oct", "alg": "HS256", "kid": "k", "k": "YmVuY2htYXJrLWtleS1iZW5jaG1hcmsta2V5LWJlbmM"}]}"#;

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFilter => "no filter",
            Self::Latchkey => "latchkey",
            Self::OtherBuild(build) => &build.name,
            Self::ApiKeyAuth => "api_key_auth",
            Self::BasicAuth => "basic_auth",
            Self::JwtAuthn => "jwt_authn (HS256)",
            Self::Lua => "lua (one comparison)",
            Self::ExtAuthzHttp => "ext_authz (HTTP)",
            Self::ExtAuthzGrpc => "ext_authz (gRPC)",
            Self::DirectRefusal => "no filter, direct 401",
        }
    }

    /// Whether it is the filter, of whichever build.
    pub fn is_latchkey(self) -> bool {
        matches!(self, Self::Latchkey | Self::OtherBuild(_))
    }

    /// The header that its clients send, given a token of Latchkey's.
    pub fn header(self, token: &str) -> String {
        match self {
            Self::ApiKeyAuth => format!("x-api-key: {token}"),
            // alice:benchmark
            Self::BasicAuth => "authorization: Basic YWxpY2U6YmVuY2htYXJr".to_owned(),
            Self::JwtAuthn => format!("authorization: Bearer {JWT}"),
            _ => format!("authorization: Bearer {token}"),
        }
    }

    /// The configuration: the filter in its place before the router, and no access log.
    pub fn configure(self, config: EnvoyConfig, token: &str, authz: [u16; 2]) -> EnvoyConfig {
        let filter = self.filter(token);
        config.concurrency(1).change(move |bootstrap| {
            let manager = connection_manager(bootstrap);
            manager["access_log"] = json!([]);
            let filters = manager["http_filters"].as_array_mut().expect("filters");
            match (self, filter) {
                (Self::Latchkey, _) => {}
                (Self::OtherBuild(build), _) => {
                    let code = &mut filters[0]["typed_config"]["config"]["vm_config"]["code"];
                    code["local"]["filename"] = json!(build.path);
                }
                (_, Some(filter)) => filters[0] = filter,
                (_, None) => drop(filters.remove(0)),
            }
            if self == Self::DirectRefusal {
                let refusal = json!({"status": 401, "body": {"inline_string": "{ \"error\": { \"status\": \"ERROR\", \"message\": \"Provided API key is invalid\" } }"}});
                manager["route_config"]["virtual_hosts"][0]["routes"] =
                    json!([{"match": {"prefix": "/"}, "direct_response": refusal}]);
            }
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
            let mut upstream = clusters[0].clone();
            for (name, port) in [("authz", authz[0]), ("authz_grpc", authz[1])] {
                upstream["name"] = json!(name);
                upstream["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]});
                clusters.push(upstream.clone());
            }
        })
    }

    fn filter(self, token: &str) -> Option<Value> {
        let typed = |name: &str, kind: &str, mut config: Value| {
            config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"));
            Some(json!({"name": name, "typed_config": config}))
        };
        match self {
            Self::NoFilter | Self::DirectRefusal | Self::Latchkey | Self::OtherBuild(_) => None,
            Self::ApiKeyAuth => typed(
                "api_key_auth",
                "api_key_auth.v3.ApiKeyAuth",
                json!({"credentials": [{"key": token, "client": "alice"}], "key_sources": [{"header": "x-api-key"}]}),
            ),
            Self::BasicAuth => typed(
                "basic_auth",
                "basic_auth.v3.BasicAuth",
                json!({"users": {"inline_string": "alice:{SHA}/DjkrreltmxWFtH6IaQa9kb7dZQ="}}),
            ),
            Self::JwtAuthn => typed(
                "jwt_authn",
                "jwt_authn.v3.JwtAuthentication",
                json!({
                    "providers": {"bench": {"issuer": "bench", "local_jwks": {"inline_string": JWKS}}},
                    "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
                }),
            ),
            Self::Lua => {
                let code = format!(
                    "function envoy_on_request(handle)\n  if handle:headers():get('authorization') ~= 'Bearer {token}' then\n    \
                     handle:respond({{[':status'] = '401'}}, '')\n  end\nend"
                );
                typed("lua", "lua.v3.Lua", json!({"default_source_code": {"inline_string": code}}))
            }
            Self::ExtAuthzHttp => typed(
                "ext_authz",
                "ext_authz.v3.ExtAuthz",
                json!({"http_service": {"server_uri": {"uri": "http://authz", "cluster": "authz", "timeout": "1s"}}}),
            ),
            Self::ExtAuthzGrpc => typed(
                "ext_authz",
                "ext_authz.v3.ExtAuthz",
                json!({"transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "authz_grpc"}, "timeout": "1s"}}),
            ),
        }
    }
}
