//! `/audit`: who did what.

mod export;
mod get;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::bad_parameter;
use crate::app::App;
use crate::domain::audit::{AuditEntry, AuditFilter};
use crate::domain::time::Timestamp;
use crate::error::ApiError;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::list_audit)).merge(export::routes())
}

/// The query parameters that say which entries, as they came.
struct Filter<'a> {
    actor: Option<&'a str>,
    action: Option<&'a str>,
    subject: Option<&'a str>,
    since: Option<&'a str>,
    until: Option<&'a str>,
}

impl Filter<'_> {
    fn check(&self) -> Result<AuditFilter, ApiError> {
        let (since, until) = (parameter("since", self.since)?, parameter("until", self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(bad_parameter("until", &format!("must be later than `since`, which is {since}")));
        }
        Ok(AuditFilter {
            actor: parameter("actor", self.actor)?,
            action: parameter("action", self.action)?,
            subject: parameter("subject", self.subject)?,
            since,
            until,
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
    /// A user's name, `system:scheduler`, `system:bootstrap` or `system:local` (another command beside the database).
    #[schema(example = "alice")]
    actor: String,
    /// The token that the actor used.
    #[schema(format = Uuid)]
    token_id: Option<String>,
    #[schema(example = "token.created")]
    action: String,
    /// What it was done to.
    #[schema(example = "0198c0de-0000-7000-8000-000000000001")]
    subject: String,
    /// Where the request came from.
    #[schema(example = "192.0.2.1")]
    address: Option<String>,
    /// The `x-request-id` of the answer to the request, by which the service's log names it.
    request_id: Option<String>,
    /// The `x-request-id` that the caller has sent, cut at 128 characters, with `_` for what is not plain. It proves nothing.
    #[schema(example = "ticket-7")]
    client_request_id: Option<String>,
    /// More about it; never a secret. Where something was made or changed, `before` and `after` tell what it was and what
    /// it is: all of it, or the fields that differ.
    #[schema(value_type = Object, example = json!({"before": {"active": true}, "after": {"active": false}}))]
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
            client_request_id: origin.client_request_id.map(|id| id.to_string()),
            details: entry.details,
        }
    }
}
