//! `GET /users`: all users, in pages.

use axum::extract::State;

use super::UserBody;
use crate::api::extract::Parameters;
use crate::api::links::Links;
use crate::api::page::{ListKey, PageBody, PageQuery};
use crate::app::App;
use crate::auth::Admin;
use crate::error::ApiError;
use crate::json::Json;

/// List the users
///
/// In the order in which they were made, deleted ones included.
#[utoipa::path(
    get, path = "/users", tag = "users",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page of users.", body = PageBody<UserBody>)),
)]
pub(super) async fn list_users(
    _: Admin,
    Parameters(query): Parameters<PageQuery>,
    State(app): State<App>,
    links: Links,
) -> Result<Json<PageBody<UserBody>>, ApiError> {
    let key = ListKey::of("users", &[]);
    let page = app.store.users(key.page(query.limit.as_deref(), query.cursor.as_deref())?).await?;
    Ok(Json(PageBody::of(page, &key, |user| UserBody::of(user, &links))))
}
