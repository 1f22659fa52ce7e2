//! What restrictions would touch, were they in force now: how much of it, and some of it. Users with a limit of their own
//! are not touched by the service's.
//!
//! All live tokens are counted, by the one index that has them user by user; nothing is read beside it but the examples.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::query;

use super::Store;
use super::error::StoreError;
use super::restrictions::stored_period;
use super::row::{Columns, millis};
use super::transaction::Statement;
use crate::domain::period::Period;
use crate::domain::restrictions::Restrictions;
use crate::domain::token::{TokenId, TokenName};
use crate::domain::user::UserName;

/// How many examples there are of what each limit would touch.
pub const EXAMPLES: usize = 10;

/// What restrictions would touch, were they in force now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Live tokens whose lifetime, from making to expiry, is longer than `max_lifetime`.
    pub tokens_over_max_lifetime: u64,
    /// Up to [`EXAMPLES`] of them, by the time when their users were made.
    pub some_over_max_lifetime: Vec<TouchedToken>,
    /// Users with more live tokens than `max_tokens_per_user`.
    pub users_over_max_tokens: u64,
    /// How many live tokens those users have beyond it, together.
    pub tokens_over_max_tokens: u64,
    /// Up to [`EXAMPLES`] of these users, those with the most tokens first.
    pub some_over_max_tokens: Vec<TouchedUser>,
    /// Expired tokens that the scheduler would delete at once.
    pub tokens_due_for_deletion: u64,
}

/// A token that a limit would touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedToken {
    /// Its identifier.
    pub id: TokenId,
    /// The name that its owner gave it.
    pub name: TokenName,
    /// The user that it acts for.
    pub user: UserName,
    /// Its prefix and first characters.
    pub hint: String,
    /// From when on it is expired; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// A user whom a limit would touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedUser {
    /// Its name.
    pub name: UserName,
    /// How many live tokens it has that count.
    pub live_tokens: u64,
}

/// The live tokens that count, of users without a limit of their own, before the rest of the condition; `$1` is the time.
macro_rules! live_tokens {
    (without $own:literal, $select:literal, $rest:literal) => {
        concat!(
            $select,
            " FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) AND rotated_to IS NULL \
             AND user_id NOT IN (SELECT id FROM users WHERE ",
            $own,
            " IS NOT NULL)",
            $rest
        )
    };
}

impl Store {
    /// Tells what restrictions would touch, changing nothing.
    ///
    /// # Errors
    /// [`StoreError::InvalidRestriction`], [`StoreError::Unavailable`].
    pub async fn touched_by(&self, restrictions: &Restrictions) -> Result<Touched, StoreError> {
        restrictions.check()?;
        let now = self.sources().now();
        let due = query("SELECT COUNT(*) AS due FROM tokens WHERE expires_at <= $1");
        let due = due.bind(millis(restrictions.delete_expired.due_up_to(now)));
        let mut touched =
            Touched { tokens_due_for_deletion: self.one(due).await?.number("due")?, ..Touched::default() };
        if let Some(longest) = restrictions.max_lifetime {
            self.over_lifetime(&mut touched, longest, now).await?;
        }
        if let Some(most) = restrictions.max_tokens_per_user {
            self.over_tokens(&mut touched, most, now).await?;
        }
        Ok(touched)
    }

    async fn over_lifetime(
        &self,
        touched: &mut Touched,
        longest: Period,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let bound = |statement: Statement<'static>| statement.bind(millis(now)).bind(stored_period(longest));
        let count = bound(query(live_tokens!(
            without "own_max_lifetime_ms",
            "SELECT COUNT(*) AS over",
            " AND (expires_at IS NULL OR expires_at - created_at > $2)"
        )));
        touched.tokens_over_max_lifetime = self.one(count).await?.number("over")?;
        if touched.tokens_over_max_lifetime == 0 {
            return Ok(());
        }
        let some = bound(query(live_tokens!(
            without "own_max_lifetime_ms",
            "SELECT t.id, t.name, u.name AS user_name, t.hint, t.expires_at FROM (SELECT id, user_id",
            " AND (expires_at IS NULL OR expires_at - created_at > $2) ORDER BY user_id, expires_at LIMIT 10) s \
             JOIN tokens t ON t.id = s.id JOIN users u ON u.id = s.user_id ORDER BY s.user_id, t.id"
        )));
        let some = self.rows(some).await?;
        touched.some_over_max_lifetime = some.iter().map(token).collect::<Result<_, _>>()?;
        Ok(())
    }

    async fn over_tokens(&self, touched: &mut Touched, most: u32, now: Timestamp) -> Result<(), StoreError> {
        let bound = |statement: Statement<'static>| statement.bind(millis(now)).bind(i64::from(most));
        let count = bound(query(live_tokens!(
            without "own_max_tokens",
            "SELECT COUNT(*) AS users, CAST(COALESCE(SUM(live - $2), 0) AS BIGINT) AS over FROM (SELECT COUNT(*) AS live",
            " GROUP BY user_id HAVING COUNT(*) > $2) AS touched"
        )));
        let count = self.one(count).await?;
        touched.users_over_max_tokens = count.number("users")?;
        touched.tokens_over_max_tokens = count.number("over")?;
        if touched.users_over_max_tokens == 0 {
            return Ok(());
        }
        let some = bound(query(live_tokens!(
            without "own_max_tokens",
            "SELECT u.name, s.live FROM (SELECT user_id, COUNT(*) AS live",
            " GROUP BY user_id HAVING COUNT(*) > $2 ORDER BY live DESC, user_id LIMIT 10) s \
             JOIN users u ON u.id = s.user_id ORDER BY s.live DESC, s.user_id"
        )));
        let some = self.rows(some).await?;
        touched.some_over_max_tokens = some.iter().map(user).collect::<Result<_, _>>()?;
        Ok(())
    }
}

fn token(row: &AnyRow) -> Result<TouchedToken, StoreError> {
    Ok(TouchedToken {
        id: TokenId(row.uuid("id")?),
        name: TokenName::stored(row.text("name")?),
        user: UserName::stored(row.text("user_name")?),
        hint: row.text("hint")?,
        expires_at: row.time_or_null("expires_at")?,
    })
}

fn user(row: &AnyRow) -> Result<TouchedUser, StoreError> {
    Ok(TouchedUser { name: UserName::stored(row.text("name")?), live_tokens: row.number("live")? })
}
