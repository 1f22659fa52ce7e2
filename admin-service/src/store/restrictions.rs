//! The restrictions: one row.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::Columns;
use super::transaction::{Tx, Work};
use super::{Store, audit, user_restrictions};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::period::Period;
use crate::domain::restrictions::{DeleteExpired, Restrictions};

impl Store {
    /// The restrictions in force.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn restrictions(&self) -> Result<Restrictions, StoreError> {
        restrictions(&self.one(query("SELECT * FROM restrictions WHERE singleton = 1")).await?)
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
        self.put(&Put { origin, restrictions, spare_caller: false }).await
    }

    /// The same, where [`Self::shorten_existing_tokens`] is to follow: refused if that would end the token that asks, for there
    /// may be no other administrator's.
    ///
    /// # Errors
    /// [`StoreError::CallerWouldExpire`]; else as [`Self::put_restrictions`].
    pub async fn put_restrictions_for_existing_tokens(
        &self,
        origin: &Origin,
        restrictions: &Restrictions,
    ) -> Result<Restrictions, StoreError> {
        restrictions.check()?;
        self.put(&Put { origin, restrictions, spare_caller: true }).await
    }

    async fn put(&self, put: &Put<'_>) -> Result<Restrictions, StoreError> {
        let put = self.write(put).await?;
        self.0.restrictions_changed.send_replace(());
        Ok(put)
    }
}

struct Put<'a> {
    origin: &'a Origin,
    restrictions: &'a Restrictions,
    /// Whether the token that asks must be one that may last beyond now.
    spare_caller: bool,
}

impl Work for Put<'_> {
    type Output = Restrictions;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
        let before = lock(tx).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        let after = *self.restrictions;
        if self.spare_caller {
            self.check_caller(tx).await?;
        }
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

impl Put<'_> {
    /// Refuses restrictions by which the token that asks is too old.
    async fn check_caller(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Some(token) = self.origin.token_id else { return Ok(()) };
        let asking = query(
            "SELECT t.created_at, u.own_max_lifetime_ms, u.own_max_tokens FROM tokens t \
             JOIN users u ON u.id = t.user_id WHERE t.id = $1",
        );
        let row = asking.bind(token.to_string()).fetch_one(&mut *tx.connection).await?;
        let made = row.time("created_at")?;
        match user_restrictions::own(&row)?.limits(self.restrictions).lifetime.most {
            Some(most) if most.after(made) <= tx.now() => Err(StoreError::CallerWouldExpire { made, most }),
            _ => Ok(()),
        }
    }
}

/// The restrictions as a transaction sees them.
pub(super) async fn current(tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
    restrictions(
        &query("SELECT * FROM restrictions WHERE singleton = 1").fetch_one(&mut *tx.connection).await?,
    )
}

/// Locks the restrictions until the transaction ends, and reads them.
pub(super) async fn lock(tx: &mut Tx<'_>) -> Result<Restrictions, StoreError> {
    let statement = query("UPDATE restrictions SET singleton = singleton WHERE singleton = 1 RETURNING *");
    restrictions(&statement.fetch_one(&mut *tx.connection).await?)
}

async fn save(tx: &mut Tx<'_>, restrictions: &Restrictions) -> Result<(), StoreError> {
    query(
        "UPDATE restrictions SET max_lifetime_ms = $1, max_tokens_per_user = $2, delete_expired_enabled = $3, \
         delete_expired_after_ms = $4, delete_expired_every_ms = $5, outlive_maker = $6, max_lifetime_unit = $7, \
         delete_expired_after_unit = $8, delete_expired_every_unit = $9 WHERE singleton = 1",
    )
    .bind(restrictions.max_lifetime.map(stored_period))
    .bind(restrictions.max_tokens_per_user.map(i64::from))
    .bind(i64::from(restrictions.delete_expired.enabled))
    .bind(stored_period(restrictions.delete_expired.after))
    .bind(stored_period(restrictions.delete_expired.every))
    .bind(i64::from(restrictions.outlive_maker))
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
        outlive_maker: row.flag("outlive_maker")?,
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
