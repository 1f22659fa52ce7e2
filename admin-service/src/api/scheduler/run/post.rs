//! `POST /scheduler/run`: deletes now what is due.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::extract::NoParameters;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody, sentence};
use crate::jobs::RunError;
use crate::json::Json;

/// How long the answer waits for the run to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a run did.
#[derive(Serialize, ToSchema)]
#[schema(as = Run)]
pub(super) struct RunBody {
    /// Whether it has ended.
    finished: bool,
    /// How many tokens it deleted; null while it goes on.
    deleted: Option<u64>,
}

/// Run the scheduler now
///
/// Whether it is enabled or not. A run that takes longer than the answer waits goes on. Entries of the audit log that are
/// older than it is kept are deleted then too.
#[utoipa::path(
    post, path = "/scheduler/run", tag = "scheduler",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    responses(
        (status = 200, description = "The run has ended.", body = RunBody, example = json!({"finished": true, "deleted": 3})),
        (status = 202, description = "The run goes on; `GET /scheduler` tells how far it has come.", body = RunBody,
         example = json!({"finished": false, "deleted": null})),
        (status = 409, description = "`scheduler_running`: another replica is at it.", body = ErrorBody),
    ),
)]
pub(super) async fn run_scheduler(
    admin: Admin,
    _: NoParameters,
    State(app): State<App>,
) -> Result<(StatusCode, Json<RunBody>), ApiError> {
    match tokio::time::timeout(PATIENCE, app.scheduler.run_now(admin.origin())).await {
        Ok(Ok(run)) => Ok((StatusCode::OK, Json(RunBody { finished: true, deleted: Some(run.deleted) }))),
        Ok(Err(RunError::Store(error))) => Err(error.into()),
        Ok(Err(RunError::Ending)) => Err(ApiError::unavailable("The service is ending; try again")),
        Ok(Err(running @ RunError::Running { .. })) => {
            Err(ApiError::new(Code::SchedulerRunning, sentence(&running)))
        }
        Err(_) => Ok((StatusCode::ACCEPTED, Json(RunBody { finished: false, deleted: None }))),
    }
}
