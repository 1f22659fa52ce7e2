//! `PUT /restrictions`: sets the limits, or tells what they would touch.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::RestrictionsBody;
use crate::api::extract::{Body, Parameters, bad_parameter, nullable, object};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::period::Period;
use crate::domain::restrictions::{DeleteExpired, Restrictions};
use crate::error::ApiError;

/// Whether to change anything.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRunQuery {
    /// True: only tell how many live tokens each limit would touch.
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
    #[schema(required = true)]
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
    after: String,
    /// How often the scheduler looks for them, at least `1s`.
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

/// What limits would touch.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
pub(super) struct DryRunBody {
    /// Always true: nothing was changed.
    dry_run: bool,
    would_touch: TouchedBody,
}

/// How many live tokens each limit would touch. They stay as they are even when the limits are set: limits hold for
/// what is made afterwards.
#[derive(Serialize, ToSchema)]
#[schema(as = Touched)]
struct TouchedBody {
    /// Live tokens that live longer than `max_lifetime`.
    max_lifetime: u64,
    /// Live tokens that users have beyond `max_tokens_per_user`.
    max_tokens_per_user: u64,
}

impl NewRestrictionsBody {
    fn check(self) -> Result<Restrictions, ApiError> {
        let most = |most: i64| {
            let problem = format!(
                "`max_tokens_per_user` must be 0 to {}, where 0 stops the making of tokens, or null for no limit; it is {most}",
                u32::MAX
            );
            u32::try_from(most).map_err(|_| ApiError::field("max_tokens_per_user", problem))
        };
        let delete = self.delete_expired;
        let restrictions = Restrictions {
            max_lifetime: self.max_lifetime.map(|longest| period("max_lifetime", &longest)).transpose()?,
            max_tokens_per_user: self.max_tokens_per_user.map(most).transpose()?,
            delete_expired: DeleteExpired {
                enabled: delete.enabled,
                after: period("delete_expired.after", &delete.after)?,
                every: period("delete_expired.every", &delete.every)?,
            },
        };
        restrictions.check().map_err(|refused| {
            ApiError::field(refused.field, format!("`{}` {}", refused.field, refused.problem))
        })?;
        Ok(restrictions)
    }
}

fn period(field: &str, text: &str) -> Result<Period, ApiError> {
    text.parse().map_err(|problem| ApiError::field(field, format!("`{field}` {problem}")))
}

/// Set the limits
///
/// They hold for tokens that are made from now on; those that there are stay as they are. With `dry_run=true` nothing
/// changes, and the answer tells how many live tokens go beyond each limit.
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
        let touched = app.store.touched_by(&wanted).await?;
        let would_touch = TouchedBody {
            max_lifetime: touched.tokens_over_max_lifetime,
            max_tokens_per_user: touched.tokens_over_max_tokens,
        };
        return Ok(Json(PutBody::DryRun(DryRunBody { dry_run: true, would_touch })));
    }
    let restrictions = app.store.put_restrictions(&admin.origin(), &wanted).await?;
    Ok(Json(PutBody::Set(restrictions.into())))
}
