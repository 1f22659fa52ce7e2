//! Rotating a token: its successor, its end, and whom edges are told of, in one transaction.

use std::slice;

use serde_json::json;
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::millis;
use super::transaction::{Tx, Work};
use super::{Store, audit, history, revocation, tokens, user_restrictions, users};
use crate::domain::audit::{Action, Origin};
use crate::domain::limits::Limits;
use crate::domain::rotation::{Rotation, Succession};
use crate::domain::time::Timestamp;
use crate::domain::token::{Token, TokenId};
use crate::domain::user::UserName;

impl Store {
    /// Makes a successor of a token, with a new secret and all else as it is, and ends the token after the overlap. What
    /// is left of the overlap of its own predecessor ends now, so that of tokens that succeed each other two work at most.
    ///
    /// Repeating this while the successor was not used replaces it.
    ///
    /// # Errors
    /// [`StoreError::TokenNotFound`], [`StoreError::TokenNotActive`], [`StoreError::TokenRotated`],
    /// [`StoreError::UserDeleted`], [`StoreError::UserDisabled`], [`StoreError::Beyond`], [`StoreError::Expiry`],
    /// [`StoreError::TokenLimitReached`], [`StoreError::Unavailable`].
    pub async fn rotate_token(
        &self,
        origin: &Origin,
        id: TokenId,
        rotation: &Rotation,
    ) -> Result<Token, StoreError> {
        // A token never changes hands, so its user can be read before the transaction that locks the two in order.
        let user = self.token(id).await?.user;
        self.write(&Rotate { origin, id, user: &user, rotation }).await
    }
}

struct Rotate<'a> {
    origin: &'a Origin,
    id: TokenId,
    user: &'a UserName,
    rotation: &'a Rotation,
}

impl Work for Rotate<'_> {
    type Output = Token;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Token, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look_as_maker(tx, self.origin).await?;
        let old = tokens::read(tx, self.id).await?;
        by.may_give(&old.scopes, &old.allowed_cidrs, &old.schemes)?;
        users::may_have_tokens(&user)?;
        let last = last_successor(tx, &old).await?;
        let limits = by.limits(user_restrictions::of(tx, &user).await?);
        let (now, limits) = (tx.now(), for_repetition(limits, &by, &old, last.as_ref()));
        let succession = Succession::of(&old, last.as_ref(), now)?;
        if succession == Succession::Again {
            tokens::admit(tx, &user, &limits, now).await?;
        }
        let like = last.as_ref().unwrap_or(&old);
        let successor = self.succeed(tx, &by, &old, like, &limits, now).await?;
        let mut touched = self.end(tx, &by, &old, &successor, now).await?;
        let replaced = match succession {
            Succession::Replaces(id) => Some(id),
            Succession::First | Succession::Again => None,
        };
        for before in [replaced, old.rotated_from].into_iter().flatten() {
            touched.extend(replace(tx, &by, before, &successor, now).await?);
        }
        history::tokens_changed(tx, &touched, now).await?;
        Ok(successor)
    }
}

impl Rotate<'_> {
    /// Makes the successor.
    async fn succeed(
        &self,
        tx: &mut Tx<'_>,
        by: &Confirmed<'_>,
        old: &Token,
        like: &Token,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Token, StoreError> {
        let id = TokenId(tx.sources.new_id(now)?);
        let successor = self.rotation.successor(id, old, like, limits, now, by.maker())?;
        tokens::save(tx, slice::from_ref(&successor)).await?;
        tokens::record_made(tx, by, slice::from_ref(&successor), Action::TokenCreated, now).await?;
        Ok(successor)
    }

    /// Ends the old token, and names it if the verdict on it may be another from now on.
    async fn end(
        &self,
        tx: &mut Tx<'_>,
        by: &Confirmed<'_>,
        old: &Token,
        successor: &Token,
        now: Timestamp,
    ) -> Result<Vec<TokenId>, StoreError> {
        let ended = self.rotation.ended(old.clone(), successor.id, now);
        query("UPDATE tokens SET rotated_to = $1, expires_at = $2, revoked_at = $3 WHERE id = $4")
            .bind(successor.id.to_string())
            .bind(ended.expires_at.map(millis))
            .bind(ended.revoked_at.map(millis))
            .bind(old.id.to_string())
            .execute(&mut *tx.connection)
            .await?;
        let ends = |token: &Token| json!({ "expires_at": token.expires_at, "revoked_at": token.revoked_at });
        let (was, is) = audit::differences(&ends(old), &ends(&ended));
        let details = json!({
            "user": old.user, "name": old.name, "hint": old.hint, "successor": successor.id,
            "overlap": self.rotation.overlap.period(), "ends_at": ended.revoked_at.or(ended.expires_at),
            "before": was, "after": is,
        });
        audit::record(tx, by, Action::TokenRotated, old.id.into(), details, now).await?;
        let same = (ended.expires_at, ended.revoked_at) == (old.expires_at, old.revoked_at);
        Ok(if same { Vec::new() } else { vec![old.id] })
    }
}

/// The limits of a successor, where a token may be repeating its own rotation: that has cut its time to the overlap, and what
/// takes the place of the first successor may last as long as that one.
fn for_repetition(limits: Limits, by: &Confirmed<'_>, old: &Token, last: Option<&Token>) -> Limits {
    match last {
        Some(last) if by.maker() == Some(old.id) && last.made_by == Some(old.id) => {
            limits.for_change_of(last.expires_at)
        }
        _ => limits,
    }
}

/// Revokes a token whose place another has taken, if it is there and live; names it if it was.
async fn replace(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    id: TokenId,
    successor: &Token,
    now: Timestamp,
) -> Result<Option<TokenId>, StoreError> {
    let revoked = query(
        "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > $1)",
    );
    let revoked = revoked.bind(millis(now)).bind(id.to_string()).execute(&mut *tx.connection).await?;
    if revoked.rows_affected() == 0 {
        return Ok(None);
    }
    let token = tokens::read(tx, id).await?;
    let mut details = revocation::revoked_details(&token);
    if let Some(details) = details.as_object_mut() {
        details.insert("replaced_by".to_owned(), json!(successor.id));
    }
    audit::record(tx, by, Action::TokenRevoked, id.into(), details, now).await?;
    Ok(Some(id))
}

/// The last token that was made to succeed another, if it is still there. It stays locked, so that nobody notes its first
/// use meanwhile.
async fn last_successor(tx: &mut Tx<'_>, old: &Token) -> Result<Option<Token>, StoreError> {
    let Some(id) = old.rotated_to else { return Ok(None) };
    query("UPDATE tokens SET name = name WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    match tokens::read(tx, id).await {
        Err(StoreError::TokenNotFound) => Ok(None),
        found => found.map(Some),
    }
}
