//! The audit log: written in the transaction of what it records, read in pages.

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::Store;
use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, MANY, damaged, millis, places};
use super::transaction::{Statement, Tx};
use crate::clock::id_at;
use crate::domain::audit::{Action, Actor, AuditEntry, AuditFilter, AuditId, Origin, RequestId, Subject};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;

/// Writes an entry.
pub(super) async fn record(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    action: Action,
    subject: Subject,
    details: Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    record_all(tx, by, action, &[(subject, details)], now).await
}

/// Writes entries of one action.
pub(super) async fn record_all(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    action: Action,
    entries: &[(Subject, Value)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let origin = by.origin();
    for some in entries.chunks(MANY) {
        let insert = "INSERT INTO audit (id, at, actor, token_id, address, request_id, client_request_id, action, subject, details) VALUES";
        let mut statement = query(AssertSqlSafe(format!("{insert} {}", places(some.len(), 10))));
        for (subject, details) in some {
            statement = statement
                .bind(tx.sources.new_id(now)?.to_string())
                .bind(millis(now))
                .bind(origin.actor.to_string())
                .bind(origin.token_id.map(|id| id.to_string()))
                .bind(origin.address.map(|address| address.to_string()))
                .bind(origin.request_id.as_ref().map(ToString::to_string))
                .bind(origin.client_request_id.as_ref().map(ToString::to_string))
                .bind(action.as_str())
                .bind(subject.as_str().to_owned())
                .bind(details.to_string());
        }
        statement.execute(&mut *tx.connection).await?;
    }
    Ok(())
}

/// The fields that differ between two objects, as they were and as they are: for the details of a change.
pub(super) fn differences(before: &Value, after: &Value) -> (Value, Value) {
    let differing = |one: &Value, other: &Value| {
        let fields = one.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, value)| other.get(name) != Some(value));
        Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    (differing(before, after), differing(after, before))
}

impl Store {
    /// The entries that meet a filter, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let (first, end) = bounds(filter);
        let end = page.cursor.map_or(end, |cursor| end.min(cursor.0));
        let statement = select(filter, "id >= $1 AND id < $2", "DESC");
        let statement = bound(statement, filter, first, end, i64::from(page.limit.get()) + 1);
        let entries = self.rows(statement).await?.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page::of(entries, page.limit, |entry| entry.id.0))
    }

    /// Up to `most` entries that meet a filter and come after one of them, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn audit_after(
        &self,
        filter: &AuditFilter,
        after: Option<AuditId>,
        most: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let (first, end) = bounds(filter);
        let (range, first) = match after {
            Some(after) => ("id > $1 AND id < $2", after.0),
            None => ("id >= $1 AND id < $2", first),
        };
        let statement = bound(select(filter, range, "ASC"), filter, first, end, i64::from(most));
        self.rows(statement).await?.iter().map(entry).collect()
    }
}

/// The first identifier that the times of a filter allow, and the first one after them. Identifiers begin with their time, so
/// one index serves times, order and cursor.
fn bounds(filter: &AuditFilter) -> (Uuid, Uuid) {
    let first = |time| id_at(time, [0; 10]);
    (filter.since.map_or(Uuid::nil(), first), filter.until.map_or(Uuid::max(), first))
}

/// The columns that must have a value, and the value.
fn equal(filter: &AuditFilter) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("actor", filter.actor.as_ref().map(ToString::to_string)),
        ("action", filter.action.map(|action| action.to_string())),
        ("subject", filter.subject.as_ref().map(|subject| subject.as_str().to_owned())),
    ];
    all.into_iter().filter_map(|(column, value)| Some((column, value?)))
}

/// The statement for the entries in a range of identifiers that meet a filter: `$1` and `$2` are for the range, `$3` is how
/// many there may be.
fn select(filter: &AuditFilter, range: &'static str, order: &'static str) -> String {
    let conditions: String =
        equal(filter).zip(4..).map(|((column, _), place)| format!(" AND {column} = ${place}")).collect();
    format!("SELECT * FROM audit WHERE {range}{conditions} ORDER BY id {order} LIMIT $3")
}

fn bound(text: String, filter: &AuditFilter, first: Uuid, end: Uuid, most: i64) -> Statement<'static> {
    let statement = query(AssertSqlSafe(text)).bind(first.to_string()).bind(end.to_string()).bind(most);
    equal(filter).fold(statement, |statement, (_, value)| statement.bind(value))
}

fn entry(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    let address = row.text_or_null("address")?;
    let token_id = row.text_or_null("token_id")?;
    Ok(AuditEntry {
        id: AuditId(row.uuid("id")?),
        at: row.time("at")?,
        origin: Origin {
            actor: Actor::stored(row.text("actor")?),
            token_id: token_id
                .map(|id| id.parse::<TokenId>())
                .transpose()
                .map_err(|_| damaged("token_id"))?,
            address: address.map(|text| text.parse()).transpose().map_err(|_| damaged("address"))?,
            request_id: row.text_or_null("request_id")?.map(RequestId::stored),
            client_request_id: row.text_or_null("client_request_id")?.map(RequestId::stored),
            permitted_by: None,
        },
        action: row.text("action")?.parse().map_err(|_| damaged("action"))?,
        subject: Subject::stored(row.text("subject")?),
        details: serde_json::from_str(&row.text("details")?).map_err(|_| damaged("details"))?,
    })
}
