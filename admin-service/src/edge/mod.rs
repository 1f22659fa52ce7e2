//! The edge API: what filters ask for.

pub mod changes;
pub mod secret;
pub mod verify;

use axum::Router;
use axum::routing::{get, post};
use latchkey::wire::{CHANGES_PATH, VERIFY_PATH};

use crate::app::App;

/// What is answered at once.
pub fn router(app: App) -> Router {
    Router::new().route(VERIFY_PATH, post(verify::verify)).with_state(app)
}

/// The change feed, whose answers are waited for: the limits of other requests are not for it.
pub fn feed(app: App) -> Router {
    Router::new().route(CHANGES_PATH, get(changes::changes)).with_state(app)
}
