//! `GET /audit`: who did what, when and from where.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{Parameters, bad_parameter};
use crate::api::page::{PageBody, page_request};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::audit::{AuditEntry, AuditFilter};
use crate::error::ApiError;

/// Which entries to list: those that meet all that is given.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// By this user, `system:scheduler` or `system:bootstrap`.
    actor: Option<String>,
    /// Of this kind, such as `token.created`.
    action: Option<String>,
    /// To this: a user's name, a token's identifier, `restrictions` or `scheduler`.
    subject: Option<String>,
    /// Not before this time.
    #[param(format = DateTime)]
    since: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, ApiError> {
        let since = |text: &str| {
            text.parse::<Timestamp>().map_err(|_| {
                bad_parameter("since", &"must be a time such as 2030-12-31T00:00:00Z (RFC 3339)")
            })
        };
        Ok(AuditFilter {
            actor: parameter("actor", self.actor.as_deref())?,
            action: parameter("action", self.action.as_deref())?,
            subject: parameter("subject", self.subject.as_deref())?,
            since: self.since.as_deref().map(since).transpose()?,
        })
    }
}

fn parameter<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    value: Option<&str>,
) -> Result<Option<T>, ApiError> {
    value.map(str::parse).transpose().map_err(|problem| bad_parameter(name, &problem))
}

/// One thing that was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditBody {
    #[schema(format = Uuid)]
    id: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// A user's name, `system:scheduler` or `system:bootstrap`.
    #[schema(example = "alice")]
    actor: String,
    /// The token that the actor used.
    #[schema(format = Uuid)]
    token_id: Option<String>,
    #[schema(example = "token.created")]
    action: String,
    /// What it was done to.
    subject: String,
    /// Where the request came from.
    #[schema(example = "192.0.2.1")]
    address: Option<String>,
    /// The request's `x-request-id`.
    request_id: Option<String>,
    /// More about it; never a secret.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

impl From<AuditEntry> for AuditBody {
    fn from(entry: AuditEntry) -> Self {
        let origin = entry.origin;
        Self {
            id: entry.id.to_string(),
            at: entry.at,
            actor: origin.actor.to_string(),
            token_id: origin.token_id.map(|id| id.to_string()),
            action: entry.action.to_string(),
            subject: entry.subject.as_str().to_owned(),
            address: origin.address.map(|address| address.to_string()),
            request_id: origin.request_id.map(|id| id.to_string()),
            details: entry.details,
        }
    }
}

/// Who did what
///
/// The newest first. Entries are written together with what they record, or not at all.
#[utoipa::path(
    get, path = "/audit", tag = "audit",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(AuditQuery),
    responses((status = 200, description = "A page of entries.", body = PageBody<AuditBody>)),
)]
pub(super) async fn list_audit(
    _: Admin,
    Parameters(query): Parameters<AuditQuery>,
    State(app): State<App>,
) -> Result<Json<PageBody<AuditBody>>, ApiError> {
    let page = page_request(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = app.store.audit(&query.filter()?, page).await?;
    Ok(Json(PageBody::of(page, AuditBody::from)))
}
