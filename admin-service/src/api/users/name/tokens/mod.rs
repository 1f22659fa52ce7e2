//! `/users/{name}/tokens`: one user's tokens.

mod delete;
mod get;
mod import;
mod post;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(crate) use import::{MAX_IMPORT, check_entry};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get::list_tokens, post::create_token, delete::delete_expired_tokens))
        .merge(import::routes())
}
