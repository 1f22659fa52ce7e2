//! Deletes tokens that have ended, and users who were deleted, for as long as the restrictions say.
//!
//! Due is a token whose `expires_at + after <= now`, revoked or not. One that never expires is due so long after it was
//! revoked. A user is due so long after it was deleted, with all its tokens. What may still be used is never due.

use crate::domain::audit::Origin;
use crate::store::{Lease, Store, StoreError, Trigger};

/// The job's name in the tables of leases and jobs.
pub const JOB: &str = "delete_expired";

/// Deletes all that is due, batch by batch, and counts it in `deleted` as it goes. The caller holds the lease.
///
/// # Errors
/// [`StoreError::LeaseLost`] when another replica took over; [`StoreError::Unavailable`]. What was deleted before stays
/// deleted and counted.
pub(super) async fn run(
    store: &Store,
    lease: &Lease,
    origin: &Origin,
    trigger: Trigger,
    deleted: &mut u64,
) -> Result<(), StoreError> {
    loop {
        let batch = store.delete_expired_batch(origin, lease, trigger).await?;
        *deleted += batch.deleted;
        metrics::counter!("latchkey_expired_tokens_deleted_total").increment(batch.deleted);
        if !batch.more {
            return Ok(());
        }
    }
}
