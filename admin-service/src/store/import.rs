//! Imports of tokens by their hashes: all of one, or nothing, in one transaction and by one revision.

use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::token_rows::{select_token, token};
use super::transaction::{Tx, Work};
use super::{Store, history, tokens, user_restrictions, users};
use crate::domain::audit::{Action, Origin};
use crate::domain::import::{Import, Imported};
use crate::domain::limits::{Limit, Limits};
use crate::domain::token::{NewToken, Token};
use crate::domain::user::{User, UserName};

impl Store {
    /// Stores tokens of another system's for a user, in their order. Those that the user has already stay as they are, so
    /// that an import can be repeated.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::UserDeleted`], [`StoreError::UserDisabled`],
    /// [`StoreError::ImportBeyondLimit`], [`StoreError::Unavailable`]; and [`StoreError::Entry`] with
    /// [`StoreError::TokenExists`], [`StoreError::Expiry`] or [`StoreError::Beyond`] for the first token that cannot be.
    pub async fn import_tokens(
        &self,
        origin: &Origin,
        user: &UserName,
        import: &Import,
    ) -> Result<Vec<Imported>, StoreError> {
        self.write(&Run { origin, user, import }).await
    }
}

struct Run<'a> {
    origin: &'a Origin,
    user: &'a UserName,
    import: &'a Import,
}

impl Work for Run<'_> {
    type Output = Vec<Imported>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<Imported>, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        users::may_have_tokens(&user)?;
        let limits = match self.import.ignore_restrictions {
            true => Limits::NONE,
            false => user_restrictions::of(tx, &user).await?,
        };
        let mut imported = Vec::with_capacity(self.import.tokens.len());
        for (index, new) in self.import.tokens.iter().enumerate() {
            let one = one(tx, &by, &user, new, &limits).await;
            imported.push(one.map_err(|refused| refused.of_entry(index))?);
        }
        let ids: Vec<_> = imported.iter().filter_map(Imported::new_token).map(|token| token.id).collect();
        admit(tx, &user, &limits, ids.len()).await?;
        // An edge may remember that there is no such token.
        let now = tx.now();
        history::tokens_changed(tx, &ids, now).await?;
        Ok(imported)
    }
}

async fn one(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    user: &User,
    new: &NewToken,
    limits: &Limits,
) -> Result<Imported, StoreError> {
    let known = query(select_token!("FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.hash = $1"));
    let known = known.bind(new.hash.as_bytes().to_vec()).fetch_optional(&mut *tx.connection).await?;
    match known.as_ref().map(token).transpose()? {
        Some(known) if known.user_id == user.id => Ok(Imported::Stored(known)),
        Some(_) => Err(StoreError::TokenExists),
        None => {
            by.may_give(&new.spec.scopes, &new.spec.allowed_cidrs)?;
            let expires_at = limits.expiry(tx.now(), new.spec.expiry)?;
            let made = tokens::make(tx, by, user, new, expires_at, Action::TokenImported).await;
            made.map(Imported::New).map_err(|error| match error.is_conflict() {
                // Another transaction was faster, for another user: this one's row is locked.
                true => StoreError::TokenExists,
                false => error,
            })
        }
    }
}

/// Checks that the user may have those that were just stored.
async fn admit(tx: &mut Tx<'_>, user: &User, limits: &Limits, new: usize) -> Result<(), StoreError> {
    let Limit { most: Some(limit), whose } = limits.tokens else { return Ok(()) };
    if new == 0 {
        return Ok(());
    }
    let now = tx.now();
    let with_them = history::counted_tokens(tx, user.id, now).await?;
    if with_them > limit {
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        return Err(StoreError::ImportBeyondLimit {
            limit,
            whose,
            count: with_them.saturating_sub(new),
            new,
        });
    }
    Ok(())
}

impl Imported {
    fn new_token(&self) -> Option<&Token> {
        match self {
            Self::New(token) => Some(token),
            Self::Stored(_) => None,
        }
    }
}
