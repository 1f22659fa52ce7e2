//! `/tokens`: tokens of all users, and each by its identifier.

pub(in crate::api) mod created;
pub(in crate::api) mod fields;
pub(in crate::api) mod get;
mod id;
mod itself;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::domain::token::{Token, TokenStatus};
use crate::store::Revoked;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::search_tokens)).merge(itself::routes()).merge(id::routes())
}

/// The answer to a revocation: the revision by which an edge refuses all that was revoked.
fn revoked(done: &Revoked) -> impl IntoResponse + use<> {
    (StatusCode::NO_CONTENT, [("latchkey-revision", done.revision.to_string())])
}

/// A token, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenBody {
    #[schema(format = Uuid)]
    id: String,
    /// What the owner knows it by.
    #[schema(example = "ci")]
    name: String,
    /// A note.
    description: Option<String>,
    /// The name of the user that it acts for.
    #[schema(example = "alice")]
    user: String,
    /// Its first characters, by which an owner recognises it.
    #[schema(example = "lk_a1B2")]
    hint: String,
    /// What it may be presented with.
    #[schema(example = json!(["bearer", "basic"]))]
    schemes: Vec<String>,
    /// What it permits.
    #[schema(example = json!(["read"]))]
    scopes: Vec<String>,
    /// The networks that it may be used from; none listed: from anywhere.
    #[schema(example = json!(["10.0.0.0/8"]))]
    allowed_cidrs: Vec<String>,
    /// The token that it was made with, or where that one was deleted, the nearest of its own makers that is left. null: it was
    /// made beside the service, as by `latchkey bootstrap`, or none of its makers is left.
    #[schema(format = Uuid)]
    made_by: Option<String>,
    #[schema(value_type = String, pattern = "^(active|expired|revoked)$", example = "active")]
    status: TokenStatus,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it is expired; null: never.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    expires_at: Option<Timestamp>,
    /// Seconds until then, rounded up, so 0 when it is over; null: never.
    #[schema(example = 2_592_000)]
    expires_in_seconds: Option<u64>,
    /// When it was last used, to the minute; null: not yet, as far as is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked; null: it was not.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl TokenBody {
    pub(super) fn of(token: Token, now: Timestamp) -> Self {
        let scheme = |scheme: &latchkey::wire::Scheme| match scheme {
            latchkey::wire::Scheme::Bearer => "bearer".to_owned(),
            latchkey::wire::Scheme::Basic => "basic".to_owned(),
        };
        Self {
            status: token.status(now),
            expires_in_seconds: token.expires_in_ms(now).map(|left| left.div_ceil(1000)),
            id: token.id.to_string(),
            name: token.name.to_string(),
            description: token.description.map(|text| text.to_string()),
            user: token.user.to_string(),
            hint: token.hint,
            schemes: token.schemes.as_slice().iter().map(scheme).collect(),
            scopes: token.scopes.iter().map(ToString::to_string).collect(),
            allowed_cidrs: token.allowed_cidrs.as_slice().iter().map(ToString::to_string).collect(),
            made_by: token.made_by.map(|id| id.to_string()),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
        }
    }
}
