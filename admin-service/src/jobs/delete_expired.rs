//! Deletes tokens that have been expired for as long as the restrictions say.
//!
//! Due is a token whose `expires_at + after <= now`, revoked or not. A token that never expires is never due, even when
//! it is revoked: it stays as the record of what it was.

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
