//! `/tokens/{id}`: one token.

mod delete;
mod get;
mod patch;
mod rotate;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get::get_token, patch::update_token, delete::revoke_token))
        .merge(rotate::routes())
}
