//! Limits of single users: columns of the users' rows, so that whoever holds a user's row holds its limits too.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, damaged};
use super::transaction::{Tx, Work};
use super::{Store, audit, restrictions, users};
use crate::domain::audit::{Action, Origin};
use crate::domain::limits::Limits;
use crate::domain::period::Period;
use crate::domain::user::{User, UserName};
use crate::domain::user_restrictions::{UserLimits, UserRestrictions};

/// What stands for no limit; where nothing stands the service's holds.
const NO_LIMIT: i64 = -1;

impl Store {
    /// The limits of a user: its own, and those that hold.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::Unavailable`].
    pub async fn user_restrictions(&self, name: &UserName) -> Result<UserLimits, StoreError> {
        let statement = query("SELECT * FROM users CROSS JOIN restrictions WHERE name = $1");
        let row = self.row(statement.bind(name.to_string())).await?;
        let row = row.ok_or_else(|| StoreError::UserNotFound(name.clone()))?;
        let (own, service) = (own(&row)?, restrictions::restrictions(&row)?);
        Ok(UserLimits { own, effective: own.limits(&service) })
    }

    /// Gives a user limits of its own, in place of those that it had; with none they are as for everyone. Tokens that
    /// exist keep their expiry, and the user keeps them.
    ///
    /// # Errors
    /// [`StoreError::InvalidRestriction`], [`StoreError::UserNotFound`], [`StoreError::UserDeleted`],
    /// [`StoreError::Unavailable`].
    pub async fn put_user_restrictions(
        &self,
        origin: &Origin,
        name: &UserName,
        own: &UserRestrictions,
    ) -> Result<UserLimits, StoreError> {
        own.check()?;
        self.write(&Put { origin, name, own }).await
    }
}

struct Put<'a> {
    origin: &'a Origin,
    name: &'a UserName,
    own: &'a UserRestrictions,
}

impl Work for Put<'_> {
    type Output = UserLimits;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<UserLimits, StoreError> {
        let user = users::lock(tx, self.name).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        if user.deleted {
            return Err(StoreError::UserDeleted(user.name));
        }
        let (before, own) = (user.restrictions, *self.own);
        let user = User { restrictions: own, ..user };
        // As they are written: "24h" in the place of "1d" is a change, as it reads back.
        let details = json!({ "before": before, "after": own });
        if details.get("before") != details.get("after") {
            save(tx, &user).await?;
            let now = tx.now();
            audit::record(tx, &by, Action::UserRestrictionsUpdated, self.name.into(), details, now).await?;
        }
        Ok(UserLimits { own, effective: of(tx, &user).await? })
    }
}

/// The limits that hold for a user, in a transaction that holds the user's row.
pub(super) async fn of(tx: &mut Tx<'_>, user: &User) -> Result<Limits, StoreError> {
    Ok(user.restrictions.limits(&restrictions::current(tx).await?))
}

/// Reads a user's own limits from its row.
pub(super) fn own(row: &AnyRow) -> Result<UserRestrictions, StoreError> {
    let max_lifetime = match limit(row, "own_max_lifetime_ms")? {
        Some(Some(most)) => Some(Some(restrictions::period(row, most, "own_max_lifetime_unit")?)),
        no_period => no_period.map(|_| None),
    };
    Ok(UserRestrictions { max_lifetime, max_tokens_per_user: limit(row, "own_max_tokens")? })
}

/// Reads one limit: nothing, none, or a number.
fn limit<N: TryFrom<i64>>(row: &AnyRow, name: &str) -> Result<Option<Option<N>>, StoreError> {
    match row.number_or_null::<i64>(name)? {
        None => Ok(None),
        Some(NO_LIMIT) => Ok(Some(None)),
        Some(most) => N::try_from(most).map(|most| Some(Some(most))).map_err(|_| damaged(name)),
    }
}

async fn save(tx: &mut Tx<'_>, user: &User) -> Result<(), StoreError> {
    let UserRestrictions { max_lifetime, max_tokens_per_user } = user.restrictions;
    query("UPDATE users SET own_max_lifetime_ms = $1, own_max_tokens = $2, own_max_lifetime_unit = $3 WHERE id = $4")
        .bind(max_lifetime.map(|most| most.map_or(NO_LIMIT, restrictions::stored_period)))
        .bind(max_tokens_per_user.map(|most| most.map_or(NO_LIMIT, i64::from)))
        .bind(max_lifetime.flatten().map(Period::unit))
        .bind(user.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}
