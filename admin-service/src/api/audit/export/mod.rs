//! `/audit:export`: the audit log for other programs to keep.

mod get;
mod lines;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::export_audit))
}
