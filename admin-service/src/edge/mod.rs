//! The edge API: what filters ask for, and what they report.

pub mod changes;
pub mod secret;
pub mod usage;
pub mod verify;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use latchkey::wire::{CHANGES_PATH, USAGE_PATH, VERIFY_PATH};

use crate::app::App;

/// What is answered at once.
pub fn router(app: App) -> Router {
    let reports = post(usage::usage).layer(DefaultBodyLimit::max(usage::MAX_REPORT));
    Router::new().route(VERIFY_PATH, post(verify::verify)).route(USAGE_PATH, reports).with_state(app)
}

/// The change feed, whose answers are waited for: the limits of other requests are not for it.
pub fn feed(app: App) -> Router {
    Router::new().route(CHANGES_PATH, get(changes::changes)).with_state(app)
}
