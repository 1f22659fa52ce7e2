//! `/users/{name}/restrictions`: the limits of one user.

mod delete;
mod get;
mod put;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::domain::limits::Limits;
use crate::domain::user_restrictions::{UserLimits, UserRestrictions};

pub(super) fn routes() -> OpenApiRouter<App> {
    let operations =
        routes!(get::get_user_restrictions, put::put_user_restrictions, delete::delete_user_restrictions);
    OpenApiRouter::new().routes(operations)
}

/// The limits of one user.
#[derive(Serialize, ToSchema)]
#[schema(as = UserRestrictions)]
struct UserLimitsBody {
    own: OwnBody,
    effective: EffectiveBody,
}

/// The user's own limits, which hold in place of those of `/restrictions`. A field that is absent is as there.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnRestrictions)]
struct OwnBody {
    /// The longest lifetime of a token; null: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30d")]
    max_lifetime: Option<Option<String>>,
    /// The most live tokens; 0: the user makes none; null: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, example = 20)]
    max_tokens_per_user: Option<Option<u32>>,
}

/// The limits that hold for the user: its own, and those of `/restrictions` for the rest.
#[derive(Serialize, ToSchema)]
#[schema(as = EffectiveRestrictions)]
struct EffectiveBody {
    /// The longest lifetime of a token; null: no limit.
    #[schema(example = "30d")]
    max_lifetime: Option<String>,
    /// The most live tokens; 0: the user makes none; null: no limit.
    #[schema(example = 20)]
    max_tokens_per_user: Option<u32>,
}

impl From<UserLimits> for UserLimitsBody {
    fn from(UserLimits { own, effective }: UserLimits) -> Self {
        let UserRestrictions { max_lifetime, max_tokens_per_user } = own;
        let Limits { lifetime, tokens, .. } = effective;
        Self {
            own: OwnBody {
                max_lifetime: max_lifetime.map(|own| own.map(|longest| longest.to_string())),
                max_tokens_per_user,
            },
            effective: EffectiveBody {
                max_lifetime: lifetime.most.map(|longest| longest.to_string()),
                max_tokens_per_user: tokens.most,
            },
        }
    }
}
