//! `POST /edge/v1/usage`: what an edge's tokens were used for.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use latchkey::wire::{UsageReport, UsageResponse};

use super::verify::Edge;
use crate::api::extract::{self, DeclaredJson};
use crate::app::App;
use crate::domain::usage::{InvalidReport, Receipt, Report};
use crate::error::{ApiError, Code, chain};
use crate::store::StoreError;
use crate::telemetry::USAGE_REPORTS;

/// The largest report, in bytes: the most entries, each with the largest numbers, and room for a formatter's taste.
pub const MAX_REPORT: usize = 256 * 1024;

/// Counts a report once, however often it comes. The answer says that it is in the database.
///
/// # Errors
/// 400 for what is no report, 415 for what is not declared as JSON, 413 for one over [`MAX_REPORT`], 503 when the store does not answer: nothing of it is
/// counted then, unless only the answer of the database was lost, which a repetition finds out.
pub async fn usage(
    _: Edge,
    _: DeclaredJson,
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<UsageResponse>), ApiError> {
    let report = read(body).inspect_err(|_| count("refused"))?;
    let Receipt { counted, at } = app.store.count_usage(&report).await.map_err(|error| {
        if let StoreError::ImplausibleUsage(refused) = error {
            count("refused");
            return refusal(&refused);
        }
        count("unavailable");
        if matches!(error, StoreError::NotBootstrapped) {
            return error.into();
        }
        tracing::warn!(cause = chain(&error), "a usage report cannot be counted");
        match error {
            StoreError::Full(_) => error.into(),
            _ => ApiError::unavailable("The service cannot count usage now; send the same report again"),
        }
    })?;
    count(if counted { "counted" } else { "repeated" });
    let answer = UsageResponse { epoch: at.epoch.0, revision: at.revision.0 };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Report, ApiError> {
    let body = body.map_err(|_| extract::too_large(MAX_REPORT, None))?;
    let report: UsageReport = extract::parse(&body)?;
    Report::try_from(report).map_err(|refused| refusal(&refused))
}

fn refusal(refused: &InvalidReport) -> ApiError {
    let message = format!("Field `{}` {refused}", refused.field);
    ApiError::new(Code::InvalidBody, message).with("field", refused.field.as_str())
}

fn count(outcome: &'static str) {
    metrics::counter!(USAGE_REPORTS, "outcome" => outcome).increment(1);
}
