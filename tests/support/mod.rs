//! Starts things for end-to-end tests: service, Envoy, upstream, clients; and takes them down with the test that holds them.
//!
//! Most tests begin with a [`World`]. Everything it starts is the caller's own, listens on free loopback ports, and writes
//! its logs, configuration and database under `target/e2e-logs/<test>/`.

pub mod client;
pub mod clients;
pub mod compose;
pub mod config_file;
pub mod container;
pub mod database;
pub mod dist;
pub mod docker;
pub mod envoy;
pub mod envoy_config;
pub mod fake_service;
pub mod filter;
pub mod kind;
pub mod listener_file;
pub mod made_up;
pub mod nginx;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod random;
pub mod raw;
pub mod raw_h2;
pub mod recipes;
pub mod reference;
pub mod relay;
pub mod secrets;
pub mod servers;
pub mod service;
pub mod small_disk;
pub mod test_dir;
pub mod upstream;
pub mod wait;

pub use client::Answer;
pub use envoy::Envoy;
pub use envoy_config::EnvoyConfig;
pub use fake_service::{Behaviour, FakeService};
pub use filter::Filter;
pub use kind::Kind;
pub use relay::Relay;
pub use service::{Admin, Service};
pub use upstream::Upstream;

/// A service, an upstream, and an Envoy with the filter between clients and them.
pub struct World {
    pub envoy: Envoy,
    pub upstream: Upstream,
    pub service: Service,
    pub admin: Admin,
}

impl World {
    /// With the filter as the reference configures it, and no rules.
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// With a configuration of the caller's making, from the default one.
    pub async fn with(configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        Self::around(Service::start().await, configure).await
    }

    /// Around a service that runs already, and has no administrator yet.
    pub async fn around(service: Service, configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        let upstream = Upstream::start().await;
        let config = configure(EnvoyConfig::new(service.edge_address(), upstream.address()));
        let envoy = Envoy::start(config).await;
        let admin = service.bootstrap();
        Self { envoy, upstream, service, admin }
    }
}
