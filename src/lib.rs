//! Latchkey: API tokens for Envoy. This package is the filter, and the contract that it shares with the admin service.
//!
//! All modules but `shell` know no host, no clock and no logger; they build and are tested on any machine.

pub mod cache;
pub mod challenges;
pub mod config;
pub mod credential;
pub mod engine;
pub mod feed;
pub mod gate;
pub mod headers;
pub mod refusal;
pub mod rules;
#[cfg(any(test, target_arch = "wasm32"))]
mod shell;
pub mod throttle;
pub mod token;
pub mod trace;
pub mod usage;
pub mod wire;
