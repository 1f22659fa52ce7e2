//! Changing a token that is there, within the restrictions and within what the caller holds itself.

use serde_json::{Value, json};
use sqlx::query;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::millis;
use super::token_rows::{folded_text, networks_text};
use super::transaction::{Tx, Work};
use super::{Store, audit, history, tokens, user_restrictions, users};
use crate::domain::audit::{Action, Origin};
use crate::domain::token::{Token, TokenId, TokenStatus};
use crate::domain::token_patch::TokenPatch;
use crate::domain::user::UserName;

impl Store {
    /// Changes a live token. What makes it permit more must be something that the caller holds itself. A change of what
    /// a verdict says is told to every edge; where nothing differs, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::TokenNotFound`], [`StoreError::TokenNotActive`], [`StoreError::UserDeleted`],
    /// [`StoreError::Expiry`], [`StoreError::Beyond`], [`StoreError::Unavailable`].
    pub async fn update_token(
        &self,
        origin: &Origin,
        id: TokenId,
        patch: &TokenPatch,
    ) -> Result<Token, StoreError> {
        // A token never changes hands, so its user can be read before the transaction that locks the two in order.
        let user = self.token(id).await?.user;
        self.write(&Update { origin, id, user: &user, patch }).await
    }
}

struct Update<'a> {
    origin: &'a Origin,
    id: TokenId,
    user: &'a UserName,
    patch: &'a TokenPatch,
}

impl Work for Update<'_> {
    type Output = Token;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Token, StoreError> {
        let user = users::lock(tx, self.user).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        let before = tokens::read(tx, self.id).await?;
        if user.deleted {
            return Err(StoreError::UserDeleted(user.name));
        }
        let now = tx.now();
        match before.status(now) {
            TokenStatus::Active => {}
            status => return Err(StoreError::TokenNotActive(status)),
        }
        let limits = by.limits(user_restrictions::of(tx, &user).await?);
        let after = self.patch.apply(before.clone(), &limits, now)?;
        if after == before {
            return Ok(after);
        }
        by.may_change(&before, &after)?;
        save(tx, &after).await?;
        audit::record(tx, &by, Action::TokenUpdated, self.id.into(), details(&before, &after), now).await?;
        if said(&before) != said(&after) {
            history::token_changed(tx, self.id, now).await?;
        }
        Ok(after)
    }
}

/// What edges go by of what can change. The name goes to them as well, and decides nothing.
fn said(token: &Token) -> impl PartialEq {
    (token.scopes.clone(), token.allowed_cidrs.clone(), token.expires_at)
}

fn details(before: &Token, after: &Token) -> Value {
    let fields = |token: &Token| {
        json!({
            "name": token.name, "description": token.description, "scopes": token.scopes,
            "allowed_cidrs": token.allowed_cidrs, "expires_at": token.expires_at,
        })
    };
    let (was, is) = audit::differences(&fields(before), &fields(after));
    json!({ "user": before.user, "hint": before.hint, "before": was, "after": is })
}

/// Writes all that can change of a token by being asked for.
async fn save(tx: &mut Tx<'_>, token: &Token) -> Result<(), StoreError> {
    query(
        "UPDATE tokens SET name = $1, description = $2, scopes = $3, allowed_cidrs = $4, expires_at = $5, \
         folded = $6 WHERE id = $7",
    )
    .bind(token.name.to_string())
    .bind(token.description.as_ref().map(ToString::to_string))
    .bind(token.scopes.to_string())
    .bind(networks_text(&token.allowed_cidrs))
    .bind(token.expires_at.map(millis))
    .bind(folded_text(token))
    .bind(token.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
