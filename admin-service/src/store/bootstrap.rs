//! The first administrator.

use sqlx::any::AnyRow;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use super::{Store, restrictions, tokens, users};
use crate::domain::audit::Origin;
use crate::domain::limits::{Limit, Limits};
use crate::domain::scope::Scopes;
use crate::domain::time::Timestamp;
use crate::domain::token::{NewToken, Token};
use crate::domain::user::{NewUser, UserName};

impl Store {
    /// Makes a token for the first administrator, and the user if there is none of that name. `token` must carry
    /// `latchkey:admin`. Of several calls at once one succeeds.
    ///
    /// # Errors
    /// [`StoreError::AdminExists`] when an active user has a live token with `latchkey:admin`; else as
    /// [`Store::create_token`].
    pub async fn bootstrap(&self, user: &UserName, token: &NewToken) -> Result<Token, StoreError> {
        self.write(&Bootstrap { user, token }).await
    }

    /// When each live token of an administrator expires; `None`: never.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn administrators(&self) -> Result<Vec<Option<Timestamp>>, StoreError> {
        administrators(&self.rows(query(LIVE_ADMINS).bind(millis(self.sources().now()))).await?)
    }
}

struct Bootstrap<'a> {
    user: &'a UserName,
    token: &'a NewToken,
}

impl Work for Bootstrap<'_> {
    type Output = Token;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Token, StoreError> {
        // The one row that all callers of this take, so that they come one after the other.
        let restrictions = restrictions::lock(tx).await?;
        if admin_exists(tx).await? {
            return Err(StoreError::AdminExists);
        }
        let origin = Origin::bootstrap();
        let by = Confirmed::look(tx, &origin).await?;
        match users::insert(tx, &by, &NewUser::named(self.user.clone())).await {
            Ok(_) | Err(StoreError::UserExists(_)) => {}
            Err(failed) => return Err(failed),
        }
        let user = users::lock(tx, self.user).await?;
        // Where the making of tokens is stopped, this is the way for an administrator who has none to allow it again.
        let limits = user.restrictions.limits(&restrictions);
        let tokens = Limit { most: limits.tokens.most.filter(|most| *most > 0), ..limits.tokens };
        tokens::insert(tx, &by, &user, self.token, &Limits { tokens, ..limits }).await
    }
}

async fn admin_exists(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let rows = query(LIVE_ADMINS).bind(millis(tx.now())).fetch_all(&mut *tx.connection).await?;
    Ok(!administrators(&rows)?.is_empty())
}

/// The live tokens that may be administrators': the pattern is that of the index.
const LIVE_ADMINS: &str = "SELECT t.scopes, t.expires_at FROM tokens t JOIN users u ON u.id = t.user_id \
     WHERE t.scopes LIKE '%latchkey:admin%' AND u.active = 1 AND t.revoked_at IS NULL \
     AND (t.expires_at IS NULL OR t.expires_at > $1)";

/// When each of them ends that is an administrator's. Scopes that only look alike are told apart here.
fn administrators(rows: &[AnyRow]) -> Result<Vec<Option<Timestamp>>, StoreError> {
    let mut ends = Vec::new();
    for row in rows {
        if Scopes::stored(&row.text("scopes")?).is_admin() {
            ends.push(row.time_or_null("expires_at")?);
        }
    }
    Ok(ends)
}
