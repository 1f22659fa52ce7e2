//! `PUT /restrictions`: sets the limits, applies them to what exists, or tells what exceeds them.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::dry_run::{DryRunBody, ShortenedBody};
use super::{RestrictionsBody, fields};
use crate::api::extract::{Body, Parameters, nullable, object, switch};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::audit::Origin;
use crate::domain::restrictions::{DeleteExpired, Restrictions};
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;
use crate::store::StoreError;

/// Whether to change anything, and what.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PutQuery {
    /// True: only tell what exceeds each limit, and with `apply_to_existing=true` which tokens would expire sooner.
    #[param(value_type = Option<bool>)]
    dry_run: Option<String>,
    /// True: also shorten the expiry of active tokens that last longer than `max_lifetime` from when they were made.
    #[param(value_type = Option<bool>)]
    apply_to_existing: Option<String>,
}

/// The limits to be; every limit must be there, and null means none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRestrictions, example = json!({"max_lifetime": "90d", "max_tokens_per_user": 10, "outlive_maker": false, "delete_expired": {"enabled": true, "after": "30d", "every": "1h"}}))]
pub(super) struct NewRestrictionsBody {
    /// The longest lifetime of a token, at least `1s`.
    #[serde(deserialize_with = "nullable")]
    #[schema(required = true, pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$")]
    max_lifetime: Option<String>,
    /// The most live tokens of one user. 0 is the switch that stops the making of tokens; those that there are still work.
    #[serde(deserialize_with = "nullable")]
    #[schema(required = true, minimum = 0, maximum = 4_294_967_295_u32)]
    max_tokens_per_user: Option<i64>,
    /// Whether a token may make others that expire later than itself; false where it is left out.
    #[serde(default)]
    #[schema(example = false)]
    outlive_maker: bool,
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

/// The answer: the limits in force, with `apply_to_existing=true` what that did, or with `dry_run=true` what it would do.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RestrictionsOrDryRun)]
pub(super) enum PutBody {
    Set(SetBody),
    DryRun(Box<DryRunBody>),
}

/// The limits in force.
#[derive(Serialize, ToSchema)]
#[schema(as = SetRestrictions)]
pub(super) struct SetBody {
    #[serde(flatten)]
    restrictions: RestrictionsBody,
    /// What was done to existing tokens, with `apply_to_existing=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortened: Option<ShortenedBody>,
}

impl NewRestrictionsBody {
    fn check(self) -> Result<Restrictions, ApiError> {
        let delete = self.delete_expired;
        let restrictions = Restrictions {
            max_lifetime: fields::max_lifetime(self.max_lifetime.as_deref())?,
            max_tokens_per_user: fields::max_tokens(self.max_tokens_per_user)?,
            outlive_maker: self.outlive_maker,
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
/// They hold for tokens that are made from now on; those that exist stay as they are. With `apply_to_existing=true` active
/// tokens that last longer than `max_lifetime` get the expiry that it allows, counted from when they were made; one that
/// was made longer ago than that expires at once. Users with a lifetime of their own go by theirs. It is done in batches, each
/// audited, goes on if the caller hangs up, and can be repeated.
///
/// With `dry_run=true` nothing changes, and the answer tells how many active tokens and users exceed each limit, with up to
/// 10 examples of each.
#[utoipa::path(
    put, path = "/restrictions", tag = "restrictions",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(PutQuery),
    request_body = NewRestrictionsBody,
    responses(
        (status = 200, description = "The limits in force, or what exceeds them.", body = PutBody),
        (status = 409, description = "`caller_would_expire`: `apply_to_existing=true` would end the token of the call, which was made at `created_at`.", body = ErrorBody),
    ),
)]
pub(super) async fn put_restrictions(
    admin: Admin,
    Parameters(query): Parameters<PutQuery>,
    State(app): State<App>,
    Body(body): Body<NewRestrictionsBody>,
) -> Result<Json<PutBody>, ApiError> {
    let dry_run = switch("dry_run", query.dry_run.as_deref())?;
    let existing = switch("apply_to_existing", query.apply_to_existing.as_deref())?;
    let wanted = body.check()?;
    Ok(Json(match (dry_run, existing) {
        (true, existing) => PutBody::DryRun(Box::new(tried(&app, wanted, existing).await?)),
        (false, true) => PutBody::Set(applied(app, admin.origin(), wanted).await?),
        (false, false) => {
            let restrictions = app.store.put_restrictions(&admin.origin(), &wanted).await?.into();
            PutBody::Set(SetBody { restrictions, shortened: None })
        }
    }))
}

/// Tells what limits would do.
async fn tried(app: &App, wanted: Restrictions, existing: bool) -> Result<DryRunBody, ApiError> {
    let exceeding = app.store.touched_by(&wanted).await?;
    let shortened = if existing { Some(app.store.would_shorten(&wanted).await?) } else { None };
    Ok(DryRunBody::of(&wanted, exceeding, shortened))
}

/// Sets limits and shortens what exists, whether or not the caller waits for it.
async fn applied(app: App, origin: Origin, wanted: Restrictions) -> Result<SetBody, ApiError> {
    let work = tokio::spawn(async move {
        let restrictions = app.store.put_restrictions_for_existing_tokens(&origin, &wanted).await?;
        let shortened = app.store.shorten_existing_tokens(&origin).await?;
        Ok::<_, StoreError>((restrictions, shortened))
    });
    let done = work.await.map_err(|error| ApiError::internal(&error))?;
    let (restrictions, shortened) = done?;
    Ok(SetBody { restrictions: restrictions.into(), shortened: Some(shortened.into()) })
}
