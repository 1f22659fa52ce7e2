//! The program as users run it: exit codes, what it prints and where, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../../tests/support/postgres.rs"]
mod postgres;

mod administration;
mod backup;
mod bootstrap;
mod clocks;
mod completions;
mod connection;
mod database_file;
mod doctor;
mod floods;
mod http2;
mod input;
mod lists;
mod memory;
mod new_epoch;
mod openapi_clients;
mod serve;
mod shell;
mod support;
mod token;
mod token_import;
mod usage;
mod user;
