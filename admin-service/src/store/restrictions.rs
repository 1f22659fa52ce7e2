//! The restrictions: one row.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use super::{Store, audit};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::period::Period;
use crate::domain::restrictions::{DeleteExpired, Restrictions};

/// What restrictions would touch, were they in force now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Touched {
    /// Live tokens whose lifetime, from making to expiry, is longer than `max_lifetime`.
    pub tokens_over_max_lifetime: u64,
    /// Users with more live tokens than `max_tokens_per_user`.
    pub users_over_max_tokens: u64,
    /// How many live tokens those users have beyond it, together.
    pub tokens_over_max_tokens: u64,
    /// Expired tokens that the scheduler would delete at once.
    pub tokens_due_for_deletion: u64,
}

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

    /// Counts what restrictions would touch, changing nothing.
    ///
    /// # Errors
    /// [`StoreError::InvalidRestriction`], [`StoreError::Unavailable`].
    pub async fn touched_by(&self, restrictions: &Restrictions) -> Result<Touched, StoreError> {
        restrictions.check()?;
        let now = self.sources().now();
        let due = restrictions.delete_expired.due_up_to(now);
        let longest = restrictions.max_lifetime.map_or(i64::MAX, stored_period);
        let most = restrictions.max_tokens_per_user.map_or(i64::MAX, i64::from);
        let statement = query(
            "SELECT CAST(COALESCE(SUM(too_long), 0) AS BIGINT) AS too_long, \
             CAST(COALESCE(SUM(CASE WHEN live > $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS users_over, \
             CAST(COALESCE(SUM(CASE WHEN live > $1 THEN live - $1 ELSE 0 END), 0) AS BIGINT) AS tokens_over, \
             (SELECT COUNT(*) FROM tokens WHERE expires_at <= $2) AS due \
             FROM (SELECT COUNT(*) AS live, \
              SUM(CASE WHEN expires_at IS NULL OR expires_at - created_at > $3 THEN 1 ELSE 0 END) AS too_long \
              FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4) AND rotated_to IS NULL \
              GROUP BY user_id) AS users",
        );
        let statement = statement.bind(most).bind(millis(due)).bind(longest).bind(millis(now));
        let row = self.one(statement).await?;
        let unlimited = restrictions.max_lifetime.is_none();
        Ok(Touched {
            tokens_over_max_lifetime: if unlimited { 0 } else { row.number("too_long")? },
            users_over_max_tokens: row.number("users_over")?,
            tokens_over_max_tokens: row.number("tokens_over")?,
            tokens_due_for_deletion: row.number("due")?,
        })
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
        if before == after {
            return Ok(after);
        }
        let now = tx.now();
        save(tx, &after).await?;
        let details = json!({ "before": before, "after": after });
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
         delete_expired_after_ms = $4, delete_expired_every_ms = $5",
    )
    .bind(restrictions.max_lifetime.map(stored_period))
    .bind(restrictions.max_tokens_per_user.map(i64::from))
    .bind(i64::from(restrictions.delete_expired.enabled))
    .bind(stored_period(restrictions.delete_expired.after))
    .bind(stored_period(restrictions.delete_expired.every))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

fn stored_period(period: Period) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

fn restrictions(row: &AnyRow) -> Result<Restrictions, StoreError> {
    Ok(Restrictions {
        max_lifetime: row.number_or_null("max_lifetime_ms")?.map(Period::from_millis),
        max_tokens_per_user: row.number_or_null("max_tokens_per_user")?,
        delete_expired: delete_expired(row)?,
    })
}

/// When expired tokens are deleted, from a row of the restrictions.
pub(super) fn delete_expired(row: &AnyRow) -> Result<DeleteExpired, StoreError> {
    Ok(DeleteExpired {
        enabled: row.flag("delete_expired_enabled")?,
        after: Period::from_millis(row.number("delete_expired_after_ms")?),
        every: Period::from_millis(row.number("delete_expired_every_ms")?),
    })
}
