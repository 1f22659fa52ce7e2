//! Whether the token that a change is asked for with still permits it: looked at again in the change's own transaction,
//! for between the request's authentication and its change there may be a body that is long in coming.

use sqlx::query;

use super::error::StoreError;
use super::row::millis;
use super::transaction::Tx;
use crate::domain::audit::Origin;

/// An origin whose token was good when the transaction had its locks. Without one there is no audit entry, and so no
/// change.
pub(super) struct Confirmed<'a>(&'a Origin);

impl<'a> Confirmed<'a> {
    /// Looks at the token again, if the change is made with one. Comes after the locks and before the change: a
    /// revocation of it holds the same user's row.
    pub async fn look(tx: &mut Tx<'_>, origin: &'a Origin) -> Result<Self, StoreError> {
        let Some(token) = origin.token_id else {
            return Ok(Self(origin));
        };
        let live = query(
            "SELECT t.id FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id = $1 AND u.active = 1 \
             AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)",
        );
        let live = live.bind(token.to_string()).bind(millis(tx.now()));
        match live.fetch_optional(&mut *tx.connection).await? {
            Some(_) => Ok(Self(origin)),
            None => Err(StoreError::CallerRefused),
        }
    }

    /// For what goes on once it was begun with a good token: a run of the scheduler.
    pub const fn when_begun(origin: &'a Origin) -> Self {
        Self(origin)
    }

    pub const fn origin(&self) -> &'a Origin {
        self.0
    }
}
