//! Waiting for conditions, with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant, SystemTime};

/// How long anything that should happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Now, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Now, by the clock that the service's times are of, in Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "tests compare with real times of the service")]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(since.as_millis()).expect("64 bits of milliseconds")
}

/// What `attempt` gives, as soon as it gives something; panics with `what` after [`PATIENCE`].
pub async fn until<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, attempt).await
}

/// As [`until`], with a deadline of the caller's.
pub async fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
