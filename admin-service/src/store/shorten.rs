//! Shortening what exists: active tokens that last longer than the longest lifetime get the expiry that a new one could have
//! had, counted from when they were made, and no sooner than now. Users with a limit of their own go by theirs.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::authority::Confirmed;
use super::error::StoreError;
use super::restrictions::stored_period;
use super::row::{Columns, MANY, list, millis, places};
use super::token_rows::{select_token, token};
use super::touched::{TouchedToken, touched_token};
use super::transaction::{Statement, Tx, Work};
use super::{Store, audit, history, restrictions, users};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::period::Period;
use crate::domain::restrictions::Restrictions;
use crate::domain::time::Timestamp;
use crate::domain::token::{Token, TokenId};
use crate::domain::user::UserName;

/// What stands for no limit of the service's, as for none of a user's own.
const NO_LIMIT: i64 = -1;

/// What shortening did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortened {
    /// How many tokens expire sooner.
    pub tokens: u64,
    /// How many of them expire at once, for they were made longer ago than they may last.
    pub at_once: u64,
}

/// What shortening would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WouldShorten {
    /// How much.
    pub counts: Shortened,
    /// Up to [`EXAMPLES`](super::EXAMPLES) of the tokens as they are, each with the expiry that it would get.
    pub examples: Vec<(TouchedToken, Timestamp)>,
}

/// The tokens that last longer than they may, after what is selected of them and before the rest of the condition; `$1` is the
/// time, `$2` the service's limit. Tokens come first in the join, from the index that has all that is asked of them.
macro_rules! too_long {
    ($select:literal, $rest:literal) => {
        concat!(
            $select,
            " FROM tokens t LEFT JOIN users u ON u.id = t.user_id WHERE t.revoked_at IS NULL \
             AND (t.expires_at IS NULL OR t.expires_at > $1) AND COALESCE(u.own_max_lifetime_ms, $2) >= 0 \
             AND (t.expires_at IS NULL OR t.expires_at - t.created_at > COALESCE(u.own_max_lifetime_ms, $2))",
            $rest
        )
    };
}

impl Store {
    /// Shortens the active tokens that last longer than the limits in force allow, in batches, each with its revision and its
    /// audit entries in one transaction. Repeating this does the rest, if it was broken off.
    ///
    /// # Errors
    /// [`StoreError::CallerRefused`], [`StoreError::Unavailable`]; some may be shortened then.
    pub async fn shorten_existing_tokens(&self, origin: &Origin) -> Result<Shortened, StoreError> {
        let (mut done, mut from) = (Shortened::default(), String::new());
        loop {
            let batch = self.write(&Shorten { origin, from: &from }).await?;
            done.tokens += batch.shortened.tokens;
            done.at_once += batch.shortened.at_once;
            match batch.next {
                Some(next) => from = next,
                None => return Ok(done),
            }
        }
    }

    /// Tells which tokens [`Self::shorten_existing_tokens`] would shorten under these restrictions, changing nothing.
    ///
    /// # Errors
    /// [`StoreError::InvalidRestriction`], [`StoreError::Unavailable`].
    pub async fn would_shorten(&self, restrictions: &Restrictions) -> Result<WouldShorten, StoreError> {
        restrictions.check()?;
        let now = self.sources().now();
        let bound = |statement: Statement<'static>| statement.bind(millis(now)).bind(limit_of(restrictions));
        let count = query(too_long!(
            "SELECT COUNT(*) AS over, COUNT(CASE WHEN t.created_at <= $1 - COALESCE(u.own_max_lifetime_ms, $2) THEN 1 END) \
             AS at_once",
            ""
        ));
        let row = self.one(bound(count)).await?;
        let counts = Shortened { tokens: row.number("over")?, at_once: row.number("at_once")? };
        if counts.tokens == 0 {
            return Ok(WouldShorten::default());
        }
        let some = query(too_long!(
            "SELECT t.id, t.name, u.name AS user_name, t.hint, t.expires_at, t.created_at, \
             COALESCE(u.own_max_lifetime_ms, $2) AS most_ms",
            " ORDER BY t.user_id LIMIT 10"
        ));
        let example = |row: &AnyRow| {
            let most = Period::from_millis(row.number("most_ms")?);
            Ok((touched_token(row)?, shortened(row.time("created_at")?, most, now)))
        };
        let rows = self.rows(bound(some)).await?;
        let examples = rows.iter().map(example).collect::<Result<_, StoreError>>()?;
        Ok(WouldShorten { counts, examples })
    }
}

/// When a token expires that was made at `made` and may last for `most`, if that is decided `now`.
fn shortened(made: Timestamp, most: Period, now: Timestamp) -> Timestamp {
    most.after(made).max(now)
}

fn limit_of(restrictions: &Restrictions) -> i64 {
    restrictions.max_lifetime.map_or(NO_LIMIT, stored_period)
}

