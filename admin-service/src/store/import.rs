//! Imports of tokens by their hashes: all of one, or nothing, in one transaction and by one revision.

use std::collections::HashMap;

use latchkey::token::TokenHash;
use sqlx::{AssertSqlSafe, query};

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{MANY, list};
use super::token_rows::{select_token, token};
use super::transaction::{Statement, Tx, Work};
use super::{Store, history, tokens, user_restrictions, users};
use crate::domain::audit::{Action, Origin};
use crate::domain::import::{Import, Imported};
use crate::domain::limits::{Limit, Limits};
use crate::domain::time::Timestamp;
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

/// What a token takes on the disk with its audit entry, in the log and in the file.
const ROOM: u64 = 4 * 1024;

impl Work for Run<'_> {
    type Output = Vec<Imported>;

    fn room(&self) -> u64 {
        ROOM * self.import.tokens.len() as u64
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<Imported>, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look_as_maker(tx, self.origin).await?;
        users::may_have_tokens(&user)?;
        let limits = if self.import.ignore_restrictions {
            Limits::NONE
        } else {
            user_restrictions::of(tx, &user).await?
        };
        let limits = by.limits(limits);
        let now = tx.now();
        let mut known = known(tx, &self.import.tokens).await?;
        let mut imported = Vec::with_capacity(self.import.tokens.len());
        for (index, new) in self.import.tokens.iter().enumerate() {
            let one = one(tx, &by, &user, new, known.remove(&new.hash), &limits, now);
            imported.push(one.map_err(|refused| refused.of_entry(index))?);
        }
        let new: Vec<Token> = imported.iter().filter_map(Imported::new_token).cloned().collect();
        admit(tx, &user, &limits, new.len(), now).await?;
        tokens::save(tx, &new).await?;
        tokens::record_made(tx, &by, &new, Action::TokenImported, now).await?;
        // An edge may remember that there is no such token.
        let ids: Vec<_> = new.iter().map(|token| token.id).collect();
        history::tokens_changed(tx, &ids, now).await?;
        Ok(imported)
    }
}

/// Those of the tokens that are stored already, whoever has them.
async fn known(tx: &mut Tx<'_>, new: &[NewToken]) -> Result<HashMap<TokenHash, Token>, StoreError> {
    let mut known = HashMap::new();
    for some in new.chunks(MANY) {
        let select = select_token!("FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.hash IN ");
        let statement = query(AssertSqlSafe(format!("{select}{}", list(1, some.len()))));
        let bind =
            |statement: Statement<'static>, new: &NewToken| statement.bind(new.hash.as_bytes().to_vec());
        for row in some.iter().fold(statement, bind).fetch_all(&mut *tx.connection).await? {
            let token = token(&row)?;
            known.insert(token.hash, token);
        }
    }
    Ok(known)
}

/// What becomes of one token, `known` being the one of its hash that is stored.
fn one(
    tx: &Tx<'_>,
    by: &Confirmed<'_>,
    user: &User,
    new: &NewToken,
    known: Option<Token>,
    limits: &Limits,
    now: Timestamp,
) -> Result<Imported, StoreError> {
    match known {
        Some(known) if known.user_id == user.id => Ok(Imported::Stored(known)),
        Some(known) => Err(StoreError::TokenExists(known.id)),
        None => tokens::made(tx, by, user, new, limits, now).map(Imported::New),
    }
}

/// Checks that the user may have so many more.
async fn admit(
    tx: &mut Tx<'_>,
    user: &User,
    limits: &Limits,
    new: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Limit { most: Some(limit), whose } = limits.tokens else { return Ok(()) };
    let new = u32::try_from(new).unwrap_or(u32::MAX);
    if new == 0 {
        return Ok(());
    }
    let count = history::counted_tokens(tx, user.id, now).await?;
    if count.saturating_add(new) > limit {
        return Err(StoreError::ImportBeyondLimit { limit, whose, count, new });
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
