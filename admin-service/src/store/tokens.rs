//! Tokens: made within the restrictions, read, and deleted once expired.

use std::slice;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, MANY, millis, places};
use super::token_rows::{folded_text, networks_text, schemes_text, select_token, token};
use super::transaction::{Statement, Tx, Work};
use super::{Batch, Store, audit, history, lineage, user_restrictions, users};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::limits::{Limit, Limits};
use crate::domain::time::Timestamp;
use crate::domain::token::{NewToken, Token, TokenId};
use crate::domain::user::{User, UserName};
use crate::error::chain;

/// How many expired tokens one transaction deletes: as many as others can wait for.
const BATCH: u64 = 500;

impl Store {
    /// Makes a token for a user, within the restrictions as they are in this very transaction.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::UserDeleted`], [`StoreError::UserDisabled`], [`StoreError::Expiry`],
    /// [`StoreError::TokenLimitReached`], [`StoreError::Beyond`], [`StoreError::Unavailable`].
    pub async fn create_token(
        &self,
        origin: &Origin,
        user: &UserName,
        token: &NewToken,
    ) -> Result<Token, StoreError> {
        self.write(&Create { origin, user, token }).await
    }

    /// The token of an identifier.
    ///
    /// # Errors
    /// [`StoreError::TokenNotFound`], [`StoreError::Unavailable`].
    pub async fn token(&self, id: TokenId) -> Result<Token, StoreError> {
        let row = self.row(one(id)).await?;
        row.as_ref().map(token).ok_or(StoreError::TokenNotFound)?
    }

    /// Deletes a user's tokens whose status is expired, all of them or the first `most`, for as long as `within` at most, and tells
    /// how many they were and whether there may be more. Revoked ones stay until the scheduler comes for them.
    ///
    /// Each batch is a transaction with its audit entry, so that others need not wait long. What keeps a later batch from being
    /// deleted is no error: those before it are deleted.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::Unavailable`]; nothing was deleted then.
    pub async fn delete_expired_of_user(
        &self,
        origin: &Origin,
        user: &UserName,
        most: Option<u32>,
        within: Duration,
    ) -> Result<Batch, StoreError> {
        let (now, begun) = (self.sources().now(), self.sources().steady());
        let most = most.map_or(u64::MAX, u64::from);
        let mut done = Batch { deleted: 0, more: true };
        while done.more && done.deleted < most {
            let size = (most - done.deleted).min(BATCH);
            match self.write(&DeleteExpired { origin, user, now, size }).await {
                Ok(batch) => done = Batch { deleted: done.deleted + batch.deleted, more: batch.more },
                Err(error) if done.deleted == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        cause = chain(&error),
                        deleted = done.deleted,
                        "not all expired tokens are deleted"
                    );
                    break;
                }
            }
            if self.sources().steady().saturating_sub(begun) >= within {
                break;
            }
        }
        Ok(done)
    }
}

struct Create<'a> {
    origin: &'a Origin,
    user: &'a UserName,
    token: &'a NewToken,
}

impl Work for Create<'_> {
    type Output = Token;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Token, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look_as_maker(tx, self.origin).await?;
        let limits = by.limits(user_restrictions::of(tx, &user).await?);
        insert(tx, &by, &user, self.token, &limits).await
    }
}

/// Makes a token in a transaction that holds the user's row.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    user: &User,
    new: &NewToken,
    limits: &Limits,
) -> Result<Token, StoreError> {
    let now = tx.now();
    users::may_have_tokens(user)?;
    let token = made(tx, by, user, new, limits, now)?;
    admit(tx, user, limits, now).await?;
    save(tx, slice::from_ref(&token)).await?;
    record_made(tx, by, slice::from_ref(&token), Action::TokenCreated, now).await?;
    Ok(token)
}

/// The token that a user gets, who may have another, if whoever asks may give it.
pub(super) fn made(
    tx: &Tx<'_>,
    by: &Confirmed<'_>,
    user: &User,
    new: &NewToken,
    limits: &Limits,
    now: Timestamp,
) -> Result<Token, StoreError> {
    by.may_give(&new.spec.scopes, &new.spec.allowed_cidrs, &new.spec.schemes)?;
    let created_at = new.created_at.unwrap_or(now);
    let expires_at = limits.expiry_of(created_at, now, new.spec.expiry)?;
    Ok(Token {
        id: TokenId(tx.sources.new_id(now)?),
        user: user.name.clone(),
        user_id: user.id,
        name: new.spec.name.clone(),
        description: new.spec.description.clone(),
        hint: new.hint.clone(),
        hash: new.hash,
        schemes: new.spec.schemes.clone(),
        scopes: new.spec.scopes.clone(),
        allowed_cidrs: new.spec.allowed_cidrs.clone(),
        created_at,
        expires_at,
        revoked_at: None,
        last_used_at: None,
        rotated_from: None,
        rotated_to: None,
        made_by: by.maker(),
        in_use_since: None,
    })
}

/// Writes the audit entries of new tokens.
pub(super) async fn record_made(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    tokens: &[Token],
    action: Action,
    now: Timestamp,
) -> Result<(), StoreError> {
    let entries: Vec<_> = tokens.iter().map(|token| (token.id.into(), made_details(token))).collect();
    audit::record_all(tx, by, action, &entries, now).await
}

