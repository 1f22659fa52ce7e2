//! Envoy's configuration for tests, as JSON: the smallest around the filter's own, with a closure for the rest.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::envoy::Bootstrap;
use super::filter::Filter;

/// The edge secret of every test: marked, so that a search of all logs finds it if it leaks.
pub const EDGE_SECRET: &str = "MARKED-edge-secret-7f3a9c";

type Change = Box<dyn FnOnce(&mut Value) + Send>;

/// What differs between tests. Ports are filled in by the launcher.
pub struct EnvoyConfig {
    /// The filter's configuration (contract, section 4).
    pub plugin: Value,
    /// The `latchkey` cluster's host and port.
    pub service: (String, u16),
    /// Whether the filter's cluster speaks HTTP/2 (the real service) or HTTP/1.1 (a stand-in).
    pub service_http2: bool,
    /// What stands behind the gateway; `None`: Envoy answers 200 by itself.
    pub upstream: Option<SocketAddr>,
    /// How many workers.
    pub concurrency: u32,
    /// Further arguments of Envoy, such as log levels.
    pub arguments: Vec<String>,
    /// Environment variables of the process.
    pub environment: Vec<(String, String)>,
    /// Folders that Envoy reads files from.
    pub folders: Vec<PathBuf>,
    changes: Vec<Change>,
}

impl EnvoyConfig {
    pub fn new(service: SocketAddr, upstream: SocketAddr) -> Self {
        Self {
            plugin: json!({"service": {"cluster": "latchkey", "secret_env": "LATCHKEY_EDGE_SECRET"}}),
            service: (service.ip().to_string(), service.port()),
            service_http2: true,
            upstream: Some(upstream),
            concurrency: 2,
            arguments: Vec::new(),
            environment: vec![("LATCHKEY_EDGE_SECRET".to_owned(), EDGE_SECRET.to_owned())],
            folders: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Sets a top-level field of the filter's configuration.
    pub fn plugin(mut self, field: &str, value: Value) -> Self {
        self.plugin[field] = value;
        self
    }

    /// Sets a field of the filter's `service` configuration.
    pub fn plugin_service(mut self, field: &str, value: Value) -> Self {
        self.plugin["service"][field] = value;
        self
    }

    /// The service's edge listener is reached at this address.
    pub fn service_at(mut self, address: SocketAddr) -> Self {
        self.service = (address.ip().to_string(), address.port());
        self
    }

    /// The change feed has a cluster of its own, at this address.
    pub fn feed(self, address: SocketAddr) -> Self {
        self.own_cluster("feed_cluster", "latchkey_feed", address)
    }

    /// Usage reports have a cluster of their own, at this address.
    pub fn usage(self, address: SocketAddr) -> Self {
        self.own_cluster("usage_cluster", "latchkey_usage", address)
    }

    fn own_cluster(self, field: &str, name: &'static str, address: SocketAddr) -> Self {
        self.plugin_service(field, json!(name)).change(move |bootstrap| {
            let mut own = cluster(name, &address.ip().to_string(), address.port());
            own["typed_extension_protocol_options"] = http2();
            bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters").push(own);
        })
    }

    /// No cached verdict ever serves, so every request asks the service.
    pub fn uncached(self) -> Self {
        self.plugin("stale", json!({"max_ms": 0}))
    }

    /// The filter's rules.
    pub fn rules(self, rules: Value) -> Self {
        self.plugin("rules", rules)
    }

    /// The `latchkey` cluster is at this address, and speaks HTTP/1.1: a stand-in for the service.
    pub fn fake_service(self, address: SocketAddr) -> Self {
        Self { service_http2: false, ..self.service_at(address) }
    }

    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Fields of the HTTP connection manager, which replace what stands there.
    pub fn http(self, fields: Value) -> Self {
        self.change(move |bootstrap| {
            let manager = connection_manager(bootstrap).as_object_mut().expect("an object");
            manager.extend(fields.as_object().expect("an object").clone());
        })
    }

    /// The upstream is asked by HTTP/2, which carries trailers.
    pub fn upstream_http2(self) -> Self {
        self.change(|bootstrap| {
            bootstrap["static_resources"]["clusters"][1]["typed_extension_protocol_options"] = http2();
        })
    }

    /// Whatever else: `change` gets the whole bootstrap. [`connection_manager`] finds the listener's part in it.
    pub fn change(mut self, change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// The bootstrap, listening on these ports of 127.0.0.1.
    pub fn build(mut self, gateway: u16, admin: u16) -> Bootstrap {
        let mut bootstrap = json!({
            "admin": {"address": socket("127.0.0.1", admin)},
            "static_resources": {
                "listeners": [{
                    "name": "gateway",
                    "address": socket("127.0.0.1", gateway),
                    "filter_chains": [{"filters": [self.connection_manager()]}],
                }],
                "clusters": self.clusters(),
            },
            // Names as in the reference, so that tests may read them from /stats/prometheus too.
            "stats_config": {"stats_tags": [
                {"tag_name": "reason", "regex": r"^wasmcustom\.latchkey\.(?:shadow_)?refused(\.(\w+))$"},
                {"tag_name": "outcome", "regex": r"^wasmcustom\.latchkey\.(?:callouts|feed_answers|usage_reports)(\.(\w+))$"},
                {"tag_name": "cause", "regex": r"^wasmcustom\.latchkey\.cache_evictions(\.(\w+))$"},
            ]},
        });
        Filter::chosen().prepare(&mut bootstrap);
        for change in std::mem::take(&mut self.changes) {
            change(&mut bootstrap);
        }
        Bootstrap {
            text: bootstrap.to_string(),
            format: "json",
            concurrency: self.concurrency,
            arguments: self.arguments,
            environment: self.environment,
            folders: self.folders,
        }
    }

    fn connection_manager(&self) -> Value {
        let action = match self.upstream {
            Some(_) => ("route", json!({"cluster": "upstream", "timeout": "15s"})),
            None => {
                ("direct_response", json!({"status": 200, "body": {"inline_string": "behind the gateway"}}))
            }
        };
        json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "gateway",
                "request_timeout": "20s",
                "use_remote_address": true,
                "http2_protocol_options": {"initial_stream_window_size": 65536},
                "access_log": [{
                    "name": "envoy.access_loggers.stdout",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                        "log_format": {"text_format_source": {"inline_string": ACCESS_LOG}},
                    },
                }],
                "http_filters": [Filter::chosen().entry(&self.plugin), {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
                "route_config": {"virtual_hosts": [{
                    "name": "all", "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, action.0: action.1}],
                }]},
            },
        })
    }

    fn clusters(&self) -> Vec<Value> {
        let (host, port) = &self.service;
        let mut clusters = vec![cluster("latchkey", host, *port)];
        if self.service_http2 {
            clusters[0]["typed_extension_protocol_options"] = http2();
        }
        if let Some(upstream) = self.upstream {
            clusters.push(cluster("upstream", &upstream.ip().to_string(), upstream.port()));
        }
        clusters
    }
}

/// `access <status> <details> <user> <method> <path>`, one line per request.
const ACCESS_LOG: &str = "access %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %FILTER_STATE(wasm.latchkey_user:PLAIN)% \
    %REQ(:METHOD)% %REQ(:PATH)%\n";

/// The HTTP connection manager in a bootstrap that [`EnvoyConfig::build`] made.
pub fn connection_manager(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// A cluster's protocol options: HTTP/2.
fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    })
}

fn socket(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn cluster(name: &str, host: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(host, port)}}]}],
        },
    })
}
