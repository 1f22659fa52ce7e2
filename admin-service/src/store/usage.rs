//! Usage as edges report it: when each token was last used, how many requests each hour had, and which reports were
//! counted.
//!
//! No verdict depends on any of it, so it takes no revision. It is no change that somebody asked for, so it is not in the
//! audit log.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::Store;
use super::error::StoreError;
use super::history::valid_position;
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;
use crate::domain::usage::{Receipt, Report};
use crate::error::chain;

/// How many tokens one statement is about. Where there are fewer, the last one is named again and again, so that the
/// database has one text to prepare.
const AT_ONCE: usize = 50;
const HOUR_MS: i64 = 3_600_000;
/// How many edges are remembered: more than can be connected.
const MAX_EDGES: u32 = 10_000;
/// After how many new edges it is looked whether there are too many.
const NEW_EDGES: u32 = 256;

impl Store {
    /// Counts a report, unless it or a later one of the same edge was counted before. Tokens that are deleted do not count.
    ///
    /// # Errors
    /// [`StoreError::ImplausibleUsage`] for more than an edge can have done since its last report; [`StoreError::Unavailable`].
    /// Nothing of the report is counted then.
    pub async fn count_usage(&self, report: &Report) -> Result<Receipt, StoreError> {
        // The report is as of when it came, however long the database is busy.
        let (receipt, first) = self.write(&Count { report, now: self.sources().now() }).await?;
        if first && self.0.new_edges.fetch_add(1, Ordering::Relaxed) % NEW_EDGES == NEW_EDGES - 1 {
            // The report itself is counted.
            if let Err(error) = self.forget_surplus_edges().await {
                tracing::warn!(
                    cause = chain(&error),
                    "edges that are too many cannot be forgotten; retrying with the next ones"
                );
            }
        }
        Ok(receipt)
    }

    /// Forgets all but the 10,000 edges that reported last, and says how many: edges have random names, and whoever has the secret
    /// can make up any number of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget_surplus_edges(&self) -> Result<u64, StoreError> {
        self.write(&ForgetSurplusEdges).await
    }
}

struct Count<'a> {
    report: &'a Report,
    now: Timestamp,
}

impl Work for Count<'_> {
    /// Beside the receipt, whether it is the edge's first report.
    type Output = (Receipt, bool);

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(Receipt, bool), StoreError> {
        let since = self.last_report(tx).await?;
        let counted = self.is_new(tx).await?;
        if counted {
            // A report that comes again is none to be refused.
            self.report.check_plausible(since, self.now).map_err(StoreError::ImplausibleUsage)?;
            let found = self.found(tx).await?;
            self.count_in_hour(tx, &found).await?;
            self.note_last_uses(tx, &found).await?;
        }
        let at = query("SELECT epoch, revision, bootstrapped FROM history WHERE singleton = 1")
            .fetch_one(&mut *tx.connection)
            .await?;
        Ok((Receipt { counted, at: valid_position(&at)? }, since.is_none()))
    }
}

/// The tokens of a report that there are, and when each was last used as far as is known.
type Found = BTreeMap<TokenId, Option<Timestamp>>;

