//! `PATCH /tokens/{id}`: changes a token.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::extract::{Body, NoParameters, patched, present};
use crate::api::tokens::{TokenBody, fields};
use crate::app::App;
use crate::auth::OwnToken;
use crate::domain::token::Expiry;
use crate::domain::token_patch::TokenPatch;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// A change of a token; fields that are left out stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenPatch, example = json!({"scopes": ["read"], "expires_at": "2030-12-31T00:00:00Z"}))]
pub(super) struct TokenPatchBody {
    /// What the owner knows it by; need not be unique.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100)]
    name: Option<String>,
    /// A note; null removes it.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, max_length = 500)]
    description: Option<Option<String>>,
    /// What it permits from now on, in place of what it did: at most 32 scopes of RFC 6749.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false, example = json!(["read"]), max_items = 32)]
    scopes: Option<Vec<String>>,
    /// The networks that it may be used from, in place of what they were: at most 32; an empty list permits any.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false, example = json!(["10.0.0.0/8"]), max_items = 32)]
    allowed_cidrs: Option<Vec<String>>,
    /// When it expires, in the future; null: as late as the restrictions allow, which count from when it was made.
    #[serde(default, deserialize_with = "patched")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<String>>,
}

impl TokenPatchBody {
    fn check(self) -> Result<TokenPatch, ApiError> {
        let description = |text: Option<String>| {
            text.as_deref().map(|text| fields::parsed("description", text)).transpose()
        };
        let expiry = |time: Option<String>| match time {
            Some(time) => fields::time("expires_at", &time).map(Expiry::At),
            None => Ok(Expiry::Latest),
        };
        Ok(TokenPatch {
            name: self.name.as_deref().map(|name| fields::parsed("name", name)).transpose()?,
            description: self.description.map(description).transpose()?,
            scopes: self.scopes.as_deref().map(|scopes| fields::scopes("scopes", scopes)).transpose()?,
            allowed_cidrs: self
                .allowed_cidrs
                .as_deref()
                .map(|networks| fields::networks("allowed_cidrs", networks))
                .transpose()?,
            expiry: self.expires_at.map(expiry).transpose()?,
        })
    }
}

/// Change a token
///
/// Of a live one; an expired or revoked token stays as it is. Every edge goes by the change at once. A caller without
/// `latchkey:admin` changes its own tokens: it may make any of them less, and one more only if it has all of that
/// one's scopes and schemes, is bound to no networks that exclude some of its, and does not expire before it, unless the
/// restrictions say `outlive_maker`.
#[utoipa::path(
    patch, path = "/tokens/{id}", tag = "tokens",
    security(("bearer" = ["latchkey:tokens"]), ("basic" = ["latchkey:tokens"])),
    params(("id" = String, Path, description = "The token's identifier.", format = Uuid)),
    request_body = TokenPatchBody,
    responses(
        (status = 200, description = "The token as it is now.", body = TokenBody),
        (status = 403, description = "`insufficient_scope`: the change makes the token permit more, and the caller's own lacks scopes that it then has; \
            `lacking_scopes` names them. `networks_too_wide`: the same of networks; `networks` are those of the caller's token. `schemes_too_wide`: the same of the token's schemes.", body = ErrorBody),
        (status = 404, description = "`token_not_found`: there is no such token, or it is not the caller's.", body = ErrorBody),
        (status = 409, description = "`token_not_active`: the token is expired or revoked; `token_status` says which. `user_not_active`: its user was deleted.", body = ErrorBody),
        (status = 422, description = "`expiry_too_long`: it would live longer than is allowed; `max_lifetime` says how long that is, `latest_expires_at` until when, and `asked_for` what was asked for. \
            `outlives_maker`: the change makes the token permit more, or expire later, and then it expires later than the caller's own; `latest_expires_at` says when that is.", body = ErrorBody),
    ),
)]
pub(super) async fn update_token(
    own: OwnToken,
    _: NoParameters,
    State(app): State<App>,
    Body(body): Body<TokenPatchBody>,
) -> Result<Json<TokenBody>, ApiError> {
    let patch = body.check()?;
    let token = app.store.update_token(&own.origin_of_counted(&app)?, own.token.id, &patch).await?;
    Ok(Json(TokenBody::of(token, app.sources.now())))
}
