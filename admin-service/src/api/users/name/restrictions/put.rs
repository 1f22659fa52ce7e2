//! `PUT /users/{name}/restrictions`: gives one user limits of its own.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::UserLimitsBody;
use crate::api::extract::{Body, NoParameters, patched};
use crate::api::restrictions::fields;
use crate::api::users::name::Named;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::user_restrictions::UserRestrictions;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// The limits of a user's own to be. A field that is absent is as in `/restrictions`; null means no limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUserRestrictions, example = json!({"max_tokens_per_user": 20}))]
pub(super) struct NewUserRestrictionsBody {
    /// The longest lifetime of a token, at least `1s`.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$", example = "30d")]
    max_lifetime: Option<Option<String>>,
    /// The most live tokens. 0 stops the making of tokens by this user; those that there are still work.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_u32, example = 20)]
    max_tokens_per_user: Option<Option<i64>>,
}

impl NewUserRestrictionsBody {
    fn check(self) -> Result<UserRestrictions, ApiError> {
        let longest = self.max_lifetime.as_ref();
        let own = UserRestrictions {
            max_lifetime: longest.map(|text| fields::max_lifetime(text.as_deref())).transpose()?,
            max_tokens_per_user: self.max_tokens_per_user.map(fields::max_tokens).transpose()?,
        };
        own.check().map_err(|refused| fields::refuse(&refused))?;
        Ok(own)
    }
}

/// Give a user limits of its own
///
/// They hold for this user in place of those of `/restrictions`, higher or lower, for tokens that are made from now on; those
/// that there are stay as they are. What is left out is as in `/restrictions` again.
#[utoipa::path(
    put, path = "/users/{name}/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    request_body = NewUserRestrictionsBody,
    responses(
        (status = 200, description = "The limits as they are now.", body = UserLimitsBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
        (status = 409, description = "`user_not_active`: the user was deleted, and stays as it is.", body = ErrorBody),
    ),
)]
pub(super) async fn put_user_restrictions(
    admin: Admin,
    Named(name): Named,
    _: NoParameters,
    State(app): State<App>,
    Body(body): Body<NewUserRestrictionsBody>,
) -> Result<Json<UserLimitsBody>, ApiError> {
    let own = body.check()?;
    Ok(Json(app.store.put_user_restrictions(&admin.origin(), &name, &own).await?.into()))
}
