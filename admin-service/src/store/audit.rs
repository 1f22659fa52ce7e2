//! The audit log: written in the transaction of what it records, read newest first.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::Store;
use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, damaged, millis};
use super::transaction::Tx;
use crate::clock::id_at;
use crate::domain::audit::{Action, Actor, AuditEntry, AuditFilter, AuditId, Origin, RequestId, Subject};
use crate::domain::page::{Page, PageRequest};
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
    let id = tx.sources.new_id(now)?;
    let origin = by.origin();
    query(
        "INSERT INTO audit (id, at, actor, token_id, address, request_id, action, subject, details) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id.to_string())
    .bind(millis(now))
    .bind(origin.actor.to_string())
    .bind(origin.token_id.map(|id| id.to_string()))
    .bind(origin.address.map(|address| address.to_string()))
    .bind(origin.request_id.as_ref().map(ToString::to_string))
    .bind(action.as_str())
    .bind(subject.as_str().to_owned())
    .bind(details.to_string())
    .execute(&mut *tx.connection)
    .await?;
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
        // Identifiers begin with their time, so one index serves the order, the cursor and `since`.
        let before = page.cursor.map_or(Uuid::max(), |cursor| cursor.0);
        let since = filter.since.map_or(Uuid::nil(), |since| id_at(since, [0; 10]));
        let equal = [
            ("actor", filter.actor.as_ref().map(ToString::to_string)),
            ("action", filter.action.map(|action| action.to_string())),
            ("subject", filter.subject.as_ref().map(|subject| subject.as_str().to_owned())),
        ];
        let equal: Vec<_> = equal.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
        let mut text = String::from("SELECT * FROM audit WHERE id < $1 AND id >= $2");
        for ((column, _), position) in equal.iter().zip(4..) {
            text.push_str(&format!(" AND {column} = ${position}"));
        }
        text.push_str(" ORDER BY id DESC LIMIT $3");
        let mut statement = query(AssertSqlSafe(text))
            .bind(before.to_string())
            .bind(since.to_string())
            .bind(i64::from(page.limit.get()) + 1);
        for (_, value) in equal {
            statement = statement.bind(value);
        }
        let rows = self.rows(statement).await?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page::of(entries, page.limit, |entry| entry.id.0))
    }
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
            permitted_by: None,
        },
        action: row.text("action")?.parse().map_err(|_| damaged("action"))?,
        subject: Subject::stored(row.text("subject")?),
        details: serde_json::from_str(&row.text("details")?).map_err(|_| damaged("details"))?,
    })
}
