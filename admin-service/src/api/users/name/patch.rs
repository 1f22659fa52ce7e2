//! `PATCH /users/{name}`: changes a user, disables it or enables it again.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Named;
use crate::api::extract::{Body, NoParameters, patched, present};
use crate::api::links::Links;
use crate::api::users::{UserBody, field};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::user::{DisplayName, UserName, UserPatch};
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// A change of a user; fields that are left out stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = UserPatch, example = json!({"active": false}))]
pub(super) struct UserPatchBody {
    /// The name that people see; null: the same as `name`.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    display_name: Option<Option<String>>,
    /// Where the user gets mail; null removes it.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, max_length = 254, pattern = "^[^\\s@]+@[^\\s@]+$")]
    email_address: Option<Option<String>>,
    /// A name of the IANA time zone database; null: UTC.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z][A-Za-z0-9_+/-]*$")]
    time_zone: Option<Option<String>>,
    /// False refuses all the user's tokens at once, at every edge; true lets them work again.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    active: Option<bool>,
}

impl UserPatchBody {
    fn check(self, name: &UserName) -> Result<UserPatch, ApiError> {
        let display_name = match self.display_name {
            None => None,
            Some(given) => {
                Some(field("displayName", given.as_deref())?.unwrap_or_else(|| DisplayName::from(name)))
            }
        };
        let email_address = match self.email_address {
            None => None,
            Some(given) => Some(field("emailAddress", given.as_deref())?),
        };
        let time_zone = match self.time_zone {
            None => None,
            Some(given) => Some(field("timeZone", given.as_deref())?.unwrap_or_default()),
        };
        Ok(UserPatch { display_name, email_address, time_zone, active: self.active })
    }
}

/// Change a user
///
/// `active: false` refuses all the user's tokens at once, at every edge.
#[utoipa::path(
    patch, path = "/users/{name}", tag = "users",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    request_body = UserPatchBody,
    responses(
        (status = 200, description = "The user as it is now.", body = UserBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
        (status = 409, description = "`user_not_active`: the user was deleted, and stays as it is.", body = ErrorBody),
    ),
)]
pub(super) async fn update_user(
    admin: Admin,
    Named(name): Named,
    _: NoParameters,
    State(app): State<App>,
    links: Links,
    Body(body): Body<UserPatchBody>,
) -> Result<Json<UserBody>, ApiError> {
    let patch = body.check(&name)?;
    let user = app.store.update_user(&admin.origin(), &name, &patch).await?;
    Ok(Json(UserBody::of(user, &links)))
}
