//! What the job that deletes expired tokens asks of the store: its state, and one batch at a time.

use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::leases::{Holder, Lease, note_deleted, renew};
use super::row::{Columns, millis};
use super::tokens::batch_deleted;
use super::transaction::{Tx, Work};
use super::{Store, restrictions, users};
use crate::clock::STEADY;
use crate::domain::audit::{Origin, Subject};
use crate::domain::period::Period;
use crate::domain::restrictions::DeleteExpired;
use crate::domain::time::Timestamp;

/// How long after a failed run the next one begins, at most.
const RETRY: Period = Period::from_millis(60_000);

/// What operators see of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerState {
    /// What the restrictions say about it.
    pub delete_expired: DeleteExpired,
    /// When it last ended.
    pub last_run_at: Option<Timestamp>,
    /// How many tokens and users the last run deleted.
    pub last_deleted: Option<u64>,
    /// Why the last run failed, if it did: a sentence.
    pub last_error: Option<String>,
    /// The replica that runs it now.
    pub holder: Option<Holder>,
    /// How many tokens and users that run has deleted so far.
    pub deleted_so_far: Option<u64>,
    /// When the clock was last doubted, and why: a sentence.
    pub doubt: Option<(Timestamp, String)>,
}

impl SchedulerState {
    /// When it runs next by itself; `None`: never, for it is disabled. A time that is past means now.
    ///
    /// A run that failed is tried again after a minute. No run is further off than twice `every`, even where the clock
    /// was set back since the last one.
    /// While the clock is in doubt, none is before it was steady for long enough.
    #[must_use]
    pub fn next_run_at(&self, now: Timestamp) -> Option<Timestamp> {
        let by_interval = self.next_by_interval(now)?;
        Some(self.held_until(now).map_or(by_interval, |end| end.max(by_interval)))
    }

    /// Until when the clock is in doubt; `None`: it is not.
    #[must_use]
    pub fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        let (doubted_at, _) = self.doubt.as_ref()?;
        // A time that is still to come is of a clock that was ahead.
        let end = doubted_at.min(&now).saturating_add(STEADY);
        (now < end).then_some(end)
    }

    fn next_by_interval(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.delete_expired.enabled {
            return None;
        }
        let every = self.delete_expired.every;
        let pause = if self.last_error.is_some() { every.min(RETRY) } else { every };
        match self.last_run_at {
            Some(last) if last <= every.after(now) => Some(pause.after(last)),
            _ => Some(now),
        }
    }
}

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its time had come. Such a run ends when the scheduler is disabled.
    Time,
    /// Somebody asked for it.
    Demand,
}

/// What one batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many it deleted, of whatever it deletes.
    pub deleted: u64,
    /// Whether more may be due.
    pub more: bool,
}

impl Store {
    /// The state of a job.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn scheduler_state(&self, job: &'static str) -> Result<SchedulerState, StoreError> {
        let statement = query(
            "SELECT r.delete_expired_enabled, r.delete_expired_after_ms, r.delete_expired_every_ms, \
             r.delete_expired_after_unit, r.delete_expired_every_unit, \
             j.last_run_at, j.last_deleted, j.last_error, l.holder, l.deleted AS deleted_so_far, c.doubted_at, c.doubt \
             FROM restrictions r JOIN clock c ON c.singleton = 1 \
             LEFT JOIN jobs j ON j.name = $1 LEFT JOIN leases l ON l.name = $1 AND l.expires_at > $2 \
             WHERE r.singleton = 1",
        );
        let row = self.one(statement.bind(job).bind(millis(self.sources().now()))).await?;
        Ok(SchedulerState {
            delete_expired: restrictions::delete_expired(&row)?,
            last_run_at: row.time_or_null("last_run_at")?,
            last_deleted: row.number_or_null("last_deleted")?,
            last_error: row.text_or_null("last_error")?,
            holder: row.text_or_null("holder")?.map(Holder),
            deleted_so_far: row.number_or_null("deleted_so_far")?,
            doubt: row.time_or_null("doubted_at")?.zip(row.text_or_null("doubt")?),
        })
    }

    /// Deletes some of what is due by the restrictions as they are now, if the lease is still held: tokens first, then users.
    ///
    /// A token is due when `expires_at + after <= now`, revoked or not; one that never expires, when it was revoked so long
    /// ago. A user is due when it was deleted so long ago, and all its tokens with it. All else is never due.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another replica took over; [`StoreError::Unavailable`]. Nothing is deleted then.
    pub async fn delete_expired_batch(
        &self,
        origin: &Origin,
        lease: &Lease,
        trigger: Trigger,
    ) -> Result<Batch, StoreError> {
        self.write(&DeleteBatch { origin, lease, trigger }).await
    }

    /// Notes how a run ended, if the lease is still held, and gives the lease back.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], [`StoreError::Unavailable`].
    pub async fn finish_run(
        &self,
        lease: &Lease,
        deleted: u64,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(&Finish { lease, deleted, error }).await
    }
}

struct DeleteBatch<'a> {
    origin: &'a Origin,
    lease: &'a Lease,
    trigger: Trigger,
}

