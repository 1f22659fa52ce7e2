//! The history of changes that can alter a verdict: one counter, and the token hashes that each step touched.

use std::sync::Arc;

use latchkey::token::TokenHash;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::Store;
use super::error::StoreError;
use super::row::{Columns, MANY, list, millis};
use super::transaction::{Statement, Tx};
use crate::domain::changes::{Change, Position, Stamp};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;
use crate::domain::user::UserId;
use crate::domain::verdict::{Epoch, Revision};

/// The most tokens of a change that is announced when it is committed; of larger ones the database tells.
const ANNOUNCED: usize = 1_000;

/// A change that this process has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The history that it is in.
    pub epoch: Epoch,
    /// The stamp that the history has with it.
    pub stamp: Stamp,
    /// The change, as the database tells of it.
    pub change: Change,
}

/// Where a history stands, for those who go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name and its latest revision.
    pub position: Position,
    /// What tells it from another history that has come to the same position.
    pub stamp: Stamp,
}

impl Store {
    /// Where the history stands, if there is one to go by.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`].
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        let row = self
            .one(query("SELECT epoch, revision, stamp, bootstrapped FROM history WHERE singleton = 1"))
            .await?;
        Ok(Standing { position: valid_position(&row)?, stamp: stamp(&row)? })
    }

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

/// The same for verdicts and for those who follow the history, from `bootstrapped` as well: a database that never had an administrator
/// says nothing.
pub(super) fn valid_position(row: &AnyRow) -> Result<Position, StoreError> {
    if row.flag("bootstrapped")? { position(row) } else { Err(StoreError::NotBootstrapped) }
}

/// Reads the column `stamp`.
pub(super) fn stamp(row: &AnyRow) -> Result<Stamp, StoreError> {
    row.integer("stamp").map(Stamp)
}

/// A stamp that no history has had.
pub(super) fn new_stamp(tx: &Tx<'_>) -> Result<Stamp, StoreError> {
    let mut random = [0; 8];
    tx.sources.fill(&mut random)?;
    Ok(Stamp(i64::from_be_bytes(random)))
}

/// Notes that there is an administrator, or was. Those who follow the history begin with it now.
pub(super) async fn bootstrapped(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let noted = query("UPDATE history SET bootstrapped = 1 WHERE singleton = 1 AND bootstrapped = 0");
    tx.took_revision |= noted.execute(&mut *tx.connection).await?.rows_affected() > 0;
    Ok(())
}

/// The latest revision as a transaction sees it.
pub(super) async fn revision(tx: &mut Tx<'_>) -> Result<Revision, StoreError> {
    let row =
        query("SELECT revision FROM history WHERE singleton = 1").fetch_one(&mut *tx.connection).await?;
    row.number("revision").map(Revision)
}

/// Takes the next revision. The row stays locked until the transaction ends, so revisions commit in order with no gaps;
/// therefore this comes last.
async fn next_revision(tx: &mut Tx<'_>) -> Result<Standing, StoreError> {
    let stamp = new_stamp(tx)?;
    let text = "UPDATE history SET revision = revision + 1, stamp = $1 WHERE singleton = 1 RETURNING epoch, revision";
    let row = query(text).bind(stamp.0);
    tx.took_revision = true;
    let position = position(&row.fetch_one(&mut *tx.connection).await?)?;
    Ok(Standing { position, stamp })
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
    let mut taken = Taken::next(tx, ids.len(), now).await?;
    for some in ids.chunks(MANY) {
        let text = taken.text(&format!("id IN {}", list(3, some.len())));
        let statement = taken.bind(query(AssertSqlSafe(text)));
        let statement = some.iter().fold(statement, |statement, id| statement.bind(id.to_string()));
        taken.insert(tx, statement).await?;
    }
    taken.announce(tx);
    Ok(())
}

/// Notes that the verdicts on all live tokens of a user may be others from now on. The caller holds the user's row, so
/// that no token is made meanwhile. A user without live tokens takes no revision: no verdict changes.
pub(super) async fn user_changed(tx: &mut Tx<'_>, id: UserId, now: Timestamp) -> Result<(), StoreError> {
    let live = live_tokens(tx, id, now).await?;
    if live == 0 {
        return Ok(());
    }
    let mut taken = Taken::next(tx, usize::try_from(live).unwrap_or(usize::MAX), now).await?;
    let text = taken.text("user_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)");
    let statement = taken.bind(query(AssertSqlSafe(text))).bind(id.to_string());
    taken.insert(tx, statement).await?;
    taken.announce(tx);
    Ok(())
}

/// A revision that a transaction has taken, and the tokens that it touches.
struct Taken {
    standing: Standing,
    at: Timestamp,
    /// The hashes of the tokens, if they are announced.
    hashes: Option<Vec<TokenHash>>,
}

impl Taken {
    /// Takes the next revision, for a change of so many tokens.
    async fn next(tx: &mut Tx<'_>, tokens: usize, at: Timestamp) -> Result<Self, StoreError> {
        let hashes = (tokens <= ANNOUNCED).then(|| Vec::with_capacity(tokens));
        Ok(Self { standing: next_revision(tx).await?, at, hashes })
    }

    /// The statement that notes some of the tokens.
    fn text(&self, which: &str) -> String {
        let returning = if self.hashes.is_some() { " RETURNING token_hash" } else { "" };
        format!(
            "INSERT INTO changes (revision, token_hash, at) SELECT $1, hash, $2 FROM tokens WHERE {which}{returning}"
        )
    }

    /// Binds what is the same for all tokens: `$1` and `$2`.
    fn bind<'q>(&self, statement: Statement<'q>) -> Statement<'q> {
        let revision = i64::try_from(self.standing.position.revision.0).unwrap_or(i64::MAX);
        statement.bind(revision).bind(millis(self.at))
    }

    async fn insert(&mut self, tx: &mut Tx<'_>, statement: Statement<'_>) -> Result<(), StoreError> {
        let Some(hashes) = &mut self.hashes else {
            statement.execute(&mut *tx.connection).await?;
            return Ok(());
        };
        for row in statement.fetch_all(&mut *tx.connection).await? {
            hashes.push(row.token_hash("token_hash")?);
        }
        Ok(())
    }

    /// Has the change announced when the transaction is committed, its hashes in the order in which the database tells them.
    fn announce(self, tx: &mut Tx<'_>) {
        let Some(mut hashes) = self.hashes else { return };
        hashes.sort_unstable();
        let Standing { position: Position { epoch, revision }, stamp } = self.standing;
        let change = Change { revision, at: self.at, token_hashes: Arc::from(hashes) };
        tx.announced.push(Committed { epoch, stamp, change });
    }
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
