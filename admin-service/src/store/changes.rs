//! Reading the changes that follow a position, for the feed.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::Store;
use super::error::StoreError;
use super::history::{stamp, valid_position};
use super::row::Columns;
use crate::domain::changes::{Change, ChangePage, MOST, Position, Stamp, Told};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Revision;

impl Store {
    /// What follows `after`: a page of about `size` token hashes that ends where a revision ends. A revision that touches
    /// more than `size` makes a page of its own, unless it touches more than [`MOST`], which no page can tell of.
    ///
    /// Position and changes are of one moment, so nothing is lost between two pages.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`].
    pub async fn changes(&self, after: &Position, size: usize) -> Result<Told, StoreError> {
        let mut read = self.read(after, size).await?;
        if read.first_is_cut() && size < MOST {
            read = self.read(after, MOST).await?;
        }
        Ok(read.told(size))
    }

    /// Whether more than so many token hashes follow a position.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn has_more_changes_than(&self, after: &Position, most: usize) -> Result<bool, StoreError> {
        let text = format!(
            "SELECT COUNT(*) AS following FROM (SELECT revision FROM changes WHERE revision > $1 ORDER BY revision LIMIT {}) c",
            most.saturating_add(1)
        );
        let revision = i64::try_from(after.revision.0).unwrap_or(i64::MAX);
        let row = self.one(query(AssertSqlSafe(text)).bind(revision)).await?;
        Ok(row.number::<u64>("following")? > u64::try_from(most).unwrap_or(u64::MAX))
    }

    /// Reads at most `most` token hashes, and whether there is one more.
    async fn read(&self, after: &Position, most: usize) -> Result<Read, StoreError> {
        // The limit is in the text and not bound: not knowing it, PostgreSQL would rather read the whole table.
        let text = format!(
            "SELECT h.epoch, h.revision, h.retained_after, h.stamp, h.bootstrapped, c.changed_by, c.changed_at, c.token_hash FROM history h LEFT JOIN \
             (SELECT revision AS changed_by, at AS changed_at, token_hash FROM changes WHERE revision > $1 \
             ORDER BY revision, token_hash LIMIT {}) c ON 1 = 1 WHERE h.singleton = 1 ORDER BY c.changed_by, c.token_hash",
            most.saturating_add(1)
        );
        let revision = i64::try_from(after.revision.0).unwrap_or(i64::MAX);
        let rows = self.rows(query(AssertSqlSafe(text)).bind(revision)).await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (now, stamp) = (valid_position(head)?, stamp(head)?);
        let retained_after = Revision(head.number("retained_after")?);
        let retained = (retained_after..=now.revision).contains(&after.revision);
        let changes = grouped(&rows)?;
        Ok(Read { known: retained && after.epoch == now.epoch, now, stamp, cut: rows.len() > most, changes })
    }
}

/// What one statement found.
struct Read {
    now: Position,
    stamp: Stamp,
    /// Whether the reader's position is in the history that is retained.
    known: bool,
    changes: Vec<Change>,
    /// Whether there are more, so that the last change may not be whole.
    cut: bool,
}

impl Read {
    fn first_is_cut(&self) -> bool {
        self.known && self.cut && self.changes.len() == 1
    }

    fn told(mut self, size: usize) -> Told {
        if self.cut {
            self.changes.pop();
        }
        let last = match self.changes.last() {
            Some(whole) if self.cut => Some(whole.revision),
            None if self.cut => None,
            _ => Some(self.now.revision),
        };
        let page = last.filter(|_| self.known).map(|last| ChangePage::first(self.changes, size, last));
        Told { now: self.now, stamp: Some(self.stamp), page }
    }
}

/// Rows in order, as one change for each revision.
fn grouped(rows: &[AnyRow]) -> Result<Vec<Change>, StoreError> {
    let mut groups = Vec::<(Revision, Timestamp, Vec<_>)>::new();
    for row in rows {
        // Where there are no changes, the history's row stands alone.
        let Some(revision) = row.number_or_null("changed_by")?.map(Revision) else { continue };
        let hash = row.token_hash("token_hash")?;
        match groups.last_mut() {
            Some((last, _, hashes)) if *last == revision => hashes.push(hash),
            _ => groups.push((revision, row.time("changed_at")?, vec![hash])),
        }
    }
    let change =
        |(revision, at, hashes): (_, _, Vec<_>)| Change { revision, at, token_hashes: hashes.into() };
    Ok(groups.into_iter().map(change).collect())
}