struct Shorten<'a> {
    origin: &'a Origin,
    /// The identifier of the first user to look at.
    from: &'a str,
}

/// What one transaction did.
struct Batch {
    shortened: Shortened,
    /// The user to go on with; `None`: no token is left.
    next: Option<String>,
}

impl Work for Shorten<'_> {
    type Output = Batch;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Batch, StoreError> {
        let limit = limit_of(&restrictions::current(tx).await?);
        let now = tx.now();
        let found = self.find(tx, limit, now).await?;
        // In the order of their identifiers, so that no two batches wait for each other.
        for user in &found.users {
            users::lock(tx, user).await?;
        }
        let by = Confirmed::look(tx, self.origin).await?;
        let mut shortened = Shortened::default();
        let mut touched = Vec::new();
        for some in found.tokens.chunks(MANY) {
            let changes = read(tx, some, limit, now).await?;
            save(tx, &changes).await?;
            let entries: Vec<_> = changes.iter().map(entry).collect();
            audit::record_all(tx, &by, Action::TokenUpdated, &entries, now).await?;
            shortened.tokens += u64::try_from(changes.len()).unwrap_or(u64::MAX);
            let at_once = changes.iter().filter(|(_, end)| *end <= now).count();
            shortened.at_once += u64::try_from(at_once).unwrap_or(u64::MAX);
            touched.extend(changes.iter().map(|(token, _)| token.id));
        }
        history::tokens_changed(tx, &touched, now).await?;
        Ok(Batch { shortened, next: found.last_user })
    }
}

/// Tokens that are to be shortened.
#[derive(Default)]
struct Found {
    tokens: Vec<TokenId>,
    /// Whose they are, in the order of their identifiers.
    users: Vec<UserName>,
    /// The identifier of the last of them.
    last_user: Option<String>,
}

impl Shorten<'_> {
    async fn find(&self, tx: &mut Tx<'_>, limit: i64, now: Timestamp) -> Result<Found, StoreError> {
        // The limit is in the text and not bound: not knowing it, PostgreSQL would rather read the whole table.
        let statement = query(too_long!(
            "SELECT t.id, t.user_id, u.name AS user_name",
            " AND t.user_id >= $3 ORDER BY t.user_id LIMIT 100"
        ));
        let statement = statement.bind(millis(now)).bind(limit).bind(self.from.to_owned());
        let mut found = Found::default();
        for row in statement.fetch_all(&mut *tx.connection).await? {
            found.tokens.push(TokenId(row.uuid("id")?));
            let user = row.text("user_id")?;
            if found.last_user.as_ref() != Some(&user) {
                found.users.push(UserName::stored(row.text("user_name")?));
                found.last_user = Some(user);
            }
        }
        Ok(found)
    }
}

/// Reads tokens anew whose users are locked, as others may have changed them, each with the expiry that it gets.
async fn read(
    tx: &mut Tx<'_>,
    ids: &[TokenId],
    limit: i64,
    now: Timestamp,
) -> Result<Vec<(Token, Timestamp)>, StoreError> {
    let select = select_token!(
        ", COALESCE(u.own_max_lifetime_ms, $1) AS most_ms FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id IN"
    );
    let statement = query(AssertSqlSafe(format!("{select} {}", list(2, ids.len())))).bind(limit);
    let statement = ids.iter().fold(statement, |statement, id| statement.bind(id.to_string()));
    let mut changes = Vec::new();
    for row in statement.fetch_all(&mut *tx.connection).await? {
        let (token, most) = (token(&row)?, row.integer("most_ms")?);
        let Ok(most) = u64::try_from(most).map(Period::from_millis) else { continue };
        let is_active = token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now);
        if is_active && token.expires_at.is_none_or(|end| end > most.after(token.created_at)) {
            let end = shortened(token.created_at, most, now);
            changes.push((token, end));
        }
    }
    Ok(changes)
}

async fn save(tx: &mut Tx<'_>, changes: &[(Token, Timestamp)]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let text = format!(
        "WITH ends (id, ends_at) AS (VALUES {}) UPDATE tokens SET expires_at = ends.ends_at FROM ends WHERE tokens.id = ends.id",
        places(changes.len(), 2)
    );
    let statement = changes.iter().fold(query(AssertSqlSafe(text)), |statement, (token, end)| {
        statement.bind(token.id.to_string()).bind(millis(*end))
    });
    statement.execute(&mut *tx.connection).await?;
    Ok(())
}

fn entry((token, end): &(Token, Timestamp)) -> (Subject, Value) {
    let details = json!({
        "user": token.user, "hint": token.hint, "because": "restrictions",
        "before": { "expires_at": token.expires_at }, "after": { "expires_at": end },
    });
    (token.id.into(), details)
}
