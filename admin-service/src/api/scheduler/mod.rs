//! `/scheduler`: the deletion of expired tokens.

mod get;
mod run;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_scheduler)).merge(run::routes())
}
