//! `/restrictions`: the administrator's limits.

mod dry_run;
pub(in crate::api) mod fields;
mod get;
mod put;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::domain::restrictions::Restrictions;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_restrictions, put::put_restrictions))
}

/// The limits in force.
#[derive(Serialize, ToSchema)]
#[schema(as = Restrictions)]
pub(super) struct RestrictionsBody {
    /// The longest lifetime of a token; null: no limit.
    #[schema(example = "365d")]
    max_lifetime: Option<String>,
    /// The most live tokens of one user; 0: nobody makes tokens; null: no limit.
    #[schema(example = 10)]
    max_tokens_per_user: Option<u32>,
    /// Whether a token may make others that expire later than itself. An administrator's may either way.
    #[schema(example = false)]
    outlive_maker: bool,
    delete_expired: DeleteExpiredBody,
}

/// When tokens are deleted that have ended, and users who were deleted before.
#[derive(Serialize, ToSchema)]
#[schema(as = DeleteExpired)]
struct DeleteExpiredBody {
    /// Whether they are deleted without being asked for.
    enabled: bool,
    /// How long an expired token is kept; one that never expires, so long after it was revoked, and a deleted user too.
    #[schema(example = "30d")]
    after: String,
    /// How often the scheduler looks for them.
    #[schema(example = "1h")]
    every: String,
}

impl From<Restrictions> for RestrictionsBody {
    fn from(restrictions: Restrictions) -> Self {
        let delete = restrictions.delete_expired;
        Self {
            max_lifetime: restrictions.max_lifetime.map(|longest| longest.to_string()),
            max_tokens_per_user: restrictions.max_tokens_per_user,
            outlive_maker: restrictions.outlive_maker,
            delete_expired: DeleteExpiredBody {
                enabled: delete.enabled,
                after: delete.after.to_string(),
                every: delete.every.to_string(),
            },
        }
    }
}
