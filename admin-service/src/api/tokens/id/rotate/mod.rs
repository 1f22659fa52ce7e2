//! `/tokens/{id}/rotate`: a new secret for a token.

mod post;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(post::rotate_token))
}
