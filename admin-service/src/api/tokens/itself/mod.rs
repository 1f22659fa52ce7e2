//! `/tokens/self`: the token that the call is made with.

mod delete;
mod get;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::no_longer_valid;
use crate::error::ApiError;
use crate::store::StoreError;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_own_token, delete::revoke_own_token))
}

/// A token that was deleted since the call was authenticated by it is no valid one.
fn of_caller(error: StoreError) -> ApiError {
    match error {
        StoreError::TokenNotFound => no_longer_valid(),
        error => error.into(),
    }
}
