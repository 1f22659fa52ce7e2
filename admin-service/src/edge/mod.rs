//! The edge API: what filters ask for.

pub mod secret;
pub mod verify;

use axum::Router;
use axum::routing::post;
use latchkey::wire::VERIFY_PATH;

use crate::app::App;

/// The router of the edge listener.
pub fn router(app: App) -> Router {
    Router::new().route(VERIFY_PATH, post(verify::verify)).with_state(app)
}
