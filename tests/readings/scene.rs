//! Real servers behind one Envoy with the filter, which listens three times: handing on paths as they were sent, normalising
//! them, and normalising them after it has decoded escaped slashes.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::attempt::{Client, Ran, Request, Version};
use crate::support::servers::{Server, Software};
use crate::support::service::Made;
use crate::support::{Admin, Envoy, EnvoyConfig, Service, envoy_config, ports};

/// Chooses the server, for the tests alone.
pub const UPSTREAM: &str = "x-upstream";
pub const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// How an Envoy treats paths.
pub const NORMALISATIONS: [(&str, bool, &str); 3] = [
    ("as sent", false, "KEEP_UNCHANGED"),
    ("normalised", true, "REJECT_REQUEST"),
    ("unescaped and normalised", true, "UNESCAPE_AND_FORWARD"),
];

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// Has a valid token, without any scope.
    Token,
}

/// Whether a request that did this may be a holder's.
pub type May = fn(Holder, &Ran) -> bool;

/// What attackers got.
#[derive(Debug, Default)]
pub struct Report {
    pub sent: usize,
    /// How many reached a handler of a server.
    pub ran: usize,
    /// What reached a handler that it must not.
    pub holes: Vec<String>,
}

impl Report {
    /// Panics with what got through.
    pub fn assert_closed(&self) {
        let shown: Vec<_> = self.holes.iter().take(60).map(String::as_str).collect();
        let (count, all) = (self.holes.len(), self.sent);
        assert!(
            self.holes.is_empty(),
            "{count} of {all} requests did what they must not:\n{}",
            shown.join("\n")
        );
        assert!(self.ran > 0, "none of {all} requests reached a server, which shows nothing");
    }
}

/// Where attackers come, and what is behind it.
pub struct Scene {
    servers: Vec<Server>,
    gateways: Vec<(&'static str, u16)>,
    token: Made,
    all: Made,
    _running: (Service, Admin, Envoy),
}

impl Scene {
    /// With rules; `None` where none of the servers is installed, which is said.
    pub async fn start(software: &[Software], rules: Value) -> Option<Self> {
        let servers = Server::start_all(software).await;
        let first = servers.first()?.address;
        let service = Service::start().await;
        let extra = [ports::free(), ports::free()];
        let routes = routes(&servers);
        let clusters: Vec<_> =
            servers.iter().map(|server| (format!("{:?}", server.software), server.address)).collect();
        let config = EnvoyConfig::new(service.edge_address(), first).rules(rules).change(move |bootstrap| {
            for (name, address) in clusters {
                let mut cluster = bootstrap["static_resources"]["clusters"][1].clone();
                cluster["name"] = json!(name);
                cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
                    "address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}},
                }}]}]});
                bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters").push(cluster);
            }
            listen_three_times(bootstrap, &routes, extra);
        });
        let envoy = Envoy::start(config).await;
        let admin = service.bootstrap();
        admin.create_user("alice").await;
        let token = admin.create_token("alice", json!({"name": "plain"})).await;
        let scopes = json!({"name": "all", "scopes": ["admin", "write", "report"]});
        let all = admin.create_token("alice", scopes).await;
        let gateways = NORMALISATIONS.iter().zip([envoy.port(), extra[0], extra[1]]);
        let gateways = gateways.map(|((name, ..), port)| (*name, port)).collect();
        Some(Self { servers, gateways, token, all, _running: (service, admin, envoy) })
    }

    /// Sends each request through each gateway by each version to each server, and judges what each did.
    pub async fn attack(&self, requests: &[Request], may: May) -> Report {
        self.attack_with(requests, may, |_, _| true).await
    }

    /// As [`Scene::attack`], with each request by one version of the two, in turns.
    pub async fn attack_in_turns(&self, requests: &[Request], may: May) -> Report {
        self.attack_with(requests, may, |number, version| (number % 2 == 0) == (version == Version::Http1))
            .await
    }

    async fn attack_with(&self, requests: &[Request], may: May, takes: fn(usize, Version) -> bool) -> Report {
        let requests: Arc<[Request]> = requests.into();
        let mut attacks = JoinSet::new();
        for (gateway, port) in self.gateways.clone() {
            for version in VERSIONS {
                for server in &self.servers {
                    let attack = Attack {
                        what: format!("{gateway}, {version:?}, {:?}", server.software),
                        client: Client::new(version, port),
                        upstream: name(server.software),
                        token: self.token.token.clone(),
                    };
                    let requests = Arc::clone(&requests);
                    attacks.spawn(attack.run(requests, may, move |number| takes(number, version)));
                }
            }
        }
        let mut whole = Report::default();
        for report in attacks.join_all().await {
            whole.sent += report.sent;
            whole.ran += report.ran;
            whole.holes.extend(report.holes);
        }
        whole
    }

    /// Each request has these answers, by each gateway, version and server: to nobody, to a token without scopes, and to one
    /// that has them all.
    pub async fn assert_statuses(&self, request: &Request, statuses: [&[Option<u16>]; 3]) {
        for (gateway, port) in &self.gateways {
            for version in VERSIONS {
                for server in &self.servers {
                    let request = request.clone().header(UPSTREAM, name(server.software));
                    let tokens = [None, Some(&self.token), Some(&self.all)];
                    for (made, expected) in tokens.into_iter().zip(statuses) {
                        let token = made.map(|made| made.token.as_str());
                        let outcome = Client::new(version, *port).send(&request, token).await;
                        let who = if token.is_some() { "with a token" } else { "without one" };
                        assert!(
                            expected.contains(&outcome.status),
                            "{gateway}, {version:?}, {request:?} {who}: {outcome:?}, and not one of {expected:?}"
                        );
                    }
                }
            }
        }
    }
}

