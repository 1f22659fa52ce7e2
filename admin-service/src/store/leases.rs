//! Leases: which replica runs a job. A lease that is not renewed in time is anybody's.

use std::fmt;

use sqlx::query;

use super::Store;
use super::error::StoreError;
use super::row::millis;
use super::transaction::{Tx, Work};
use crate::domain::period::Period;
use crate::domain::time::Timestamp;

/// A replica that holds leases, by a name that no other has and operators recognise.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Holder(pub String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lease of one job, as one replica asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: &'static str,
    /// Who asks.
    pub holder: Holder,
    /// How long it holds unless it is renewed.
    pub lasts: Period,
}

impl Lease {
    /// Ends further off than this are nobody's: the clock of whoever wrote them was set back since.
    fn farthest(&self, now: Timestamp) -> Timestamp {
        Period::from_millis(self.lasts.as_millis().saturating_mul(10)).after(now)
    }
}

impl Store {
    /// Takes the lease for a new run, unless another holds it.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another holds it; [`StoreError::Unavailable`].
    pub async fn acquire_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.write(&Acquire(lease)).await
    }

    /// Gives the lease back, if it is still held.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the lease then ends by itself.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.write(&Release(lease)).await
    }
}

struct Acquire<'a>(&'a Lease);

impl Work for Acquire<'_> {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let now = tx.now();
        let taken = query(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = $2, expires_at = $3, deleted = 0 \
             WHERE leases.holder = $2 OR leases.expires_at <= $4 OR leases.expires_at > $5",
        )
        .bind(self.0.job)
        .bind(self.0.holder.0.clone())
        .bind(millis(self.0.lasts.after(now)))
        .bind(millis(now))
        .bind(millis(self.0.farthest(now)))
        .execute(&mut *tx.connection)
        .await?;
        if taken.rows_affected() > 0 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }
}

struct Release<'a>(&'a Lease);

impl Work for Release<'_> {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        query("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(self.0.job)
            .bind(self.0.holder.0.clone())
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}

/// Renews the lease in a transaction that does what only its holder may. The row stays locked until the transaction
/// ends, so nobody takes it over meanwhile.
pub(super) async fn renew(tx: &mut Tx<'_>, lease: &Lease) -> Result<(), StoreError> {
    let now = tx.now();
    let renewed = query("UPDATE leases SET expires_at = $1 WHERE name = $2 AND holder = $3")
        .bind(millis(lease.lasts.after(now)))
        .bind(lease.job)
        .bind(lease.holder.0.clone())
        .execute(&mut *tx.connection)
        .await?;
    if renewed.rows_affected() > 0 { Ok(()) } else { Err(StoreError::LeaseLost) }
}

/// Notes that the run which holds the lease has deleted so many more, in the transaction that does.
pub(super) async fn note_deleted(tx: &mut Tx<'_>, lease: &Lease, deleted: u64) -> Result<(), StoreError> {
    query("UPDATE leases SET deleted = deleted + $1 WHERE name = $2")
        .bind(i64::try_from(deleted).unwrap_or(i64::MAX))
        .bind(lease.job)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}
