//! What requests may cost that are answered as soon as can be, which are all but those of the change feed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// How long a request may take; one that is under way when the service ends is finished by then too.
pub const TIME_LIMIT: Duration = Duration::from_secs(7);
/// How many requests one listener works on at a time; more wait.
const AT_A_TIME: usize = 1024;

/// Sets a router's requests, all together, these limits.
pub fn limited(router: Router) -> Router {
    router.layer(from_fn_with_state(Arc::new(Semaphore::new(AT_A_TIME)), within_limits))
}

/// The answer, or 503 when it takes too long.
async fn within_limits(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let answer = async {
        // Never closed, so this only waits.
        let _slot = slots.acquire().await;
        next.run(request).await
    };
    match tokio::time::timeout(TIME_LIMIT, answer).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("The service took too long to answer; try again").into_response(),
    }
}
