//! Reading the changes that follow a position, for the feed.

use latchkey::token::TokenHash;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::Store;
use super::error::StoreError;
use super::history::{stamp, valid_position};
use super::row::Columns;
use crate::domain::changes::{Change, ChangePage, Link, MOST, Part, Position, Stamp, Standing, Told};
use crate::domain::verdict::Revision;

/// It comes after every token hash, which are of 32 bytes.
const AFTER_ALL_HASHES: [u8; 33] = [0xff; 33];

impl Store {
    /// What follows `after`: a page of about `size` token hashes that ends where a revision ends. A revision that touches
    /// more than `size` makes a page of its own, unless it touches more than [`MOST`], which no page can tell of.
    ///
    /// Position and changes are of one moment, so nothing is lost between two pages.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`].
    pub async fn changes(&self, after: &Position, size: usize) -> Result<Told, StoreError> {
        let mut part = self.part_of_changes(after, None, size).await?;
        let first_is_cut = part.known && part.cut && part.changes.len() == 1;
        if first_is_cut && size < MOST {
            part = self.part_of_changes(after, None, MOST).await?;
        }
        Ok(told(part, size))
    }

    /// What follows `after`, up to so many token hashes, wherever that ends. Where some of the next change was read already, `begun`,
    /// it is what follows that.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`].
    pub async fn part_of_changes(
        &self,
        after: &Position,
        begun: Option<&Change>,
        most: usize,
    ) -> Result<Part, StoreError> {
        let last =
            begun.and_then(|begun| Some((begun.revision, begun.token_hashes.last()?.as_bytes().to_vec())));
        let (revision, hash) = last.unwrap_or_else(|| (after.revision, AFTER_ALL_HASHES.to_vec()));
        // The limit is in the text and not bound: not knowing it, PostgreSQL would rather read the whole table. Rows of revisions yet to
        // come can only be left from a history that is gone.
        let text = format!(
            "SELECT h.epoch, h.revision, h.retained_after, h.stamp, h.bootstrapped, \
             c.changed_by, c.changed_at, c.token_hash, c.change_stamp, c.previous_stamp FROM history h LEFT JOIN \
             (SELECT revision AS changed_by, at AS changed_at, token_hash, stamp AS change_stamp, previous_stamp \
             FROM changes WHERE (revision, token_hash) > ($1, $2) ORDER BY revision, token_hash LIMIT {}) c ON c.changed_by <= h.revision \
             WHERE h.singleton = 1 ORDER BY c.changed_by, c.token_hash",
            most.saturating_add(1)
        );
        let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
        let rows = self.rows(query(AssertSqlSafe(text)).bind(revision).bind(hash)).await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let now = Standing { position: valid_position(head)?, stamp: stamp(head)? };
        let retained_after = Revision(head.number("retained_after")?);
        let retained = (retained_after..=now.position.revision).contains(&after.revision);
        let known = retained && after.epoch == now.position.epoch;
        Ok(Part { now, known, cut: rows.len() > most, changes: grouped(&rows)? })
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
}

/// A page of a part, for one who reads whole changes.
fn told(mut part: Part, size: usize) -> Told {
    let now = part.now.position.clone();
    part.take_unfinished();
    let last = match part.changes.last() {
        Some(whole) if part.cut => Some(whole.revision),
        None if part.cut => None,
        _ => Some(now.revision),
    };
    let page = last.filter(|_| part.known).map(|last| ChangePage::first(part.changes, size, last));
    Told { now, page }
}

/// Rows in order, as one change for each revision.
fn grouped(rows: &[AnyRow]) -> Result<Vec<Change>, StoreError> {
    let mut groups = Vec::<(&AnyRow, Revision, Vec<_>)>::new();
    for row in rows {
        // Where there are no changes, the history's row stands alone.
        let Some(revision) = row.number_or_null("changed_by")?.map(Revision) else { continue };
        let hash = row.token_hash("token_hash")?;
        match groups.last_mut() {
            Some((_, last, hashes)) if *last == revision => hashes.push(hash),
            _ => groups.push((row, revision, vec![hash])),
        }
    }
    groups.into_iter().map(|(row, revision, hashes)| change(row, revision, hashes)).collect()
}

/// A change of these token hashes, for which `row` is one of its rows.
fn change(row: &AnyRow, revision: Revision, hashes: Vec<TokenHash>) -> Result<Change, StoreError> {
    let stamps: (Option<i64>, Option<i64>) =
        (row.integer_or_null("previous_stamp")?, row.integer_or_null("change_stamp")?);
    let link = match stamps {
        (Some(previous), Some(stamp)) => Some(Link { previous: Stamp(previous), stamp: Stamp(stamp) }),
        _ => None,
    };
    Ok(Change { revision, at: row.time("changed_at")?, token_hashes: hashes.into(), link })
}
