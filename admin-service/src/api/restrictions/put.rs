//! `PUT /restrictions`: sets the limits, or tells what they would touch.

use crate::json::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::dry_run::DryRunBody;
use super::{RestrictionsBody, fields};
use crate::api::extract::{Body, Parameters, bad_parameter, nullable, object};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::restrictions::{DeleteExpired, Restrictions};
use crate::error::ApiError;

/// Whether to change anything.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRunQuery {
    /// True: only tell what each limit would touch.
    #[param(value_type = Option<bool>)]
    dry_run: Option<String>,
}

impl DryRunQuery {
    fn check(&self) -> Result<bool, ApiError> {
        match self.dry_run.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad_parameter("dry_run", &"must be true or false")),
        }
    }
}

/// The limits to be; every field must be there, and null means no limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRestrictions, example = json!({"max_lifetime": "90d", "max_tokens_per_user": 10, "delete_expired": {"enabled": true, "after": "30d", "every": "1h"}}))]
pub(super) struct NewRestrictionsBody {
    /// The longest lifetime of a token, at least `1s`.
    #[serde(deserialize_with = "nullable")]
    #[schema(required = true, pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$")]
    max_lifetime: Option<String>,
    /// The most live tokens of one user. 0 is the switch that stops the making of tokens; those that there are still work.
    #[serde(deserialize_with = "nullable")]
    #[schema(required = true, minimum = 0, maximum = 4_294_967_295_u32)]
    max_tokens_per_user: Option<i64>,
    #[serde(deserialize_with = "object")]
    #[schema(required = true)]
    delete_expired: NewDeleteExpiredBody,
}

/// When expired tokens shall be deleted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDeleteExpired)]
struct NewDeleteExpiredBody {
    /// Whether they are deleted without being asked for.
    enabled: bool,
    /// How long an expired token is kept.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$")]
    after: String,
    /// How often the scheduler looks for them, at least `1s`.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$")]
    every: String,
}

/// The answer: the limits in force, or with `dry_run=true` what they would touch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RestrictionsOrDryRun)]
pub(super) enum PutBody {
    Set(RestrictionsBody),
    DryRun(DryRunBody),
}

impl NewRestrictionsBody {
    fn check(self) -> Result<Restrictions, ApiError> {
        let delete = self.delete_expired;
        let restrictions = Restrictions {
            max_lifetime: fields::max_lifetime(self.max_lifetime.as_deref())?,
            max_tokens_per_user: fields::max_tokens(self.max_tokens_per_user)?,
            delete_expired: DeleteExpired {
                enabled: delete.enabled,
                after: fields::period("delete_expired.after", &delete.after)?,
                every: fields::period("delete_expired.every", &delete.every)?,
            },
        };
        restrictions.check().map_err(|refused| fields::refuse(&refused))?;
        Ok(restrictions)
    }
}

/// Set the limits
///
/// They hold for tokens that are made from now on; those that there are stay as they are. With `dry_run=true` nothing
/// changes, and the answer tells how many live tokens and users go beyond each limit, with up to 10 examples of each.
#[utoipa::path(
    put, path = "/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(DryRunQuery),
    request_body = NewRestrictionsBody,
    responses((status = 200, description = "The limits in force, or what they would touch.", body = PutBody)),
)]
pub(super) async fn put_restrictions(
    admin: Admin,
    Parameters(query): Parameters<DryRunQuery>,
    State(app): State<App>,
    Body(body): Body<NewRestrictionsBody>,
) -> Result<Json<PutBody>, ApiError> {
    let (dry_run, wanted) = (query.check()?, body.check()?);
    if dry_run {
        return Ok(Json(PutBody::DryRun(app.store.touched_by(&wanted).await?.into())));
    }
    let restrictions = app.store.put_restrictions(&admin.origin(), &wanted).await?;
    Ok(Json(PutBody::Set(restrictions.into())))
}