impl Count<'_> {
    /// Notes the report's number, if no report with this or a higher one was counted. The edge's row stays locked until the
    /// transaction ends, so of two that come at once one waits and then finds the other's number.
    async fn is_new(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let noted = query(
            "INSERT INTO edges (name, last_sequence, seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET last_sequence = $2, seen_at = $3 WHERE edges.last_sequence < $2",
        )
        .bind(self.report.edge.to_string())
        .bind(number(self.report.sequence))
        .bind(millis(self.now))
        .execute(&mut *tx.connection)
        .await?;
        Ok(noted.rows_affected() > 0)
    }

    /// When the edge's last report was counted.
    async fn last_report(&self, tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
        let seen = query("SELECT seen_at FROM edges WHERE name = $1").bind(self.report.edge.to_string());
        seen.fetch_optional(&mut *tx.connection).await?.map(|row| row.time("seen_at")).transpose()
    }

    /// Looks the report's tokens up.
    async fn found(&self, tx: &mut Tx<'_>) -> Result<Found, StoreError> {
        let ids: Vec<TokenId> = self.report.uses.keys().copied().collect();
        let places = (1..=AT_ONCE).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let text = format!("SELECT id, last_used_at FROM tokens WHERE id IN ({places})");
        let mut found = Found::new();
        for some in ids.chunks(AT_ONCE) {
            let statement = padded(some)
                .fold(query(AssertSqlSafe(text.clone())), |statement, id| statement.bind(id.to_string()));
            let rows = statement.fetch_all(&mut *tx.connection).await?;
            found.extend(rows.iter().map(last_use).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    /// Adds what was counted to the hour in which the report came, up to the most that the database can keep.
    ///
    /// All reports lock this row before they lock tokens, so that no two of them wait for each other's tokens.
    async fn count_in_hour(&self, tx: &mut Tx<'_>, found: &Found) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let counts = || found.keys().filter_map(|id| self.report.uses.get(id)).map(|one| one.counts);
        // No sum of a report is more than can be kept; see [`Report`].
        let allowed = counts().map(|counts| counts.allowed).sum();
        let denied = counts().map(|counts| counts.denied).sum();
        let now = millis(self.now);
        query(
            "INSERT INTO usage_hours (hour, allowed, denied) VALUES ($1, $2, $3) ON CONFLICT (hour) DO UPDATE SET \
             allowed = CASE WHEN usage_hours.allowed > $4 - $2 THEN $4 ELSE usage_hours.allowed + $2 END, \
             denied = CASE WHEN usage_hours.denied > $4 - $3 THEN $4 ELSE usage_hours.denied + $3 END",
        )
        .bind(now - now.rem_euclid(HOUR_MS))
        .bind(number(allowed))
        .bind(number(denied))
        .bind(i64::MAX)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }

    /// Notes the last uses that are of a later minute than what is known; what is known of a time that is still to come was noted by a
    /// clock that was ahead. What is denied is no use.
    async fn note_last_uses(&self, tx: &mut Tx<'_>, found: &Found) -> Result<(), StoreError> {
        let allowed = self.report.uses.iter().filter(|(_, one)| one.counts.allowed > 0);
        let uses = allowed.map(|(id, one)| (*id, one.minute(self.now)));
        // Not when the report came: it may have waited, and later ones were counted meanwhile.
        let now = tx.now();
        let later = |(id, minute): &(TokenId, Timestamp)| {
            found.get(id).is_some_and(|known| known.is_none_or(|known| known < *minute || known > now))
        };
        let uses: Vec<(TokenId, Timestamp)> = uses.filter(later).collect();
        let places = (1..=AT_ONCE).map(|n| format!("(${}, ${})", 2 * n - 1, 2 * n));
        // Asked again here, as somebody else may have noted a later use since.
        let text = format!(
            "WITH used (id, used_at) AS (VALUES {}) UPDATE tokens SET last_used_at = used.used_at FROM used \
             WHERE tokens.id = used.id AND (tokens.last_used_at IS NULL OR tokens.last_used_at < used.used_at \
             OR tokens.last_used_at > ${})",
            places.collect::<Vec<_>>().join(", "),
            2 * AT_ONCE + 1
        );
        for some in uses.chunks(AT_ONCE) {
            let statement = padded(some)
                .fold(query(AssertSqlSafe(text.clone())), |statement, (id, minute)| {
                    statement.bind(id.to_string()).bind(millis(*minute))
                });
            statement.bind(millis(now)).execute(&mut *tx.connection).await?;
        }
        Ok(())
    }
}

/// Forgets all but the [`MAX_EDGES`] edges that reported last.
struct ForgetSurplusEdges;

impl Work for ForgetSurplusEdges {
    type Output = u64;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        let text = format!(
            "SELECT name, seen_at FROM edges ORDER BY seen_at DESC, name DESC LIMIT 1 OFFSET {MAX_EDGES}"
        );
        let Some(first) = query(AssertSqlSafe(text)).fetch_optional(&mut *tx.connection).await? else {
            return Ok(0);
        };
        let forgotten = query("DELETE FROM edges WHERE (seen_at, name) <= ($1, $2)")
            .bind(millis(first.time("seen_at")?))
            .bind(first.text("name")?);
        Ok(forgotten.execute(&mut *tx.connection).await?.rows_affected())
    }
}

/// The items, and the last one again and again, [`AT_ONCE`] in all.
fn padded<T>(items: &[T]) -> impl Iterator<Item = &T> {
    items.iter().chain(items.last().into_iter().cycle()).take(AT_ONCE)
}

fn last_use(row: &AnyRow) -> Result<(TokenId, Option<Timestamp>), StoreError> {
    Ok((TokenId(row.uuid("id")?), row.time_or_null("last_used_at")?))
}

/// A number as it is stored; a report has none that is too large.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