/// A server's name in routes.
fn name(software: Software) -> &'static str {
    match software {
        Software::Flask => "Flask",
        Software::FlaskOverrides => "FlaskOverrides",
        Software::Node => "Node",
        Software::NodeFolds => "NodeFolds",
        Software::Tomcat => "Tomcat",
        Software::Jetty => "Jetty",
    }
}

fn routes(servers: &[Server]) -> Value {
    let route = |server: &Server| {
        let chosen = json!([{"name": UPSTREAM, "string_match": {"exact": name(server.software)}}]);
        json!({"match": {"prefix": "/", "headers": chosen}, "route": {"cluster": name(server.software), "timeout": "60s"}})
    };
    servers.iter().map(route).collect()
}

/// Puts two listeners beside the one that there is, and gives each its way with paths.
fn listen_three_times(bootstrap: &mut Value, routes: &Value, ports: [u16; 2]) {
    envoy_config::connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"] =
        routes.clone();
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners");
    for port in ports {
        let mut listener = listeners[0].clone();
        listener["name"] = json!(format!("gateway {port}"));
        listener["address"]["socket_address"]["port_value"] = json!(port);
        listeners.push(listener);
    }
    for (listener, (_, normalised, slashes)) in listeners.iter_mut().zip(NORMALISATIONS) {
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager["normalize_path"] = json!(normalised);
        manager["merge_slashes"] = json!(normalised);
        manager["path_with_escaped_slashes_action"] = json!(slashes);
    }
}

/// An attacker of one server, through one gateway, by one version of HTTP.
struct Attack {
    what: String,
    client: Client,
    upstream: &'static str,
    token: String,
}

impl Attack {
    async fn run(mut self, requests: Arc<[Request]>, may: May, takes: impl Fn(usize) -> bool) -> Report {
        let mut report = Report::default();
        for (_, request) in requests.iter().enumerate().filter(|(number, _)| takes(*number)) {
            for holder in [Holder::Nobody, Holder::Token] {
                let token = (holder == Holder::Token).then_some(self.token.as_str());
                let sent = request.clone().header(UPSTREAM, self.upstream);
                let outcome = self.client.send(&sent, token).await;
                report.sent += 1;
                let Some(ran) = outcome.ran else { continue };
                report.ran += 1;
                if !may(holder, &ran) {
                    let Request { method, target, host, headers } = request;
                    report.holes.push(format!(
                        "{}, {holder:?}: {method} {target} of {host} {headers:?} -> {}",
                        self.what, ran.answer
                    ));
                }
            }
        }
        report
    }
}
