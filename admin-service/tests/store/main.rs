//! What the store promises, on SQLite and on PostgreSQL: one suite for both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/support/postgres.rs"]
mod postgres;
#[path = "../../../tests/support/relay.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod relay;
mod support;
#[path = "../../../tests/support/wait.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod wait;

mod audit;
mod authority;
mod bootstrap;
mod changes;
mod clock;
mod commits;
mod displaced;
mod epoch;
mod examine;
mod feed;
mod first_use;
mod followers;
mod history;
mod import;
mod limits;
mod lineage;
mod look_ups;
mod lost_revisions;
mod open;
mod outage;
mod plans;
mod poolers;
mod races;
mod restrictions;
mod retention;
mod rotation;
mod scheduler;
mod search;
mod shorten;
mod standbys;
mod stats;
mod thin_lines;
mod token_update;
mod tokens;
mod usage;
mod user_restrictions;
mod users;
mod wire;
