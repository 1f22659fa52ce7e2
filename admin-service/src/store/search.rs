//! Looking for tokens among those of all users.
//!
//! A list is walked in the order of an index, slice by slice, and what a slice holds is held against the rest of the
//! filter. So no statement reads more than a slice, however few tokens there are to be found; a page that many slices
//! have not filled is handed out as it is, with the place where it stopped.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::row::{Columns, millis};
use super::token_rows::{select_token, token};
use super::transaction::Statement;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::domain::token::{Token, TokenId, TokenStatus};
use crate::domain::token_search::{TokenFilter, TokenOrder, TokenPlace, folded};
use crate::domain::user::UserId;

/// How many tokens one statement looks at: some hundredths of a second.
const SLICE: u32 = 20_000;
/// How many slices one call looks at.
const SLICES: u32 = 5;

impl Store {
    /// The tokens that meet a filter, in its order. A page may have fewer than it could, even none, and others after it.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`] when the filter's user is not there; [`StoreError::Unavailable`].
    pub async fn search_tokens(
        &self,
        filter: &TokenFilter,
        page: PageRequest<TokenPlace>,
    ) -> Result<Page<Token, TokenPlace>, StoreError> {
        let user = match &filter.user {
            Some(name) => Some(self.user(name).await?.id),
            None => None,
        };
        let search = Search { filter, user, now: self.sources().now(), limit: page.limit.get() };
        let mut after = page.cursor.unwrap_or_else(|| search.beginning());
        let mut found = Vec::new();
        for _ in 0..SLICES {
            let end =
                if search.walks_past_others() { self.end_of_slice(&search, after).await? } else { None };
            let rows = self.rows(search.matches(after, end).statement()).await?;
            let tokens = rows.iter().map(token).collect::<Result<Vec<_>, _>>()?;
            found.extend(tokens);
            let full = found.len() > usize::from(page.limit.get());
            match end {
                Some(end) if !full => after = end,
                _ => return Ok(Page::of(found, page.limit, |token| search.place(token))),
            }
        }
        Ok(Page { items: found, next_cursor: Some(after) })
    }

    /// Where the slice ends that begins after a place; `None`: it is the last one.
    async fn end_of_slice(
        &self,
        search: &Search<'_>,
        after: TokenPlace,
    ) -> Result<Option<TokenPlace>, StoreError> {
        let row = self.row(search.slice(after).statement()).await?;
        row.as_ref().map(|row| search.place_of(row)).transpose()
    }
}

/// One search.
struct Search<'a> {
    filter: &'a TokenFilter,
    user: Option<UserId>,
    now: Timestamp,
    limit: u8,
}

