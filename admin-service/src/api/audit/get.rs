//! `GET /audit`: who did what, when and from where.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{AuditBody, Filter};
use crate::api::extract::Parameters;
use crate::api::page::{ListKey, PageBody};
use crate::app::App;
use crate::auth::Admin;
use crate::domain::audit::AuditFilter;
use crate::error::ApiError;
use crate::json::Json;

/// Which entries to list: those that meet all that is given.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
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
    /// Before this time.
    #[param(format = DateTime)]
    until: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before, of the same list with the same filters.
    #[param(pattern = "^[A-Za-z0-9_-]{22,32}[.][A-Za-z0-9_-]{11}$")]
    cursor: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, ApiError> {
        let (actor, action) = (self.actor.as_deref(), self.action.as_deref());
        let (subject, since, until) = (self.subject.as_deref(), self.since.as_deref(), self.until.as_deref());
        Filter { actor, action, subject, since, until }.check()
    }

    fn key(&self) -> ListKey {
        let filters = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("subject", &self.subject),
            ("since", &self.since),
            ("until", &self.until),
        ];
        ListKey::of("audit", &filters.map(|(name, value)| (name, value.as_deref())))
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
    let key = query.key();
    let page = key.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = app.store.audit(&query.filter()?, page).await?;
    Ok(Json(PageBody::of(page, &key, AuditBody::from)))
}
