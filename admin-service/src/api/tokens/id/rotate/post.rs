//! `POST /tokens/{id}/rotate`: makes a successor with a new secret, and ends the token.

use axum::extract::State;
use axum::response::IntoResponse;
use latchkey::token::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::extract::{NoParameters, OptionalBody};
use crate::api::tokens::created::{CreatedTokenBody, created};
use crate::api::tokens::fields;
use crate::app::App;
use crate::auth::OwnToken;
use crate::domain::period::Period;
use crate::domain::rotation::{Overlap, Rotation};
use crate::error::{ApiError, ErrorBody};

/// How to rotate a token; with no body at all, it ends now.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rotation, example = json!({"overlap": "1h", "expires_in": "90d"}))]
pub(super) struct RotationBody {
    /// How long the old token goes on working, at most `30d` and never longer than it would have: by default not at all.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$", example = "1h", default = "0s")]
    overlap: Option<String>,
    /// How long the new token lives: by default as long as the old one was made for, or as is allowed.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$", example = "90d")]
    expires_in: Option<String>,
}

impl RotationBody {
    fn check(&self) -> Result<(Overlap, Option<Period>), ApiError> {
        let overlap = self.overlap.as_deref().map(|text| fields::parsed("overlap", text)).transpose()?;
        let expires_in: Option<Period> =
            self.expires_in.as_deref().map(|text| fields::parsed("expires_in", text)).transpose()?;
        if expires_in.is_some_and(Period::is_zero) {
            return Err(fields::refuse("expires_in", &"must be longer than none"));
        }
        Ok((overlap.unwrap_or(Overlap::NONE), expires_in))
    }
}

/// Rotate a token
///
/// The answer is the only one that ever shows the new token, which is in all else as the old one. The old one ends after
/// the overlap, at every edge; until then both work, and only the new one counts against the limit. What is left of the
/// overlap of the old one's own predecessor ends now.
///
/// If the answer is lost, repeat the call: a successor that nobody has presented yet is revoked, and another one takes its
/// place. One that was presented once, here or at an edge, is in use, and the call is refused.
/// Whoever rotates the very token that it calls with should ask for an overlap, so that it can still repeat the call.
///
/// A caller without `latchkey:admin` rotates its own tokens, if it has all their scopes and schemes, and is bound to no networks
/// that exclude some of theirs: it could make such a token itself. The new one expires no later than the token of the call,
/// even where that rotates itself, unless the restrictions say `outlive_maker`.
#[utoipa::path(
    post, path = "/tokens/{id}/rotate", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("id" = String, Path, description = "The old token's identifier.", format = Uuid)),
    request_body = Option<RotationBody>,
    responses(
        (status = 201, description = "The new token.", body = CreatedTokenBody,
         headers(("Location", description = "Where the new token is."), ("Cache-Control", description = "`no-store`"))),
        (status = 403, description = "`insufficient_scope`: the caller's token lacks scopes of this one; `lacking_scopes` names them. \
            `networks_too_wide`: the same of networks; `networks` are those of the caller's token. `schemes_too_wide`: the same of schemes.", body = ErrorBody),
        (status = 404, description = "`token_not_found`: there is no such token, or it is not the caller's.", body = ErrorBody),
        (status = 409, description = "`token_not_active`: the token is expired or revoked; `token_status` says which. \
            `token_rotated`: it was rotated before, and its `successor` is in use since, or was rotated itself. \
            `user_not_active`: its user is disabled or deleted. \
            `token_limit_reached`: its successor was revoked, and the user has as many live tokens as are allowed; `limit`, `limit_of` and `count` say how many, and whose limit it is.", body = ErrorBody),
        (status = 422, description = "`expiry_too_long`: it would live longer than is allowed; `max_lifetime` says how long that is, `latest_expires_at` until when, and `asked_for` what was asked for. \
            `outlives_maker`: it would expire later than the caller's own token; `latest_expires_at` says when that is.", body = ErrorBody),
    ),
)]
pub(super) async fn rotate_token(
    own: OwnToken,
    _: NoParameters,
    State(app): State<App>,
    OptionalBody(body): OptionalBody<RotationBody>,
) -> Result<impl IntoResponse, ApiError> {
    let (overlap, expires_in) = body.check()?;
    let secret = Secret::generate(&app.settings.token_prefix, |buffer| app.sources.fill(buffer))
        .map_err(|error| ApiError::internal(&error))?;
    let rotation = Rotation::new(overlap, expires_in, &secret);
    let token = app.store.rotate_token(&own.origin_of_counted(&app)?, own.token.id, &rotation).await?;
    Ok(created(&app, token, &secret))
}
