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
mod support;

mod audit;
mod authority;
mod bootstrap;
mod changes;
mod clock;
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
mod open;
mod outage;
mod plans;
mod races;
mod restrictions;
mod retention;
mod rotation;
mod scheduler;
mod search;
mod shorten;
mod stats;
mod token_update;
mod tokens;
mod usage;
mod user_restrictions;
mod users;
