//! Tokens as rows: which columns are read, and what they mean.

use latchkey::wire::Scheme;

use super::error::StoreError;
use super::row::{Columns, damaged};
use crate::domain::scope::Scopes;
use crate::domain::token::{Description, Networks, Schemes, Token, TokenId, TokenName};
use crate::domain::token_search::folded;
use crate::domain::user::{UserId, UserName};

/// The columns that [`token`] reads, of `tokens AS t` joined with `users AS u`, before the rest of the statement.
macro_rules! select_token {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.user_id, u.name AS user_name, u.active AS user_active, t.hash, t.name, t.description, \
             t.hint, t.schemes, t.scopes, t.allowed_cidrs, t.created_at, t.expires_at, t.revoked_at, t.last_used_at, \
             t.rotated_from, t.rotated_to, t.made_by, t.in_use_since ",
            $rest
        )
    };
}
pub(super) use select_token;

/// Reads a token from the columns of [`select_token`].
pub(super) fn token(row: &impl Columns) -> Result<Token, StoreError> {
    Ok(Token {
        id: TokenId(row.uuid("id")?),
        user: UserName::stored(row.text("user_name")?),
        user_id: UserId(row.uuid("user_id")?),
        name: TokenName::stored(row.text("name")?),
        description: row.text_or_null("description")?.map(Description::stored),
        hint: row.text("hint")?,
        hash: row.token_hash("hash")?,
        schemes: schemes(&row.text("schemes")?)?,
        scopes: Scopes::stored(&row.text("scopes")?),
        allowed_cidrs: networks(row)?,
        created_at: row.time("created_at")?,
        expires_at: row.time_or_null("expires_at")?,
        revoked_at: row.time_or_null("revoked_at")?,
        last_used_at: row.time_or_null("last_used_at")?,
        rotated_from: row.uuid_or_null("rotated_from")?.map(TokenId),
        rotated_to: row.uuid_or_null("rotated_to")?.map(TokenId),
        made_by: row.uuid_or_null("made_by")?.map(TokenId),
        in_use_since: row.time_or_null("in_use_since")?,
    })
}

/// What a search compares of a token, where it is not all ASCII: of the rest the databases make it themselves.
pub(super) fn folded_text(token: &Token) -> Option<String> {
    let description = token.description.as_ref().map(Description::as_str).unwrap_or_default();
    let text = format!("{}\n{description}", token.name);
    (!text.is_ascii()).then(|| folded(&text))
}

/// Schemes as they are stored.
pub(super) fn schemes_text(schemes: &Schemes) -> String {
    schemes.listed()
}

/// Reads schemes from the text of their column.
pub(super) fn schemes(text: &str) -> Result<Schemes, StoreError> {
    let scheme = |name| match name {
        "bearer" => Ok(Scheme::Bearer),
        "basic" => Ok(Scheme::Basic),
        _ => Err(damaged("schemes")),
    };
    let schemes = text.split_ascii_whitespace().map(scheme).collect::<Result<Vec<_>, _>>()?;
    Schemes::new(schemes).map_err(|_| damaged("schemes"))
}

/// Reads networks from the column `allowed_cidrs`.
pub(super) fn networks(row: &impl Columns) -> Result<Networks, StoreError> {
    let text = row.text("allowed_cidrs")?;
    Networks::parse(text.split_ascii_whitespace()).map_err(|_| damaged("allowed_cidrs"))
}

/// Networks as they are stored.
pub(super) fn networks_text(networks: &Networks) -> String {
    networks.listed()
}
