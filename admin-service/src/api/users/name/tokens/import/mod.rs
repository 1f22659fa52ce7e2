//! `/users/{name}/tokens:import`: tokens that another system has made.

mod post;

use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(crate) use post::{MAX_IMPORT, check_entry};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(post::import_tokens)).layer(DefaultBodyLimit::max(post::MAX_IMPORT))
}
