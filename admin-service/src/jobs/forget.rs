//! Forgets what is old: the changes that no edge is told of any more, edges that report no more, the usage of hours long
//! past, and entries of the audit log that are older than it is kept.
//!
//! Every replica sees to it every ten minutes and when it is asked to: whoever has the lease then does it, and finds nothing
//! where another has just done it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

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

/// What is forgotten, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Forgetting {
    /// Where it is.
    pub store: Store,
    /// The lease of the one who does it.
    pub lease: Lease,
    /// How long the audit log is kept; `None`: for ever.
    pub audit_kept: Option<Period>,
    /// Tells that it shall be done now.
    pub asked: Arc<Notify>,
}

/// Runs the job now, and again and again.
pub(super) async fn keep_running(forgetting: &Forgetting) {
    loop {
        let rest = match run(forgetting).await {
            Ok(()) | Err(StoreError::LeaseLost | StoreError::ClockInDoubt(_)) => EVERY,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is old cannot be forgotten now"
                );
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = forgetting.asked.notified() => {}
        }
    }
}

/// Runs the job once, and notes how it went.
async fn run(forgetting: &Forgetting) -> Result<(), StoreError> {
    let Forgetting { store, lease, .. } = forgetting;
    store.look_at_clock().await?;
    if let Some(hold) = store.clock_hold() {
        return Err(StoreError::ClockInDoubt(hold));
    }
    store.acquire_lease(lease).await?;
    let mut forgotten = 0;
    let ran = batches(forgetting, &mut forgotten).await;
    if matches!(ran, Err(StoreError::LeaseLost)) {
        return ran;
    }
    let error = ran.as_ref().err().map(ToString::to_string);
    ran.and(store.finish_run(lease, forgotten, error.as_deref()).await)
}

async fn batches(forgetting: &Forgetting, forgotten: &mut u64) -> Result<(), StoreError> {
    let Forgetting { store, lease, .. } = forgetting;
    while count(store.forget_changes_batch(lease).await?, forgotten) {}
    while count(store.forget_usage_batch(lease).await?, forgotten) {}
    *forgotten += store.forget_surplus_edges().await?;
    if let Some(kept) = forgetting.audit_kept {
        while count(store.forget_audit_batch(lease, kept).await?, forgotten) {}
    }
    Ok(())
}

/// Counts what a batch forgot, and says whether there may be more.
fn count(batch: Batch, forgotten: &mut u64) -> bool {
    *forgotten += batch.deleted;
    batch.more
}
