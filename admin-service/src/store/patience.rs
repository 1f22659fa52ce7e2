//! How long a call to the database is waited for, and what becomes of a driver that panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Why a call to the database has no end.
pub(super) enum Unfinished {
    Late,
    Panicked,
}

/// The driver panicked.
pub(super) struct Panicked;

/// A panic of the driver, as of an answer that it cannot be given, is the end of one call and of nothing else.
pub(super) async fn caught<T>(call: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut call = pin!(call);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Waits for a call to the database, for so long.
pub(super) async fn within<T>(patience: Duration, call: impl Future<Output = T>) -> Result<T, Unfinished> {
    match tokio::time::timeout(patience, caught(call)).await {
        Ok(done) => done.map_err(|Panicked| Unfinished::Panicked),
        Err(_) => Err(Unfinished::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_driver_is_the_end_of_one_call_and_of_nothing_else() {
        let patience = Duration::from_secs(60);
        let answers: Vec<u8> = Vec::new();
        let call = async {
            tokio::task::yield_now().await;
            *answers.first().unwrap()
        };
        assert!(matches!(within(patience, call).await, Err(Unfinished::Panicked)));
        assert!(matches!(within(patience, async { 7 }).await, Ok(7)));
        assert!(matches!(within(Duration::ZERO, std::future::pending::<()>()).await, Err(Unfinished::Late)));
    }
}
