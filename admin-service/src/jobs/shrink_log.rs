//! Gives the disk back what SQLite's log took while somebody read the database for long. Every process does this for itself: it is
//! no job that replicas share.

use std::time::Duration;

use crate::error::chain;
use crate::lifecycle::Shutdown;
use crate::store::Store;

/// How often the size of the log is looked at, which costs nothing.
const EVERY: Duration = Duration::from_secs(1);

/// Looks after the log until the service ends.
pub async fn keep_log_small(store: Store, mut shutdown: Shutdown) {
    while !shutdown.requested_within(EVERY).await {
        if let Err(error) = store.shrink_log().await {
            tracing::debug!(cause = chain(&error), "the database's log cannot be written back now");
        }
    }
}
