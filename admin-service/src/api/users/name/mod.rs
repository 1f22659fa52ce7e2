//! `/users/{name}`: one user.

mod delete;
mod get;
mod patch;
mod restrictions;
mod tokens;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::{no_such_user, path_parameter};
use crate::domain::user::UserName;
use crate::error::ApiError;

pub(crate) use tokens::{MAX_IMPORT, check_entry};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get::get_user, patch::update_user, delete::delete_user))
        .merge(restrictions::routes())
        .merge(tokens::routes())
}

/// The user that the path names. A text that can be no name names nobody.
struct Named(UserName);

impl FromRequestParts<App> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let name = path_parameter("name", parts, app).await;
        name.parse().map(Self).map_err(|_| no_such_user())
    }
}
