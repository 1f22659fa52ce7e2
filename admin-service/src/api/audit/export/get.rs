//! `GET /audit:export`: all entries, as JSON Lines.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::lines::{self, Pages};
use crate::api::audit::{AuditBody, Filter};
use crate::api::extract::Parameters;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::audit::AuditFilter;
use crate::domain::period::Period;
use crate::error::ApiError;

/// Which entries to export: those that meet all that is given.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// By this user, `system:scheduler`, `system:bootstrap` or `system:local`.
    actor: Option<String>,
    /// Of this kind, such as `token.created`.
    action: Option<String>,
    /// To this: a user's name, a token's identifier, `restrictions`, `scheduler` or `audit`.
    #[param(min_length = 1, max_length = 64)]
    subject: Option<String>,
    /// Not before this time.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time; by default now.
    #[param(format = DateTime)]
    until: Option<String>,
}

impl ExportQuery {
    fn filter(&self) -> Result<AuditFilter, ApiError> {
        let (actor, action) = (self.actor.as_deref(), self.action.as_deref());
        let (subject, since, until) = (self.subject.as_deref(), self.since.as_deref(), self.until.as_deref());
        Filter { actor, action, subject, since, until }.check()
    }
}

/// What the lines are called: plain text for a caller that wants that and does not name them. Generated clients know it.
fn content_type(headers: &HeaderMap) -> &'static str {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_plain = accept.contains("text/plain") && !accept.contains(lines::CONTENT_TYPE_OF_LINES);
    if is_plain { "text/plain; charset=utf-8" } else { lines::CONTENT_TYPE_OF_LINES }
}

/// Export the audit log
///
/// One entry per line, the oldest first, as long as it may be. To go on from an earlier export, ask for what came `since`
/// its last entry. An answer that breaks off without its proper end is not complete.
/// With `Accept: text/plain` the same lines are called plain text.
#[utoipa::path(
    get, path = "/audit:export", tag = "audit",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(ExportQuery),
    responses(
        (status = 200, description = "The entries, one JSON object per line.", content(
            (AuditBody = lines::CONTENT_TYPE_OF_LINES),
            (String = "text/plain"),
        )),
    ),
)]
pub(super) async fn export_audit(
    _: Admin,
    Parameters(query): Parameters<ExportQuery>,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let mut filter = query.filter()?;
    // What is done meanwhile is left out, or an export might never end.
    filter.until.get_or_insert_with(|| Period::from_millis(1).after(app.sources.now()));
    let pages = Pages::begin(app.store.clone(), filter).await?;
    Ok(([(CONTENT_TYPE, content_type(&headers))], Body::new(pages)))
}
