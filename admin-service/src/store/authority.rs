//! Whether the token that a change is asked for with still permits it: looked at again in the change's own transaction,
//! for between the request's authentication and its change there may be a body that is long in coming.

use latchkey::gate;
use sqlx::query;

use super::error::StoreError;
use super::row::{Columns, millis};
use super::token_rows::{networks, schemes};
use super::transaction::Tx;
use crate::domain::audit::Origin;
use crate::domain::authority::{Authority, Beyond, Held};
use crate::domain::limits::Limits;
use crate::domain::scope::Scopes;
use crate::domain::token::{Networks, Schemes, Token, TokenId};

/// An origin whose token was good when the transaction had its locks. Without one there is no audit entry, and so no
/// change.
pub(super) struct Confirmed<'a> {
    origin: &'a Origin,
    authority: Authority,
}

impl<'a> Confirmed<'a> {
    /// Looks at the token again, if the change is made with one. Comes after the locks and before the change: a
    /// revocation of it holds the same user's row.
    pub async fn look(tx: &mut Tx<'_>, origin: &'a Origin) -> Result<Self, StoreError> {
        let Some(token) = origin.token_id else {
            return Ok(Self::when_begun(origin));
        };
        let live = query(
            "SELECT t.scopes, t.allowed_cidrs, t.schemes, t.expires_at, r.outlive_maker FROM tokens t \
             JOIN users u ON u.id = t.user_id CROSS JOIN restrictions r WHERE t.id = $1 AND u.active = 1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)",
        );
        let live = live.bind(token.to_string()).bind(millis(tx.now()));
        let Some(row) = live.fetch_optional(&mut *tx.connection).await? else {
            return Err(StoreError::CallerRefused);
        };
        let (scopes, networks) = (Scopes::stored(&row.text("scopes")?), networks(&row)?);
        if !gate::permits(networks.as_slice(), origin.address) {
            return Err(StoreError::CallerRefused);
        }
        match origin.permitted_by {
            Some(scope) if !scopes.is_admin() && !scopes.contains(scope) => {
                Err(StoreError::CallerLacks(scope))
            }
            _ => {
                let ends_at = row.time_or_null("expires_at")?;
                let ends_at = if row.flag("outlive_maker")? { None } else { ends_at };
                let schemes = schemes(&row.text("schemes")?)?;
                let authority = Authority::of(Held { scopes, networks, schemes, ends_at });
                Ok(Self { origin, authority })
            }
        }
    }

    /// The same for a change that makes tokens. The token that it is made with stays locked: a revocation of it with all that
    /// it made comes before or after this, and leaves none of them.
    pub async fn look_as_maker(tx: &mut Tx<'_>, origin: &'a Origin) -> Result<Self, StoreError> {
        if let Some(token) = origin.token_id {
            query("UPDATE tokens SET name = name WHERE id = $1")
                .bind(token.to_string())
                .execute(&mut *tx.connection)
                .await?;
        }
        Self::look(tx, origin).await
    }

    /// For what goes on once it was begun with a good token: a run of the scheduler. And for what nobody's token asks for.
    pub const fn when_begun(origin: &'a Origin) -> Self {
        Self { origin, authority: Authority::Everything }
    }

    pub const fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// The token that the change is made with.
    pub const fn maker(&self) -> Option<TokenId> {
        self.origin.token_id
    }

    /// As [`Authority::may_give`].
    pub fn may_give(&self, scopes: &Scopes, networks: &Networks, schemes: &Schemes) -> Result<(), Beyond> {
        self.authority.may_give(scopes, networks, schemes)
    }

    /// As [`Authority::limits`].
    pub fn limits(&self, limits: Limits) -> Limits {
        self.authority.limits(limits)
    }

    /// As [`Authority::may_change`].
    pub fn may_change(&self, before: &Token, after: &Token) -> Result<(), Beyond> {
        self.authority.may_change(before, after)
    }
}
