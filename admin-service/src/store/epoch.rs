//! The history's name, which changes when history was lost: whoever has followed it then begins anew.

use serde_json::json;
use sqlx::{AssertSqlSafe, query};

use super::authority::Confirmed;
use super::error::StoreError;
use super::history::{new_stamp, position};
use super::transaction::{Tx, Work};
use super::{Store, audit};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::changes::Position;
use crate::domain::verdict::Epoch;

impl Store {
    /// Gives the history a new name, as is needed when the database was restored from a backup: revisions that edges know
    /// of are gone, and others will take their numbers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn new_epoch(&self) -> Result<Position, StoreError> {
        self.write(&Rename { lost: None, origin: Origin::local(), reason: None }).await
    }

    /// The same, but only while the history still has the name `lost`: of several who notice a loss one renames. Says
    /// where the history stands, whoever it was.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn replace_epoch(&self, lost: &Epoch) -> Result<Position, StoreError> {
        self.write(&Rename { lost: Some(lost), origin: Origin::scheduler(), reason: None }).await
    }
}

/// Begins a new epoch; with `lost` only while the history has that name.
pub(super) struct Rename<'a> {
    pub lost: Option<&'a Epoch>,
    pub origin: Origin,
    /// Why, for the audit log, where that is not what `lost` says.
    pub reason: Option<&'a str>,
}

impl Work for Rename<'_> {
    type Output = Position;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Position, StoreError> {
        // Locks the row, so that nobody renames it or takes a revision meanwhile.
        let locked = query("UPDATE history SET epoch = epoch WHERE singleton = 1 RETURNING epoch, revision");
        let now = position(&locked.fetch_one(&mut *tx.connection).await?)?;
        if self.lost.is_some_and(|lost| *lost != now.epoch) {
            return Ok(now);
        }
        tx.took_revision = true;
        // Changes of revisions yet to come can only be left from the history that is gone.
        // The number is in the text: not knowing it, PostgreSQL would rather read the whole table.
        let text = format!("DELETE FROM changes WHERE revision > {}", now.revision.0);
        query(AssertSqlSafe(text)).execute(&mut *tx.connection).await?;
        let epoch = tx.sources.new_id(tx.now())?.to_string();
        let mut details = json!({
            "revision": now.revision.0, "before": {"epoch": now.epoch.0}, "after": {"epoch": epoch},
        });
        if let (Some(reason), Some(details)) = (self.reason, details.as_object_mut()) {
            details.insert("reason".to_owned(), reason.into());
        }
        let by = Confirmed::when_begun(&self.origin);
        audit::record(tx, &by, Action::EpochChanged, Subject::epoch(), details, tx.now()).await?;
        let stamp = new_stamp(tx)?;
        let renamed = query(
            "UPDATE history SET epoch = $1, stamp = $2, retained_after = revision WHERE singleton = 1 RETURNING epoch, revision",
        );
        position(&renamed.bind(epoch).bind(stamp.0).fetch_one(&mut *tx.connection).await?)
    }
}
