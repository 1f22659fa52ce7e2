//! Revoking tokens: one, or one with all that it made.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, MANY, list, millis};
use super::transaction::{Tx, Work};
use super::{Store, audit, history, lineage, tokens, users};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::time::Timestamp;
use crate::domain::token::{Token, TokenId};
use crate::domain::user::UserName;
use crate::domain::verdict::Revision;

/// How many tokens one transaction revokes that another one made, so that others need not wait long. Few tokens have made
/// more.
const AT_ONCE: usize = 1_000;

/// What a revocation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The token, as it is now.
    pub token: Token,
    /// How many were revoked by this very call: none where all were before.
    pub count: u64,
    /// An edge that has applied the changes up to this revision refuses all of them.
    pub revision: Revision,
}

impl Store {
    /// Revokes a token: every verdict on it is no from now on. Repeating this changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TokenNotFound`], [`StoreError::Unavailable`].
    pub async fn revoke_token(&self, origin: &Origin, id: TokenId) -> Result<Revoked, StoreError> {
        // A token never changes hands, so its user can be read before the transaction that locks the two in order.
        let user = self.token(id).await?.user;
        let revoke = Revoke { origin, id, user: &user, descendants: false, goes_on: false };
        Ok(self.write(&revoke).await?.revoked)
    }

    /// Revokes a token with all that it made, all that those made, and so on, whoever has them, and whether or not it was
    /// revoked before. A token that is being made by one of them meanwhile is either among them or not made.
    ///
    /// Some 1,000 are revoked in one transaction. Where there are more, others follow until none is left.
    ///
    /// # Errors
    /// [`StoreError::TokenNotFound`], [`StoreError::Unavailable`]; some may be revoked then, and repeating this revokes
    /// the rest.
    pub async fn revoke_token_with_descendants(
        &self,
        origin: &Origin,
        id: TokenId,
    ) -> Result<Revoked, StoreError> {
        let user = self.token(id).await?.user;
        let mut revoke = Revoke { origin, id, user: &user, descendants: true, goes_on: false };
        let mut count = 0;
        loop {
            let done = self.write(&revoke).await?;
            count += done.revoked.count;
            if !done.more {
                return Ok(Revoked { count, ..done.revoked });
            }
            revoke.goes_on = true;
        }
    }
}

struct Revoke<'a> {
    origin: &'a Origin,
    id: TokenId,
    user: &'a UserName,
    descendants: bool,
    /// Whether this was begun with a good token, which may be among those that were revoked since.
    goes_on: bool,
}

/// What one transaction did.
struct Done {
    revoked: Revoked,
    /// Whether more tokens may be left.
    more: bool,
}

impl Work for Revoke<'_> {
    type Output = Done;

    fn is_revocation(&self) -> bool {
        true
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done, StoreError> {
        users::lock(tx, self.user).await?;
        let by = match self.goes_on {
            true => Confirmed::when_begun(self.origin),
            false => Confirmed::look(tx, self.origin).await?,
        };
        let now = tx.now();
        let mut touched = Vec::new();
        let revoked = query("UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
            .bind(millis(now))
            .bind(self.id.to_string())
            .execute(&mut *tx.connection)
            .await?;
        let token = tokens::read(tx, self.id).await?;
        if revoked.rows_affected() > 0 {
            let details = self.details(&token);
            audit::record(tx, &by, Action::TokenRevoked, self.id.into(), details, now).await?;
            touched.push(self.id);
        }
        let more = self.descendants && self.revoke_made(tx, &by, &mut touched, now).await?;
        history::tokens_changed(tx, &touched, now).await?;
        let count = u64::try_from(touched.len()).unwrap_or(u64::MAX);
        let revision = history::revision(tx).await?;
        Ok(Done { revoked: Revoked { token, count, revision }, more })
    }
}

impl Revoke<'_> {
    fn details(&self, token: &Token) -> Value {
        let mut details = revoked_details(token);
        if let Some(details) = details.as_object_mut().filter(|_| self.descendants) {
            details.insert("with_descendants".to_owned(), true.into());
        }
        details
    }

    /// Revokes what the token made, with one audit entry each, and tells whether there may be more.
    ///
    /// Each statement sees what was committed before it began, and a revocation waits for whoever makes a token with the one that
    /// it revokes; see [`Confirmed::look_as_maker`]. So when no more is found, there is no more.
    async fn revoke_made(
        &self,
        tx: &mut Tx<'_>,
        by: &Confirmed<'_>,
        touched: &mut Vec<TokenId>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        loop {
            let made = lineage::unrevoked(tx, self.id, AT_ONCE).await?;
            for some in made.chunks(MANY) {
                let mut entries = Vec::with_capacity(some.len());
                for row in revoke_some(tx, some, now).await? {
                    let (id, details) = self.descendant(&row, now)?;
                    touched.push(id);
                    entries.push((Subject::from(id), details));
                }
                audit::record_all(tx, by, Action::TokenRevoked, &entries, now).await?;
            }
            if made.is_empty() || touched.len() >= AT_ONCE {
                return Ok(!made.is_empty());
            }
        }
    }

    fn descendant(&self, row: &AnyRow, now: Timestamp) -> Result<(TokenId, Value), StoreError> {
        let details = json!({
            "user": row.text("user_name")?, "name": row.text("name")?, "hint": row.text("hint")?,
            "before": { "revoked_at": null }, "after": { "revoked_at": now }, "descendant_of": self.id,
        });
        Ok((TokenId(row.uuid("id")?), details))
    }
}

/// Revokes tokens that are not revoked yet.
async fn revoke_some(tx: &mut Tx<'_>, ids: &[TokenId], now: Timestamp) -> Result<Vec<AnyRow>, StoreError> {
    let text = format!(
        "UPDATE tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND id IN {} RETURNING id, name, hint, \
         (SELECT u.name FROM users u WHERE u.id = tokens.user_id) AS user_name",
        list(2, ids.len())
    );
    let statement = query(AssertSqlSafe(text)).bind(millis(now));
    let statement = ids.iter().fold(statement, |statement, id| statement.bind(id.to_string()));
    Ok(statement.fetch_all(&mut *tx.connection).await?)
}

/// What the audit log tells of a token that was just revoked.
pub(super) fn revoked_details(token: &Token) -> Value {
    json!({
        "user": token.user, "name": token.name, "hint": token.hint,
        "before": { "revoked_at": null }, "after": { "revoked_at": token.revoked_at },
    })
}
