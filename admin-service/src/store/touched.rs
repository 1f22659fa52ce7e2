//! What restrictions would touch, were they in force now: how much of it, and some of it. Users with a limit of their own
//! are not touched by the service's.
//!
//! All live tokens are looked at, and what is asked of them is in one index, user by user; nothing is read beside it but the
//! examples.

use sqlx::any::AnyRow;
use sqlx::query;

use super::Store;
use super::error::StoreError;
use super::restrictions::stored_period;
use super::row::{Columns, millis};
use super::transaction::Statement;
use crate::domain::period::Period;
use crate::domain::restrictions::Restrictions;
use crate::domain::time::Timestamp;
use crate::domain::token::{TokenId, TokenName};
use crate::domain::user::UserName;

/// How many examples there are of what each limit would touch.
pub const EXAMPLES: usize = 10;

/// What restrictions would touch, were they in force now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// By `max_lifetime`.
    pub over_max_lifetime: OverLifetime,
    /// By `max_tokens_per_user`.
    pub over_max_tokens: OverTokens,
    /// Expired tokens that the scheduler would delete at once.
    pub tokens_due_for_deletion: u64,
}

/// Live tokens whose lifetime, from making to expiry, is longer than allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverLifetime {
    /// How many they are.
    pub tokens: u64,
    /// Up to [`EXAMPLES`] of them, by when their users were made.
    pub examples: Vec<TouchedToken>,
}

/// Users with more live tokens than allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverTokens {
    /// How many they are.
    pub users: u64,
    /// How many live tokens they have beyond it, together.
    pub tokens: u64,
    /// Up to [`EXAMPLES`] of them, those with the most tokens first.
    pub examples: Vec<TouchedUser>,
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

/// The active tokens that count, of users without a limit of their own, before the rest of the condition; `$1` is the time.
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
        let due = async { self.one(due).await?.number("due") };
        let (due, lifetime, tokens) = tokio::try_join!(
            due,
            self.over_lifetime(restrictions.max_lifetime, now),
            self.over_tokens(restrictions.max_tokens_per_user, now),
        )?;
        Ok(Touched { tokens_due_for_deletion: due, over_max_lifetime: lifetime, over_max_tokens: tokens })
    }

    async fn over_lifetime(
        &self,
        longest: Option<Period>,
        now: Timestamp,
    ) -> Result<OverLifetime, StoreError> {
        let Some(longest) = longest else { return Ok(OverLifetime::default()) };
        let bound = |statement: Statement<'static>| statement.bind(millis(now)).bind(stored_period(longest));
        let count = bound(query(live_tokens!(
            without "own_max_lifetime_ms",
            "SELECT COUNT(*) AS over",
            " AND (expires_at IS NULL OR expires_at - created_at > $2)"
        )));
        let tokens = self.one(count).await?.number("over")?;
        if tokens == 0 {
            return Ok(OverLifetime::default());
        }
        let some = bound(query(live_tokens!(
            without "own_max_lifetime_ms",
            "SELECT t.id, t.name, u.name AS user_name, t.hint, t.expires_at FROM (SELECT id, user_id",
            " AND (expires_at IS NULL OR expires_at - created_at > $2) ORDER BY user_id, expires_at LIMIT 10) s \
             JOIN tokens t ON t.id = s.id JOIN users u ON u.id = s.user_id ORDER BY s.user_id, t.id"
        )));
        let examples = self.rows(some).await?.iter().map(touched_token).collect::<Result<_, _>>()?;
        Ok(OverLifetime { tokens, examples })
    }

    async fn over_tokens(&self, most: Option<u32>, now: Timestamp) -> Result<OverTokens, StoreError> {
        let Some(most) = most else { return Ok(OverTokens::default()) };
        // Counted and sorted in one go, for all of them have to be seen either way.
        let found = query(live_tokens!(
            without "own_max_tokens",
            "SELECT u.name, s.live, s.users, s.over FROM (SELECT user_id, live, COUNT(*) OVER () AS users, \
             CAST(SUM(live - $2) OVER () AS BIGINT) AS over FROM (SELECT user_id, COUNT(*) AS live",
            " GROUP BY user_id HAVING COUNT(*) > $2) AS touched ORDER BY live DESC, user_id LIMIT 10) s \
             JOIN users u ON u.id = s.user_id ORDER BY s.live DESC, s.user_id"
        ));
        let found = self.rows(found.bind(millis(now)).bind(i64::from(most))).await?;
        let Some(first) = found.first() else { return Ok(OverTokens::default()) };
        Ok(OverTokens {
            users: first.number("users")?,
            tokens: first.number("over")?,
            examples: found.iter().map(user).collect::<Result<_, _>>()?,
        })
    }
}

pub(super) fn touched_token(row: &AnyRow) -> Result<TouchedToken, StoreError> {
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
