//! The reference configuration, `envoy/envoy.yaml`, with the addresses and ports of a test.

use std::net::SocketAddr;

use super::config_file::ConfigFile;
use super::envoy::Bootstrap;
use super::envoy_config::EDGE_SECRET;
use super::service::Service;
use super::{dist, ports};

/// The reference as one test runs it.
pub struct Reference {
    pub gateway: u16,
    pub admin: u16,
    /// The port of the listener for Prometheus and probes.
    pub metrics: u16,
    file: ConfigFile,
}

impl Reference {
    /// In containers: the service is at the host name `latchkey`, as the file has it, and ports are to be published.
    pub fn in_containers() -> Self {
        let mut reference = Self::new();
        let admin = format!(
            "admin:\n  address:\n    socket_address: {{address: 127.0.0.1, port_value: {}}}",
            reference.admin
        );
        reference.file.replace(&admin, &admin.replace("127.0.0.1", "0.0.0.0"));
        reference
    }

    /// On this machine's loopback, for a service that is a process, as `make run` derives it.
    pub fn on_loopback(service: &Service) -> Self {
        let mut reference = Self::new();
        reference.file.replace("address: 0.0.0.0", "address: 127.0.0.1");
        let place =
            |address: SocketAddr| format!("{{address: {}, port_value: {}}}", address.ip(), address.port());
        reference.file.replace("{address: latchkey, port_value: 8100}", &place(service.management_address()));
        reference.file.replace("{address: latchkey, port_value: 8101}", &place(service.edge_address()));
        reference
            .file
            .replace("{port_value: 8102}", &format!("{{port_value: {}}}", service.metrics_address().port()));
        reference
    }

    /// Replaces text that has to be there.
    pub fn replace(&mut self, from: &str, to: &str) {
        self.file.replace(from, to);
    }

    /// Replaces a text in as many of the last places where it is.
    pub fn replace_last(&mut self, from: &str, to: &str, places: usize) {
        self.file.replace_last(from, to, places);
    }

    /// Every path but the demo's goes to this upstream, with no rewriting.
    pub fn route_to(&mut self, upstream: SocketAddr) {
        const ROUTES: &str = "                        # Your routes go here;";
        let route = "                        - {match: {prefix: /}, route: {cluster: upstream}}\n";
        self.file.replace(ROUTES, &format!("{route}{ROUTES}"));
        let address = format!("{{address: {}, port_value: {}}}", upstream.ip(), upstream.port());
        let endpoint =
            format!("[{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {address}}}}}}}]}}]");
        let assignment = format!("{{cluster_name: upstream, endpoints: {endpoint}}}");
        let cluster = format!("    - {{name: upstream, type: STATIC, load_assignment: {assignment}}}\n");
        self.file.replace("\n  clusters:\n", &format!("\n  clusters:\n{cluster}"));
    }

    fn new() -> Self {
        let (gateway, admin, metrics) = (ports::free(), ports::free(), ports::free());
        let mut reference = Self { gateway, admin, metrics, file: ConfigFile::read("envoy/envoy.yaml") };
        let filter = dist::filter();
        reference.file.replace("/etc/envoy/latchkey.wasm", filter.to_str().expect("a path in UTF-8"));
        for (from, to) in [(10000, gateway), (9901, admin), (9902, metrics)] {
            reference.file.replace(&format!("port_value: {from}}}"), &format!("port_value: {to}}}"));
        }
        reference
    }

    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            text: self.file.text.clone(),
            format: "yaml",
            concurrency: 2,
            arguments: Vec::new(),
            environment: vec![("LATCHKEY_EDGE_SECRET".to_owned(), EDGE_SECRET.to_owned())],
            folders: Vec::new(),
        }
    }
}
