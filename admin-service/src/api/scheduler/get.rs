//! `GET /scheduler`: how the deletion of expired tokens goes.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::time::Timestamp;
use crate::error::ApiError;
use crate::jobs::delete_expired::JOB;
use crate::json::Json;
use crate::store::SchedulerState;

/// How the deletion of expired tokens goes.
#[derive(Serialize, ToSchema)]
#[schema(as = Scheduler)]
pub(super) struct SchedulerBody {
    /// Whether it runs without being asked to.
    enabled: bool,
    /// How long an expired token is kept; one that never expires, so long after it was revoked, and a deleted user too.
    #[schema(example = "30d")]
    after: String,
    /// How often it runs.
    #[schema(example = "1h")]
    every: String,
    /// When it last ended; null: never yet.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-01T00:00:00Z")]
    last_run_at: Option<Timestamp>,
    /// How many tokens and users the last run deleted.
    #[schema(example = 3)]
    last_deleted: Option<u64>,
    /// Why the last run failed, if it did.
    last_error: Option<String>,
    /// When it runs next; null: not by itself.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-01T01:00:00Z")]
    next_run_at: Option<Timestamp>,
    /// The replica that is running it now.
    holder: Option<String>,
    /// How many tokens and users that run has deleted so far; null: it does not run.
    #[schema(example = 1200)]
    deleted_so_far: Option<u64>,
    /// Why nothing is deleted by time for now, though it may be due: the clock may be wrong; null: it is not in doubt. A run that is
    /// asked for goes on all the same.
    #[schema(example = json!(null))]
    paused: Option<String>,
}

/// How the scheduler is doing
///
/// Its settings are part of the restrictions.
#[utoipa::path(
    get, path = "/scheduler", tag = "scheduler",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    responses((status = 200, description = "Its settings, its last run and its next.", body = SchedulerBody)),
)]
pub(super) async fn get_scheduler(
    _: Admin,
    _: NoParameters,
    State(app): State<App>,
) -> Result<Json<SchedulerBody>, ApiError> {
    let state = app.store.scheduler_state(JOB).await?;
    let now = app.sources.now();
    let paused = paused(&app, &state, now);
    Ok(Json(SchedulerBody {
        enabled: state.delete_expired.enabled,
        after: state.delete_expired.after.to_string(),
        every: state.delete_expired.every.to_string(),
        next_run_at: state.next_run_at(now),
        last_run_at: state.last_run_at,
        last_deleted: state.last_deleted,
        last_error: state.last_error,
        holder: state.holder.map(|holder| holder.to_string()),
        deleted_so_far: state.deleted_so_far,
        paused,
    }))
}

/// Why nothing is deleted by time now.
fn paused(app: &App, state: &SchedulerState, now: Timestamp) -> Option<String> {
    let doubted = state.held_until(now).zip(state.doubt.as_ref());
    match doubted {
        Some((end, (_, doubt))) => {
            Some(format!("{doubt}; nothing is deleted by time until {end}, if it is steady"))
        }
        None => app.store.clock_hold().map(|hold| hold.to_string()),
    }
}
