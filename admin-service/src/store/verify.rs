//! The verdict on a token hash: one statement, so that token, user and revision are of one moment.

use latchkey::token::TokenHash;
use sqlx::query;

use super::Store;
use super::error::StoreError;
use super::row::Columns;
use super::token_rows::{select_token, token};
use crate::domain::verdict::{Epoch, Outcome, Revision, Verdict};

impl Store {
    /// What the service says of a token hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: then there is no verdict, neither yes nor no.
    pub async fn verify(&self, hash: TokenHash) -> Result<Verdict, StoreError> {
        let statement = query(select_token!(
            ", h.epoch, h.revision FROM history h LEFT JOIN tokens t ON t.hash = $1 LEFT JOIN users u ON u.id = t.user_id"
        ));
        let row = self.one(statement.bind(hash.as_bytes().to_vec())).await?;
        let known = row.text_or_null("id")?.is_some();
        let (token, user_active) =
            if known { (Some(token(&row)?), row.flag("user_active")?) } else { (None, false) };
        // The time of the answer, so that a slow database does not stretch a token's life.
        let now = self.sources().now();
        Ok(Verdict {
            epoch: Epoch(row.text("epoch")?),
            revision: Revision(row.number("revision")?),
            outcome: Outcome::of(token, user_active, now),
        })
    }
}
