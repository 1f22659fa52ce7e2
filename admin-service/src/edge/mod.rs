//! The edge API: what filters ask for and report, and what gateways without the filter and other services ask for.

mod answer;
pub mod authz;
pub mod changes;
mod gateway;
pub mod introspect;
pub mod secret;
pub mod unauthorized;
pub mod usage;
pub mod used;
pub mod verify;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use latchkey::wire::{CHANGES_PATH, USAGE_PATH, VERIFY_PATH};

use crate::app::App;

/// What is answered at once.
pub fn router(app: App) -> Router {
    let reports = post(usage::usage).layer(DefaultBodyLimit::max(usage::MAX_REPORT));
    Router::new()
        .route(VERIFY_PATH, post(verify::verify))
        .route(USAGE_PATH, reports)
        .route("/edge/v1/introspect", post(introspect::introspect))
        .with_state(app)
}

/// What gateways without the filter ask, whose floods take no place from filters. Some put the client's own path after ours, so whatever follows is taken for one.
pub fn gateways(app: App) -> Router {
    Router::new()
        .route("/edge/v1/authz", any(authz::authz))
        .route("/edge/v1/authz/", any(authz::authz))
        .route("/edge/v1/authz/{*path}", any(authz::authz))
        .route("/edge/v1/authz-refusal", any(authz::refusal))
        .with_state(app)
}

/// The change feed, whose answers are waited for: the limits of other requests are not for it.
pub fn feed(app: App) -> Router {
    Router::new().route(CHANGES_PATH, get(changes::changes)).with_state(app)
}
