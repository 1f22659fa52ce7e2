//! Forgetting what is old: changes, so that an edge that was away for longer than they are kept begins anew, edges that
//! report no more, the usage of hours long past, and entries of the audit log.

use serde_json::json;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::leases::{Lease, renew};
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use super::{Batch, Store, audit};
use crate::clock::id_at;
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::period::Period;

/// How long changes are kept at least.
pub const RETAINED: Period = Period::from_days(1);
/// How long it is kept which report of an edge was counted last, from then on.
pub const EDGES_RETAINED: Period = Period::from_days(7);
/// How long the usage of an hour is kept, from the hour's beginning.
pub const HOURS_RETAINED: Period = Period::from_days(90);

impl Store {
    /// Forgets some of the changes that are older than [`RETAINED`], the first ones first, if the lease is still held.
    /// Those who are told of changes know from then on that these are gone.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another replica took over; [`StoreError::Unavailable`]. Nothing is forgotten then.
    pub async fn forget_changes_batch(&self, lease: &Lease) -> Result<Batch, StoreError> {
        self.write(&Forget(lease)).await
    }

    /// Forgets some of the edges that have not reported for [`EDGES_RETAINED`] and some of the hours that are older than
    /// [`HOURS_RETAINED`], if the lease is still held.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another replica took over; [`StoreError::Unavailable`]. Nothing is forgotten then.
    pub async fn forget_usage_batch(&self, lease: &Lease) -> Result<Batch, StoreError> {
        self.write(&ForgetUsage(lease)).await
    }
}

impl Store {
    /// Deletes some of the audit log's entries that are older than `kept`, the oldest first, if the lease is still held, and
    /// makes an entry of that. So that this does not happen for each entry alone, nothing is done until the oldest is older by
    /// a tenth, or by a day.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another replica took over; [`StoreError::Unavailable`]. Nothing is deleted then.
    pub async fn forget_audit_batch(&self, lease: &Lease, kept: Period) -> Result<Batch, StoreError> {
        self.write(&ForgetAudit { lease, kept }).await
    }
}

struct ForgetAudit<'a> {
    lease: &'a Lease,
    kept: Period,
}

impl ForgetAudit<'_> {
    /// How much older than what is kept the oldest entry may be.
    fn slack(&self) -> Period {
        Period::from_millis(self.kept.as_millis() / 10).min(Period::from_days(1))
    }
}

impl Work for ForgetAudit<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        renew(tx, self.lease).await?;
        let end = self.kept.before(tx.sure_now()?);
        // Identifiers begin with their time.
        let first = |time| id_at(time, [0; 10]).to_string();
        let due = query("SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT 1");
        let due = due.bind(first(self.slack().before(end))).fetch_optional(&mut *tx.connection).await?;
        if due.is_none() {
            return Ok(Batch { deleted: 0, more: false });
        }
        let statement =
            query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT 100)");
        let deleted = statement.bind(first(end)).execute(&mut *tx.connection).await?.rows_affected();
        let origin = Origin::scheduler();
        let details = json!({ "count": deleted, "older_than": end });
        let by = Confirmed::when_begun(&origin);
        audit::record(tx, &by, Action::AuditDeleted, Subject::audit(), details, tx.now()).await?;
        Ok(Batch { deleted, more: deleted > 0 })
    }
}

struct Forget<'a>(&'a Lease);

impl Work for Forget<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        renew(tx, self.0).await?;
        let old = RETAINED.before(tx.sure_now()?);
        // What came before an old revision is old too, whatever a clock that was wrong has noted.
        let last =
            query("SELECT revision FROM changes WHERE at <= $1 ORDER BY at DESC, revision DESC LIMIT 1");
        let Some(last) = last.bind(millis(old)).fetch_optional(&mut *tx.connection).await? else {
            return Ok(Batch { deleted: 0, more: false });
        };
        let last: i64 = last.number("revision")?;
        // First of all, and in the same transaction, so that nobody takes half a revision for a whole one.
        query("UPDATE history SET retained_after = $1 WHERE singleton = 1 AND retained_after < $1 AND revision >= $1")
            .bind(last)
            .execute(&mut *tx.connection)
            .await?;
        let forgotten = query(
            "DELETE FROM changes WHERE (revision, token_hash) IN (SELECT revision, token_hash FROM changes \
             WHERE revision <= $1 ORDER BY revision, token_hash LIMIT 100)",
        );
        let forgotten = forgotten.bind(last).execute(&mut *tx.connection).await?.rows_affected();
        Ok(Batch { deleted: forgotten, more: forgotten > 0 })
    }
}

struct ForgetUsage<'a>(&'a Lease);

impl Work for ForgetUsage<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        renew(tx, self.0).await?;
        // Asked again for each row, as its edge may just have reported.
        let edges = query(
            "DELETE FROM edges WHERE name IN (SELECT name FROM edges WHERE seen_at <= $1 ORDER BY seen_at, name \
             LIMIT 100) AND seen_at <= $1",
        );
        let old = millis(EDGES_RETAINED.before(tx.sure_now()?));
        let edges = edges.bind(old).execute(&mut *tx.connection).await?.rows_affected();
        let hours = query(
            "DELETE FROM usage_hours WHERE hour IN (SELECT hour FROM usage_hours WHERE hour <= $1 ORDER BY hour LIMIT 100)",
        );
        let old = millis(HOURS_RETAINED.before(tx.sure_now()?));
        let hours = hours.bind(old).execute(&mut *tx.connection).await?.rows_affected();
        Ok(Batch { deleted: edges + hours, more: edges + hours > 0 })
    }
}
