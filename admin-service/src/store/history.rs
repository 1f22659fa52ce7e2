//! The history of changes that can alter a verdict: one counter, and the token hashes that each step touched.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::Store;
use super::error::StoreError;
use super::row::{Columns, MANY, list, millis};
use super::transaction::Tx;
use crate::domain::changes::Position;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;
use crate::domain::user::UserId;
use crate::domain::verdict::{Epoch, Revision};

impl Store {
    /// Where the history stands: its name and its latest revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn position(&self) -> Result<Position, StoreError> {
        let row = self.one(query("SELECT epoch, revision FROM history WHERE singleton = 1")).await?;
        position(&row)
    }
}

/// Reads a position from the columns `epoch` and `revision`.
pub(super) fn position(row: &AnyRow) -> Result<Position, StoreError> {
    Ok(Position { epoch: Epoch(row.text("epoch")?), revision: Revision(row.number("revision")?) })
}

/// The latest revision as a transaction sees it.
pub(super) async fn revision(tx: &mut Tx<'_>) -> Result<Revision, StoreError> {
    let row =
        query("SELECT revision FROM history WHERE singleton = 1").fetch_one(&mut *tx.connection).await?;
    row.number("revision").map(Revision)
}

/// Takes the next revision. The row stays locked until the transaction ends, so revisions commit in order with no gaps;
/// therefore this comes last.
async fn next_revision(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    let row = query("UPDATE history SET revision = revision + 1 WHERE singleton = 1 RETURNING revision");
    tx.took_revision = true;
    row.fetch_one(&mut *tx.connection).await?.number("revision")
}

/// Notes that the verdict on a token may be another from now on.
pub(super) async fn token_changed(tx: &mut Tx<'_>, id: TokenId, now: Timestamp) -> Result<(), StoreError> {
    tokens_changed(tx, &[id], now).await
}

/// Notes that the verdicts on some tokens may be others from now on, by one revision; of no tokens by none.
pub(super) async fn tokens_changed(
    tx: &mut Tx<'_>,
    ids: &[TokenId],
    now: Timestamp,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let revision = next_revision(tx).await?;
    for some in ids.chunks(MANY) {
        let insert =
            "INSERT INTO changes (revision, token_hash, at) SELECT $1, hash, $2 FROM tokens WHERE id IN";
        let statement = query(AssertSqlSafe(format!("{insert} {}", list(3, some.len()))));
        let statement = statement.bind(revision).bind(millis(now));
        let statement = some.iter().fold(statement, |statement, id| statement.bind(id.to_string()));
        statement.execute(&mut *tx.connection).await?;
    }
    Ok(())
}

/// Notes that the verdicts on all live tokens of a user may be others from now on. The caller holds the user's row, so
/// that no token is made meanwhile. A user without live tokens takes no revision: no verdict changes.
pub(super) async fn user_changed(tx: &mut Tx<'_>, id: UserId, now: Timestamp) -> Result<(), StoreError> {
    if live_tokens(tx, id, now).await? == 0 {
        return Ok(());
    }
    let revision = next_revision(tx).await?;
    query(
        "INSERT INTO changes (revision, token_hash, at) SELECT $1, hash, $2 FROM tokens \
         WHERE user_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(revision)
    .bind(millis(now))
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// How many live tokens of a user count against the limit: those that were not rotated. Exact while the caller holds the
/// user's row.
pub(super) async fn counted_tokens(tx: &mut Tx<'_>, id: UserId, now: Timestamp) -> Result<u32, StoreError> {
    let count = query(
        "SELECT COUNT(*) AS live FROM tokens WHERE user_id = $1 AND revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > $2) AND rotated_to IS NULL",
    );
    count.bind(id.to_string()).bind(millis(now)).fetch_one(&mut *tx.connection).await?.number("live")
}

/// How many live tokens a user has. Exact while the caller holds the user's row.
pub(super) async fn live_tokens(tx: &mut Tx<'_>, id: UserId, now: Timestamp) -> Result<u32, StoreError> {
    let count = query(
        "SELECT COUNT(*) AS live FROM tokens \
         WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
    );
    count.bind(id.to_string()).bind(millis(now)).fetch_one(&mut *tx.connection).await?.number("live")
}
