//! The size of SQLite's write-ahead log. While somebody reads an old state of the database for long, the log grows with each change;
//! what it took of the disk is given back when the reader is gone.

use sqlx::query;

use super::Store;
use super::error::StoreError;

/// How large the log may stay, in bytes: SQLite writes it back at a quarter of that.
pub(super) const LOG_LIMIT: u64 = 16 * 1024 * 1024;

impl Store {
    /// Writes a log that is too large back into the database and cuts it, if nobody reads an old state. Neither waits for readers or
    /// writers nor lets them wait, but for what little was written while the log was written back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Full`].
    pub async fn shrink_log(&self) -> Result<(), StoreError> {
        let Some(file) = self.0.file.as_ref().filter(|file| file.log_size() > LOG_LIMIT) else {
            return Ok(());
        };
        let mut anchor = self.0.anchor.lock().await;
        let Some(anchor) = anchor.as_mut() else { return Ok(()) };
        let before = file.log_size();
        for statement in
            ["PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(TRUNCATE)"]
        {
            query(statement).fetch_all(&mut *anchor).await?;
        }
        let after = file.log_size();
        if after < before {
            tracing::info!(before, after, "gave disk space of the database's log back");
        }
        Ok(())
    }
}
