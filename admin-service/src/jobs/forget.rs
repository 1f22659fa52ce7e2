//! Forgets what is old: the changes that no edge is told of any more, edges that report no more, and the usage of hours
//! long past.
//!
//! Every replica sees to it every ten minutes: whoever has the lease then does it, and finds nothing where another has
//! just done it.

use std::time::Duration;

use crate::domain::period::Period;
use crate::store::{Batch, Holder, Lease, Store, StoreError};

/// The job's name in the tables of leases and jobs.
pub const JOB: &str = "forget";
/// How often it runs, and after how long again when it has failed.
const EVERY: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(60);

/// The job's lease in the name of a replica.
pub(super) fn lease(holder: Holder, lasts: Period) -> Lease {
    Lease { job: JOB, holder, lasts }
}

/// Runs the job now, and again and again.
pub(super) async fn keep_running(store: &Store, lease: &Lease) {
    loop {
        let rest = match run(store, lease).await {
            Ok(()) | Err(StoreError::LeaseLost) => EVERY,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is old cannot be forgotten now"
                );
                RETRY
            }
        };
        tokio::time::sleep(rest).await;
    }
}

/// Runs the job once, and notes how it went.
async fn run(store: &Store, lease: &Lease) -> Result<(), StoreError> {
    store.acquire_lease(lease).await?;
    let mut forgotten = 0;
    let ran = batches(store, lease, &mut forgotten).await;
    if matches!(ran, Err(StoreError::LeaseLost)) {
        return ran;
    }
    let error = ran.as_ref().err().map(ToString::to_string);
    ran.and(store.finish_run(lease, forgotten, error.as_deref()).await)
}

async fn batches(store: &Store, lease: &Lease, forgotten: &mut u64) -> Result<(), StoreError> {
    while count(store.forget_changes_batch(lease).await?, forgotten) {}
    while count(store.forget_usage_batch(lease).await?, forgotten) {}
    Ok(())
}

/// Counts what a batch forgot, and says whether there may be more.
fn count(batch: Batch, forgotten: &mut u64) -> bool {
    *forgotten += batch.deleted;
    batch.more
}
