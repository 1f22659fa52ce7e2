//! The figures about all users, all tokens and all requests.
//!
//! Counting millions of rows takes seconds, and a statement has less. So they are counted slice by slice, in the order of
//! an index that holds all that is asked for; what changes meanwhile may be counted or not.

use sqlx::any::AnyRow;
use sqlx::query;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::row::{Columns, millis};
use super::transaction::Statement;
use crate::domain::stats::{Counts, EXPIRING_WITHIN, HourOfRequests, TokenCounts, UserCounts};
use crate::domain::time::Timestamp;

/// How many rows one statement counts: some hundredths of a second.
const SLICE: i64 = 20_000;

impl Store {
    /// Counts all users and tokens, each with its status at the time when the counting began.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let as_of = self.sources().now();
        let mut tokens = self.count_tokens_with_expiry(as_of).await?;
        self.count_tokens_without_expiry(&mut tokens).await?;
        Ok(Counts { as_of, users: self.count_users().await?, tokens })
    }

    /// The requests of each hour from `since` on that had any, the first one first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn requests_by_hour(&self, since: Timestamp) -> Result<Vec<HourOfRequests>, StoreError> {
        let statement = query("SELECT hour, allowed, denied FROM usage_hours WHERE hour >= $1 ORDER BY hour");
        let rows = self.rows(statement.bind(millis(since))).await?;
        let hour = |row: &AnyRow| {
            Ok(HourOfRequests {
                hour: row.time("hour")?,
                allowed: row.number("allowed")?,
                denied: row.number("denied")?,
            })
        };
        rows.iter().map(hour).collect()
    }

    async fn count_users(&self) -> Result<UserCounts, StoreError> {
        let mut counts = UserCounts::default();
        let mut after = Some(Uuid::nil().to_string());
        while let Some(id) = after {
            let slice = query(
                "SELECT COUNT(*) AS counted, CAST(COALESCE(SUM(active), 0) AS BIGINT) AS active, \
                 CAST(COALESCE(SUM(deleted), 0) AS BIGINT) AS deleted, MAX(id) AS last FROM (SELECT id, active, deleted \
                 FROM users WHERE id > $1 ORDER BY id LIMIT $2) AS slice",
            );
            let row = self.one(slice.bind(id).bind(SLICE)).await?;
            let (all, active, deleted): (u64, u64, u64) =
                (row.number("counted")?, row.number("active")?, row.number("deleted")?);
            counts.active += active;
            counts.deleted += deleted;
            counts.disabled += all.saturating_sub(active + deleted);
            after = row.text_or_null("last")?;
        }
        Ok(counts)
    }

    async fn count_tokens_with_expiry(&self, now: Timestamp) -> Result<TokenCounts, StoreError> {
        let mut counts = TokenCounts::default();
        let mut after = Some((i64::MIN, String::new()));
        while let Some((expires_at, id)) = after {
            let slice = query(
                "WITH slice AS (SELECT expires_at, id, revoked_at FROM tokens WHERE expires_at IS NOT NULL \
                 AND (expires_at, id) > ($1, $2) ORDER BY expires_at, id LIMIT $3) \
                 SELECT COUNT(revoked_at) AS revoked, \
                 COUNT(CASE WHEN revoked_at IS NULL AND expires_at <= $4 THEN 1 END) AS expired, \
                 COUNT(CASE WHEN revoked_at IS NULL AND expires_at > $4 THEN 1 END) AS active, \
                 COUNT(CASE WHEN revoked_at IS NULL AND expires_at > $4 AND expires_at <= $5 THEN 1 END) AS expiring, \
                 MAX(expires_at) AS last_expiry, \
                 (SELECT id FROM slice ORDER BY expires_at DESC, id DESC LIMIT 1) AS last_id FROM slice",
            );
            let slice = slice.bind(expires_at).bind(id).bind(SLICE);
            let row = self.one(slice.bind(millis(now)).bind(millis(EXPIRING_WITHIN.after(now)))).await?;
            counts.revoked += row.number::<u64>("revoked")?;
            counts.expired += row.number::<u64>("expired")?;
            counts.active += row.number::<u64>("active")?;
            counts.expiring += row.number::<u64>("expiring")?;
            after = row.integer_or_null("last_expiry")?.zip(row.text_or_null("last_id")?);
        }
        Ok(counts)
    }

    async fn count_tokens_without_expiry(&self, counts: &mut TokenCounts) -> Result<(), StoreError> {
        let mut after = Some(String::new());
        while let Some(id) = after {
            let slice: Statement<'_> = query(
                "SELECT COUNT(*) AS counted, COUNT(revoked_at) AS revoked, MAX(id) AS last FROM (SELECT id, revoked_at \
                 FROM tokens WHERE expires_at IS NULL AND id > $1 ORDER BY id LIMIT $2) AS slice",
            );
            let row = self.one(slice.bind(id).bind(SLICE)).await?;
            let (all, revoked): (u64, u64) = (row.number("counted")?, row.number("revoked")?);
            counts.revoked += revoked;
            counts.active += all.saturating_sub(revoked);
            after = row.text_or_null("last")?;
        }
        Ok(())
    }
}
