//! The service's three listeners, asked over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../../tests/support/postgres.rs"]
mod postgres;
#[path = "../../../tests/support/small_disk.rs"]
mod small_disk;
#[path = "../support/service.rs"]
mod support;

mod attempts;
mod audit;
mod authentication;
mod authorization;
mod authz;
mod bad_input;
mod change_limit;
mod changes;
mod client_address;
mod cross_site;
mod described;
mod edge;
mod every_answer;
mod every_operation;
mod http;
mod import;
mod input;
mod introspect;
mod lineage;
mod loopback;
mod monitoring;
mod not_bootstrapped;
mod restrictions;
mod scheduler;
mod stats;
mod token_changes;
mod token_lists;
mod token_rotation;
mod token_search;
mod tokens;
mod trouble;
mod usage;
mod user_restrictions;
mod users;
mod verify_batch;
