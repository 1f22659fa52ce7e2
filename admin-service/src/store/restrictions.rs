//! The restrictions: one row.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::Columns;
use super::transaction::{Tx, Work};
use super::{Store, audit};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::period::Period;
use crate::domain::restrictions::{DeleteExpired, Restrictions};

impl Store {
    /// The restrictions in force.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn restrictions(&self) -> Result<Restrictions, StoreError> {
        restrictions(&self.one(query("SELECT * FROM restrictions")).await?)
    }

    /// Puts restrictions in force. Tokens that exist keep their expiry, and users keep their tokens.
    ///
    /// # Errors
    /// [`StoreError::InvalidRestriction`], [`StoreError::Unavailable`].
    pub async fn put_restrictions(
        &self,
        origin: &Origin,
        restrictions: &Restrictions,
    ) -> Result<Restrictions, StoreError> {
        restrictions.check()?;
        let put = self.write(&Put { origin, restrictions }).await?;
        self.0.restrictions_changed.send_replace(());
        Ok(put)
    }
}

struct Put<'a> {
    origin: &'a Origin,
    restrictions: &'a Restrictions,
}

impl Work for Put<'_> {
    type Output = Restrictions;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
        let before = lock(tx).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        let after = *self.restrictions;
        // As they are written: "24h" in the place of "1d" is a change, as it reads back.
        let details = json!({ "before": before, "after": after });
        if details.get("before") == details.get("after") {
            return Ok(after);
        }
        let now = tx.now();
        save(tx, &after).await?;
        audit::record(tx, &by, Action::RestrictionsUpdated, Subject::restrictions(), details, now).await?;
        Ok(after)
    }
}

/// The restrictions as a transaction sees them.
pub(super) async fn current(tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
    restrictions(&query("SELECT * FROM restrictions").fetch_one(&mut *tx.connection).await?)
}

/// Locks the restrictions until the transaction ends, and reads them.
pub(super) async fn lock(tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
    let statement = query("UPDATE restrictions SET singleton = singleton RETURNING *");
    restrictions(&statement.fetch_one(&mut *tx.connection).await?)
}

async fn save(tx: &mut Tx<'_>, restrictions: &Restrictions) -> Result<(), StoreError> {
    query(
        "UPDATE restrictions SET max_lifetime_ms = $1, max_tokens_per_user = $2, delete_expired_enabled = $3, \
         delete_expired_after_ms = $4, delete_expired_every_ms = $5, max_lifetime_unit = $6, \
         delete_expired_after_unit = $7, delete_expired_every_unit = $8",
    )
    .bind(restrictions.max_lifetime.map(stored_period))
    .bind(restrictions.max_tokens_per_user.map(i64::from))
    .bind(i64::from(restrictions.delete_expired.enabled))
    .bind(stored_period(restrictions.delete_expired.after))
    .bind(stored_period(restrictions.delete_expired.every))
    .bind(restrictions.max_lifetime.map(Period::unit))
    .bind(restrictions.delete_expired.after.unit())
    .bind(restrictions.delete_expired.every.unit())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A period as it is stored.
pub(super) fn stored_period(period: Period) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

/// A period of so many milliseconds, written in the unit that this column holds.
pub(super) fn period(row: &AnyRow, millis: u64, unit: &str) -> Result<Period, StoreError> {
    let unit = row.text_or_null(unit)?;
    Ok(Period::from_millis(millis).written_in(unit.as_deref().unwrap_or_default()))
}

/// Reads the restrictions from their row.
pub(super) fn restrictions(row: &AnyRow) -> Result<Restrictions, StoreError> {
    let max_lifetime = row.number_or_null("max_lifetime_ms")?;
    Ok(Restrictions {
        max_lifetime: max_lifetime.map(|most| period(row, most, "max_lifetime_unit")).transpose()?,
        max_tokens_per_user: row.number_or_null("max_tokens_per_user")?,
        delete_expired: delete_expired(row)?,
    })
}

/// When expired tokens are deleted, from a row of the restrictions.
pub(super) fn delete_expired(row: &AnyRow) -> Result<DeleteExpired, StoreError> {
    Ok(DeleteExpired {
        enabled: row.flag("delete_expired_enabled")?,
        after: period(row, row.number("delete_expired_after_ms")?, "delete_expired_after_unit")?,
        every: period(row, row.number("delete_expired_every_ms")?, "delete_expired_every_unit")?,
    })
}
