//! The Latchkey admin service and command line: tokens, users and restrictions, and what every edge asks for.
//!
//! Arrows point one way: `api`, `edge`, `jobs` and `cli` use `store`, which uses `domain`; `feed` stands between `edge`
//! and `store`, `census` between `api` and `store`.

pub mod api;
pub mod app;
pub mod attempts;
pub mod auth;
pub mod census;
pub mod changes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod edge;
pub mod error;
pub mod feed;
pub mod jobs;
mod json;
pub mod lifecycle;
pub mod look_up;
pub mod rate;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod timekeeper;
