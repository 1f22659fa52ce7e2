//! `POST /users/{name}/tokens`: makes a token, and shows it this once.

use axum::extract::State;
use axum::response::IntoResponse;
use latchkey::token::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::extract::{Body, NoParameters};
use crate::api::tokens::created::{CreatedTokenBody, created};
use crate::api::tokens::fields;
use crate::api::users::field;
use crate::app::App;
use crate::auth::TokensOf;
use crate::domain::period::Period;
use crate::domain::token::{Expiry, Networks, NewToken, Schemes, TokenSpec};
use crate::error::{ApiError, ErrorBody};

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken, example = json!({"name": "ci", "expires_in": "30d", "scopes": ["read"]}))]
pub(super) struct NewTokenBody {
    /// What the owner knows it by; need not be unique.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) name: String,
    /// How long it lives, as in `30d`. Without `expires_in` and `expires_at` it lives as long as is allowed.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$", example = "30d")]
    pub(super) expires_in: Option<String>,
    /// When it expires, in the future; instead of `expires_in`. Where the caller is no administrator, no later than its own
    /// token, unless the restrictions say `outlive_maker`.
    #[schema(format = DateTime)]
    pub(super) expires_at: Option<String>,
    /// What it may be presented with: `bearer`, `basic` or both. By default what the caller's own token may, or both where the
    /// caller is an administrator.
    #[schema(example = json!(["bearer", "basic"]), min_items = 1)]
    pub(super) schemes: Option<Vec<String>>,
    /// What it permits: at most 32 scopes of RFC 6749, none by default, and none that the caller's token lacks.
    #[schema(example = json!(["read"]), max_items = 32)]
    pub(super) scopes: Option<Vec<String>>,
    /// The networks that it may be used from: at most 32; an empty list permits any. By default those of the caller's own
    /// token, or any where the caller is an administrator.
    #[schema(example = json!(["10.0.0.0/8"]), max_items = 32)]
    pub(super) allowed_cidrs: Option<Vec<String>>,
    /// A note.
    #[schema(max_length = 500)]
    pub(super) description: Option<String>,
}

impl NewTokenBody {
    pub(super) fn check(
        self,
        default_networks: Networks,
        default_schemes: Schemes,
    ) -> Result<TokenSpec, ApiError> {
        let expiry = self.expiry()?;
        let networks = |given: Vec<String>| fields::networks("allowed_cidrs", &given);
        Ok(TokenSpec {
            name: fields::parsed("name", &self.name)?,
            description: field("description", self.description.as_deref())?,
            schemes: self
                .schemes
                .map_or_else(|| Ok(default_schemes), |given| fields::schemes("schemes", &given))?,
            scopes: fields::scopes("scopes", &self.scopes.unwrap_or_default())?,
            allowed_cidrs: self.allowed_cidrs.map_or(Ok(default_networks), networks)?,
            expiry,
        })
    }

    fn expiry(&self) -> Result<Expiry, ApiError> {
        let period: Option<Period> = field("expires_in", self.expires_in.as_deref())?;
        match (period, self.expires_at.as_deref()) {
            (Some(_), Some(_)) => Err(ApiError::field(
                "expires_at",
                "`expires_in` and `expires_at` cannot both be given: choose one",
            )),
            (Some(period), None) if period.is_zero() => {
                Err(fields::refuse("expires_in", &"must be longer than none"))
            }
            (Some(period), None) => Ok(Expiry::In(period)),
            (None, Some(time)) => fields::time("expires_at", time).map(Expiry::At),
            (None, None) => Ok(Expiry::Latest),
        }
    }
}

/// Make a token
///
/// The answer is the only one that ever shows it. A caller without `latchkey:admin` makes tokens for itself, with
/// scopes and schemes that its own token has, for networks within those that its own token is bound to, and no later expiry
/// than its own, unless the restrictions say `outlive_maker`.
#[utoipa::path(
    post, path = "/users/{name}/tokens", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("name" = String, Path, description = "The user's name.")),
    request_body = NewTokenBody,
    responses(
        (status = 201, description = "The new token.", body = CreatedTokenBody,
         headers(("Location", description = "Where the token is."), ("Cache-Control", description = "`no-store`"))),
        (status = 403, description = "`networks_too_wide`: the caller's token is bound to networks, and the new one would not be bound to these. \
            `schemes_too_wide`: the caller's token may not be presented with one of these schemes; `schemes` are those that it has.", body = ErrorBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
        (status = 409, description = "`token_limit_reached`: the user has as many live tokens as are allowed; `limit`, `limit_of` and `count` say how many, and whose limit it is. \
            `user_not_active`: the user is disabled or deleted.", body = ErrorBody),
        (status = 422, description = "`expiry_too_long`: it would live longer than is allowed; `max_lifetime` says how long that is, `latest_expires_at` until when, and `asked_for` what was asked for. \
            `outlives_maker`: it would expire later than the caller's own token; `latest_expires_at` says when that is.", body = ErrorBody),
    ),
)]
pub(super) async fn create_token(
    owner: TokensOf,
    _: NoParameters,
    State(app): State<App>,
    Body(body): Body<NewTokenBody>,
) -> Result<impl IntoResponse, ApiError> {
    let spec = body.check(owner.default_networks(), owner.default_schemes())?;
    let secret = Secret::generate(&app.settings.token_prefix, |buffer| app.sources.fill(buffer))
        .map_err(|error| ApiError::internal(&error))?;
    let token = app
        .store
        .create_token(&owner.origin_of_counted(&app)?, &owner.user, &NewToken::new(spec, &secret))
        .await?;
    Ok(created(&app, token, &secret))
}