impl Work for DeleteBatch<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        renew(tx, self.lease).await?;
        let rules = restrictions::current(tx).await?.delete_expired;
        if !rules.enabled && self.trigger == Trigger::Time {
            return Ok(Batch { deleted: 0, more: false });
        }
        // Who asks for a run knows the time.
        let now = if self.trigger == Trigger::Time { tx.sure_now()? } else { tx.now() };
        let due = rules.due_up_to(now);
        let by = Confirmed::when_begun(self.origin);
        let mut batch = Batch { deleted: 0, more: false };
        for tokens in &DUE_TOKENS {
            batch = tokens.delete(tx, &by, due).await?;
            if batch.more {
                break;
            }
        }
        if !batch.more {
            batch = users::prune(tx, &by, due).await?;
        }
        note_deleted(tx, self.lease, batch.deleted).await?;
        Ok(batch)
    }
}

/// Tokens that are due for the same reason: how some are deleted, and how one is found that is left. `$1` is the time up to
/// which they must have ended.
struct DueTokens {
    delete: &'static str,
    left: &'static str,
}

/// Expired ones, then revoked ones that never expire, then what else users have who were deleted. The limits are in the texts
/// and not bound: not knowing them, PostgreSQL would rather read the whole table.
const DUE_TOKENS: [DueTokens; 3] = [
    DueTokens {
        delete: "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at <= $1 \
                 ORDER BY expires_at, id LIMIT 100) AND expires_at <= $1 RETURNING id, made_by",
        left: "SELECT id FROM tokens WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT 1",
    },
    DueTokens {
        delete: "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_at <= $1 AND expires_at IS NULL \
                 ORDER BY revoked_at, id LIMIT 100) AND revoked_at <= $1 AND expires_at IS NULL RETURNING id, made_by",
        left: "SELECT id FROM tokens WHERE revoked_at <= $1 AND expires_at IS NULL ORDER BY revoked_at, id LIMIT 1",
    },
    DueTokens {
        delete: "DELETE FROM tokens WHERE id IN (SELECT t.id FROM users u JOIN tokens t ON t.user_id = u.id \
                 WHERE u.deleted_at <= $1 ORDER BY u.deleted_at, u.id LIMIT 100) RETURNING id, made_by",
        left: "SELECT t.id FROM users u JOIN tokens t ON t.user_id = u.id WHERE u.deleted_at <= $1 \
               ORDER BY u.deleted_at, u.id LIMIT 1",
    },
];

impl DueTokens {
    async fn delete(&self, tx: &mut Tx<'_>, by: &Confirmed<'_>, due: Timestamp) -> Result<Batch, StoreError> {
        let rows = query(self.delete).bind(millis(due)).fetch_all(&mut *tx.connection).await?;
        let left = query(self.left).bind(millis(due));
        batch_deleted(tx, by, Subject::scheduler(), &rows, left).await
    }
}

struct Finish<'a> {
    lease: &'a Lease,
    deleted: u64,
    error: Option<&'a str>,
}

impl Work for Finish<'_> {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let released = query("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(self.lease.job)
            .bind(self.lease.holder.0.clone())
            .execute(&mut *tx.connection)
            .await?;
        if released.rows_affected() == 0 {
            return Err(StoreError::LeaseLost);
        }
        query(
            "INSERT INTO jobs (name, last_run_at, last_deleted, last_error) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET last_run_at = $2, last_deleted = $3, last_error = $4",
        )
        .bind(self.lease.job)
        .bind(millis(tx.now()))
        .bind(i64::try_from(self.deleted).unwrap_or(i64::MAX))
        .bind(self.error.map(ToOwned::to_owned))
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(last_run_at: Option<Timestamp>) -> SchedulerState {
        let delete_expired = DeleteExpired {
            enabled: true,
            after: Period::from_days(30),
            every: Period::from_millis(3_600_000),
        };
        SchedulerState {
            delete_expired,
            last_run_at,
            last_deleted: None,
            last_error: None,
            holder: None,
            deleted_so_far: None,
            doubt: None,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_job_runs_at_once_when_it_never_ran_and_then_at_its_interval() {
        let now = at("2026-01-01T12:00:00Z");
        assert_eq!(state(None).next_run_at(now), Some(now));
        assert_eq!(state(Some(now)).next_run_at(now), Some(at("2026-01-01T13:00:00Z")));
    }

    #[test]
    fn a_failed_run_is_tried_again_after_a_minute() {
        let now = at("2026-01-01T12:00:00Z");
        let mut failed = state(Some(now));
        failed.last_error = Some("the database cannot be used now".to_owned());
        assert_eq!(failed.next_run_at(now), Some(at("2026-01-01T12:01:00Z")));
        failed.delete_expired.every = Period::from_millis(1000);
        assert_eq!(failed.next_run_at(now), Some(at("2026-01-01T12:00:01Z")));
    }

    #[test]
    fn a_disabled_job_has_no_next_run() {
        let mut disabled = state(None);
        disabled.delete_expired.enabled = false;
        assert_eq!(disabled.next_run_at(at("2026-01-01T12:00:00Z")), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_the_next_run_off() {
        let last = at("2026-06-01T00:00:00Z");
        let now = at("2026-01-01T12:00:00Z");
        assert_eq!(state(Some(last)).next_run_at(now), Some(now));
        assert_eq!(
            state(Some(now)).next_run_at(at("2026-01-01T11:30:00Z")),
            Some(at("2026-01-01T13:00:00Z"))
        );
    }
}
