//! `GET /edge/v1/changes`: which verdicts may have changed, held until some have.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::verify::Edge;
use crate::api::extract::{Parameters, bad_parameter};
use crate::app::App;
use crate::domain::changes::Position;
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Epoch, Revision};
use crate::error::{ApiError, chain};
use crate::feed::{Form, Unanswered};
use crate::server::LoggedElsewhere;
use crate::store::StoreError;
use crate::telemetry::CHANGES_ANSWERED;

/// Tells an edge how old the oldest change of an answer is: what its metric of the time from change to eviction is made of.
const CHANGE_AGE: HeaderName = HeaderName::from_static(latchkey::wire::CHANGE_AGE);
/// How long an edge waits that does not say how long.
const WAIT: Duration = Duration::from_millis(25_000);
/// How long one may wait at most, in milliseconds.
const LONGEST_MS: u64 = 60_000;

/// Where the edge is, and how long it waits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesQuery {
    epoch: Option<String>,
    after: Option<String>,
    wait_ms: Option<String>,
}

impl ChangesQuery {
    /// The edge's position, if it has one: both parts of it.
    fn position(&self) -> Result<Option<Position>, ApiError> {
        let after = self.after.as_deref().map(number).transpose();
        let after = after.map_err(|_| bad_parameter("after", &"must be a revision: a whole number"))?;
        Ok(self
            .epoch
            .clone()
            .zip(after)
            .map(|(epoch, after)| Position { epoch: Epoch(epoch), revision: Revision(after) }))
    }

    fn wait(&self) -> Result<Duration, ApiError> {
        let Some(text) = &self.wait_ms else { return Ok(WAIT) };
        match number(text) {
            Ok(millis) if millis <= LONGEST_MS => Ok(Duration::from_millis(millis)),
            _ => Err(bad_parameter("wait_ms", &format!("must be a whole number from 0 to {LONGEST_MS}"))),
        }
    }
}

/// In which form the edge is told: that of the contract, unless it asks for the one of this version's filter.
fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let name = latchkey::wire::PREFIX_OFFSET;
    let Some(value) = headers.get(name) else { return Ok(Form::Hashes) };
    match value.to_str().map_err(|_| ()).and_then(number) {
        Ok(offset) => Ok(Form::Prefixes { offset }),
        Err(()) => Err(bad_parameter(name, &"must be a whole number")),
    }
}

/// Digits alone, without the sign that the standard library allows.
fn number(text: &str) -> Result<u64, ()> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().map_err(|_| ()) } else { Err(()) }
}

/// Answers at once where there are changes after the edge's position, or it is none; else when there are, or after the
/// time to wait.
///
/// # Errors
/// 400 for parameters that cannot be, 503 when changes cannot be told: an edge takes no answer for no changes.
pub async fn changes(
    _: Edge,
    Parameters(query): Parameters<ChangesQuery>,
    headers: HeaderMap,
    State(app): State<App>,
) -> Result<Response, ApiError> {
    let (at, wait, form) = (query.position()?, query.wait()?, form(&headers)?);
    // Of those who wait, thousands perhaps, nothing more is kept than is needed.
    drop((query, headers));
    match app.feed.answer_in(form, at.as_ref(), wait).await {
        Ok(answer) => {
            metrics::counter!(CHANGES_ANSWERED, "outcome" => answer.outcome.as_str()).increment(1);
            let json = HeaderValue::from_static(latchkey::wire::CONTENT_TYPE);
            let mut response = ([(CONTENT_TYPE, json)], answer.body).into_response();
            if let Some(oldest) = answer.oldest {
                response.headers_mut().insert(CHANGE_AGE, age(oldest, app.sources.now()).into());
            }
            Ok(response)
        }
        Err(problem) => Ok(unanswered(&problem)),
    }
}

/// How old a change is, in milliseconds. It was made by another replica's clock, perhaps.
fn age(change: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(change).as_millis()).unwrap_or(0)
}

/// The answer where there is none. The feed itself logs that it has lost its database, once and not for each edge.
fn unanswered(problem: &Unanswered) -> Response {
    metrics::counter!(CHANGES_ANSWERED, "outcome" => "unavailable").increment(1);
    if !matches!(problem, Unanswered::Lost | Unanswered::NotBootstrapped) {
        tracing::debug!(cause = chain(problem), "an edge cannot be told of changes");
    }
    let error = match problem {
        Unanswered::Full => ApiError::unavailable("Too many edges wait for changes already; try again"),
        Unanswered::NotBootstrapped | Unanswered::Store(StoreError::NotBootstrapped) => {
            StoreError::NotBootstrapped.into()
        }
        _ => ApiError::unavailable("The service cannot tell of changes now; try again"),
    };
    (Extension(LoggedElsewhere), error).into_response()
}