/// What the audit log tells of a new token.
fn made_details(token: &Token) -> Value {
    let after = json!({
        "name": token.name, "description": token.description, "schemes": token.schemes, "scopes": token.scopes,
        "allowed_cidrs": token.allowed_cidrs, "expires_at": token.expires_at,
    });
    let mut details = json!({ "user": token.user, "hint": token.hint, "before": null, "after": after });
    if let (Some(from), Some(details)) = (token.rotated_from, details.as_object_mut()) {
        details.insert("rotated_from".to_owned(), json!(from));
    }
    details
}

/// Checks that the user may have another token beside those that count.
pub(super) async fn admit(
    tx: &mut Tx<'_>,
    user: &User,
    limits: &Limits,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Limit { most: Some(limit), whose } = limits.tokens {
        let count = history::counted_tokens(tx, user.id, now).await?;
        if count >= limit {
            return Err(StoreError::TokenLimitReached { limit, whose, count });
        }
    }
    Ok(())
}

/// Writes new tokens. The first one of an administrator, however it is made, is what the database waits for.
pub(super) async fn save(tx: &mut Tx<'_>, tokens: &[Token]) -> Result<(), StoreError> {
    for some in tokens.chunks(MANY) {
        let insert = "INSERT INTO tokens (id, user_id, hash, name, description, hint, schemes, scopes, \
             allowed_cidrs, created_at, expires_at, rotated_from, folded, made_by) VALUES";
        let statement = query(AssertSqlSafe(format!("{insert} {}", places(some.len(), 14))));
        some.iter().fold(statement, bound).execute(&mut *tx.connection).await?;
    }
    if tokens.iter().any(|token| token.scopes.is_admin()) {
        history::bootstrapped(tx).await?;
    }
    Ok(())
}

/// A statement with the columns of a new token bound to it.
fn bound<'q>(statement: Statement<'q>, token: &Token) -> Statement<'q> {
    statement
        .bind(token.id.to_string())
        .bind(token.user_id.to_string())
        .bind(token.hash.as_bytes().to_vec())
        .bind(token.name.to_string())
        .bind(token.description.as_ref().map(ToString::to_string))
        .bind(token.hint.clone())
        .bind(schemes_text(&token.schemes))
        .bind(token.scopes.to_string())
        .bind(networks_text(&token.allowed_cidrs))
        .bind(millis(token.created_at))
        .bind(token.expires_at.map(millis))
        .bind(token.rotated_from.map(|id| id.to_string()))
        .bind(folded_text(token))
        .bind(token.made_by.map(|id| id.to_string()))
}

/// A token as a transaction sees it.
pub(super) async fn read(tx: &mut Tx<'_>, id: TokenId) -> Result<Token, StoreError> {
    let row = one(id).fetch_optional(&mut *tx.connection).await?;
    row.as_ref().map(token).ok_or(StoreError::TokenNotFound)?
}

fn one(id: TokenId) -> Statement<'static> {
    query(select_token!("FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id = $1"))
        .bind(id.to_string())
}

struct DeleteExpired<'a> {
    origin: &'a Origin,
    user: &'a UserName,
    now: Timestamp,
    /// How many at most.
    size: u64,
}

impl Work for DeleteExpired<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        let statement = query(
            "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE user_id = $1 AND revoked_at IS NULL \
             AND expires_at <= $2 ORDER BY expires_at, id LIMIT $3) AND revoked_at IS NULL AND expires_at <= $2 \
             RETURNING id, made_by",
        );
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        let statement = statement.bind(user.id.to_string()).bind(millis(self.now)).bind(size);
        let rows = statement.fetch_all(&mut *tx.connection).await?;
        let left = query(
            "SELECT id FROM tokens WHERE user_id = $1 AND revoked_at IS NULL AND expires_at <= $2 \
             ORDER BY expires_at LIMIT 1",
        );
        let left = left.bind(user.id.to_string()).bind(millis(self.now));
        batch_deleted(tx, &by, Subject::from(self.user), &rows, left).await
    }
}

/// Writes one audit entry for a batch of deleted tokens, and tells how many they were and whether there may be more:
/// where the batch was empty, by asking for one that is `left`, for another deleter may just have taken what it chose.
/// What the deleted ones made is as if made by their own makers from now on.
pub(super) async fn batch_deleted(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    subject: Subject,
    deleted: &[AnyRow],
    left: Statement<'_>,
) -> Result<Batch, StoreError> {
    if deleted.is_empty() {
        let more = left.fetch_optional(&mut *tx.connection).await?.is_some();
        return Ok(Batch { deleted: 0, more });
    }
    let ids = deleted.iter().map(|row| row.text("id")).collect::<Result<Vec<_>, _>>()?;
    lineage::bequeath(tx, deleted).await?;
    let now = tx.now();
    let details = json!({ "count": ids.len(), "token_ids": ids });
    audit::record(tx, by, Action::TokensDeleted, subject, details, now).await?;
    Ok(Batch { deleted: u64::try_from(deleted.len()).unwrap_or(u64::MAX), more: true })
}
