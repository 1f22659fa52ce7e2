//! End to end: what is in `dist/`, on a real Envoy and a real service. `make e2e` builds and runs; one module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test says what it expects by failing, and speaks for itself"
)]

#[allow(dead_code, reason = "a tool box: a tool may wait for the test that needs it")]
mod support;

mod accountable;
mod answers;
mod bursts;
mod bytes;
mod closed;
mod config_errors;
mod contained;
mod credentials;
mod databases;
mod durable;
mod ending;
mod exact;
mod expiring;
mod failover;
mod gateways;
mod grpc;
mod history;
mod in_docker;
mod kills;
mod lean;
mod make_run;
mod metrics;
mod moving_in;
mod observability;
mod outages;
mod overtaken;
mod paths;
mod patroni;
mod prompt;
mod readings;
mod readme;
mod recipes;
mod reference_config;
mod secret;
mod seed;
mod shadow;
mod smoke;
mod stale;
mod steady;
mod traced;
mod unspoofable;
mod usage;
mod waiting;