impl Search<'_> {
    /// Before the first token.
    fn beginning(&self) -> TokenPlace {
        match (self.filter.order(), self.filter.status) {
            (TokenOrder::Made, _) => TokenPlace::Made(TokenId(Uuid::nil())),
            // What has expired is passed over.
            (TokenOrder::Expiry, Some(TokenStatus::Active)) => {
                TokenPlace::Expiry(self.now, TokenId(Uuid::max()))
            }
            (TokenOrder::Expiry, _) => TokenPlace::Expiry(Timestamp::MIN, TokenId(Uuid::nil())),
        }
    }

    /// Whether there may be tokens in the walk that do not meet the filter. A user's tokens are few.
    fn walks_past_others(&self) -> bool {
        let TokenFilter { status, text, last_used_before, .. } = self.filter;
        let by_status = match (self.filter.order(), status) {
            (_, None) | (TokenOrder::Made, Some(TokenStatus::Revoked)) => false,
            (_, Some(_)) => true,
        };
        self.user.is_none() && (by_status || text.is_some() || last_used_before.is_some())
    }

    fn place(&self, token: &Token) -> TokenPlace {
        match (self.filter.order(), token.expires_at) {
            (TokenOrder::Expiry, Some(expires_at)) => TokenPlace::Expiry(expires_at, token.id),
            _ => TokenPlace::Made(token.id),
        }
    }

    fn place_of(&self, row: &AnyRow) -> Result<TokenPlace, StoreError> {
        let id = TokenId(row.uuid("id")?);
        Ok(match self.filter.order() {
            TokenOrder::Made => TokenPlace::Made(id),
            TokenOrder::Expiry => TokenPlace::Expiry(row.time("expires_at")?, id),
        })
    }

    /// The statement that finds the last token of a slice.
    fn slice(&self, after: TokenPlace) -> Sql {
        let mut sql = Sql::new("SELECT id, expires_at FROM tokens WHERE ");
        self.walk(&mut sql, after);
        self.in_order(&mut sql, "");
        sql.push(&format!(" LIMIT 1 OFFSET {}", SLICE - 1), []);
        sql
    }

    /// The statement that finds the tokens of a slice that meet the filter: at most one more than the page has.
    fn matches(&self, after: TokenPlace, end: Option<TokenPlace>) -> Sql {
        let mut sql = Sql::new(select_token!("FROM (SELECT * FROM tokens WHERE "));
        self.walk(&mut sql, after);
        match end {
            Some(TokenPlace::Made(id)) => sql.push(" AND id <= ?", [id.into()]),
            Some(TokenPlace::Expiry(time, id)) => {
                sql.push(" AND (expires_at, id) <= (?, ?)", [time.into(), id.into()]);
            }
            None => {}
        }
        self.status(&mut sql);
        if let Some(time) = self.filter.last_used_before {
            sql.push(" AND COALESCE(last_used_at, created_at) < ?", [time.into()]);
        }
        self.text(&mut sql);
        self.in_order(&mut sql, "");
        // The limit is in the text, for the databases plan by it; and the users come last, so that those of the page alone
        // are looked up.
        sql.push(&format!(" LIMIT {}) t JOIN users u ON u.id = t.user_id", u16::from(self.limit) + 1), []);
        self.in_order(&mut sql, "t.");
        sql
    }

    /// What an index is walked by.
    fn walk(&self, sql: &mut Sql, after: TokenPlace) {
        match after {
            TokenPlace::Made(id) => sql.push("id > ?", [id.into()]),
            TokenPlace::Expiry(time, id) => {
                sql.push("expires_at IS NOT NULL AND (expires_at, id) > (?, ?)", [time.into(), id.into()]);
            }
        }
        if let Some(user) = self.user {
            sql.push(" AND user_id = ?", [Value::Text(user.to_string())]);
        }
        if let Some(time) = self.filter.expires_before {
            sql.push(" AND expires_at < ?", [time.into()]);
        }
        match self.filter.status {
            Some(TokenStatus::Expired) => sql.push(" AND expires_at <= ?", [self.now.into()]),
            // Of these alone there is an index in the order in which they were made.
            Some(TokenStatus::Revoked) if self.filter.order() == TokenOrder::Made => {
                sql.push(" AND revoked_at IS NOT NULL", []);
            }
            Some(TokenStatus::Active | TokenStatus::Revoked) | None => {}
        }
    }

    fn status(&self, sql: &mut Sql) {
        match (self.filter.status, self.filter.order()) {
            (Some(TokenStatus::Active), TokenOrder::Made) => sql.push(
                " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
                [self.now.into()],
            ),
            (Some(TokenStatus::Active), TokenOrder::Expiry) => {
                sql.push(" AND revoked_at IS NULL AND expires_at > ?", [self.now.into()]);
            }
            (Some(TokenStatus::Expired), _) => sql.push(" AND revoked_at IS NULL", []),
            (Some(TokenStatus::Revoked), TokenOrder::Expiry) => sql.push(" AND revoked_at IS NOT NULL", []),
            (Some(TokenStatus::Revoked), TokenOrder::Made) | (None, _) => {}
        }
    }

    /// The text that is looked for, in what is compared of a token; a line's end, which no text has, keeps the parts apart.
    fn text(&self, sql: &mut Sql) {
        let Some(text) = &self.filter.text else { return };
        let pattern = || Value::Text(pattern(text.as_str()));
        sql.push(
            " AND (COALESCE(folded, lower(name || '\n' || COALESCE(description, ''))) LIKE ? ESCAPE '\\' \
             OR lower(hint) LIKE ? ESCAPE '\\' \
             OR (SELECT name FROM users WHERE id = tokens.user_id) LIKE ? ESCAPE '\\')",
            [pattern(), pattern(), pattern()],
        );
    }

    /// The order, of a table that is named as in `t.`, or of the only one.
    fn in_order(&self, sql: &mut Sql, of: &str) {
        let order = match self.filter.order() {
            TokenOrder::Made => format!(" ORDER BY {of}id"),
            TokenOrder::Expiry => format!(" ORDER BY {of}expires_at, {of}id"),
        };
        sql.push(&order, []);
    }
}

/// A pattern of LIKE for whatever has this text in it. What has a meaning in patterns has none in the text.
fn pattern(text: &str) -> String {
    let escaped = folded(text).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// A statement in the making, with a `?` for each value.
struct Sql {
    text: String,
    values: Vec<Value>,
}

enum Value {
    Text(String),
    Number(i64),
}

impl From<TokenId> for Value {
    fn from(id: TokenId) -> Self {
        Self::Text(id.to_string())
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Number(millis(time))
    }
}

impl Sql {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    fn push(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        let mut parts = text.split('?');
        self.text.push_str(parts.next().unwrap_or_default());
        for (part, value) in parts.zip(values) {
            self.values.push(value);
            self.text.push_str(&format!("${}{part}", self.values.len()));
        }
    }

    fn statement(self) -> Statement<'static> {
        self.values.into_iter().fold(query(AssertSqlSafe(self.text)), |statement, value| match value {
            Value::Text(text) => statement.bind(text),
            Value::Number(number) => statement.bind(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_patterns_is_looked_for_as_it_is() {
        assert_eq!(pattern(r"50%_a\B"), r"%50\%\_a\\b%");
    }

    #[test]
    fn values_are_numbered_in_their_order() {
        let mut sql = Sql::new("SELECT 1 WHERE ");
        sql.push("a = ? AND (b, c) > (?, ?)", [1, 2, 3].map(Value::Number));
        sql.push(" AND d = ?", [Value::Number(4)]);
        assert_eq!(sql.text, "SELECT 1 WHERE a = $1 AND (b, c) > ($2, $3) AND d = $4");
    }
}
