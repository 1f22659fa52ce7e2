//! What one statement finds of several tokens. Most of what a row costs is its columns, each of which is copied and sent to another
//! thread by itself, so all that is found comes as one text: of records, which have fields.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use latchkey::token::TokenHash;
use latchkey::wire::{MAX_TOKEN_HASHES, RefusalReason};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::error::StoreError;
use super::history;
use super::row::{Columns, damaged};
use super::token_rows::token;
use super::transaction::Statement;
use crate::domain::changes::Position;
use crate::domain::time::Timestamp;
use crate::domain::verdict::Outcome;

/// For how many tokens there is a statement. Of fewer, some that nobody has are looked up too.
const SIZES: [usize; 7] = [1, 2, 4, 8, 16, 32, MAX_TOKEN_HASHES];
/// A hash that no token has.
const NOBODYS: TokenHash = TokenHash::from_bytes([0; 32]);

/// What stands between records, and between fields; and what stands for NULL. No column holds control characters.
const RECORD: char = '\u{1e}';
const FIELD: char = '\u{1f}';
const NULL: &str = "\u{1d}";

/// The fields of a record after its place, as [`token`] names them, and what they are made of. What users write themselves is last, and
/// ends no record: whatever it holds, it is taken for nothing else.
const FIELDS: [(&str, &str); 18] = [
    ("id", "t.id"),
    ("user_id", "t.user_id"),
    ("user_active", "u.active"),
    ("schemes", "t.schemes"),
    ("scopes", "t.scopes"),
    ("allowed_cidrs", "t.allowed_cidrs"),
    ("created_at", "t.created_at"),
    ("expires_at", "COALESCE(CAST(t.expires_at AS TEXT), '\u{1d}')"),
    ("revoked_at", "COALESCE(CAST(t.revoked_at AS TEXT), '\u{1d}')"),
    ("last_used_at", "COALESCE(CAST(t.last_used_at AS TEXT), '\u{1d}')"),
    ("rotated_from", "COALESCE(t.rotated_from, '\u{1d}')"),
    ("rotated_to", "COALESCE(t.rotated_to, '\u{1d}')"),
    ("made_by", "COALESCE(t.made_by, '\u{1d}')"),
    ("in_use_since", "COALESCE(CAST(t.in_use_since AS TEXT), '\u{1d}')"),
    ("hint", "t.hint"),
    ("user_name", "u.name"),
    ("name", "replace(t.name, '\u{1e}', ' ')"),
    ("description", "COALESCE(replace(t.description, '\u{1e}', ' '), '\u{1d}')"),
];

/// The statements, each with its size: tokens, users and revision are of one moment.
static STATEMENTS: LazyLock<[(usize, Arc<str>); SIZES.len()]> = LazyLock::new(|| {
    let fields = FIELDS.map(|(_, made_of)| made_of).join(", ");
    SIZES.map(|size| {
        let hashes =
            (0..size).map(|place| format!("({place}, ${})", place + 1)).collect::<Vec<_>>().join(", ");
        let text = format!(
            "WITH sought (place, hash) AS (VALUES {hashes}) SELECT h.epoch, h.revision, h.bootstrapped, \
             (SELECT string_agg(concat_ws('{FIELD}', sought.place, {fields}), '{RECORD}') FROM sought \
             JOIN tokens t ON t.hash = sought.hash LEFT JOIN users u ON u.id = t.user_id) AS found \
             FROM history h WHERE h.singleton = 1"
        );
        (size, text.into())
    })
});

/// Token hashes to look up: each once, and in the order of the index, in which the database finds neighbours near each other.
pub(super) struct Sought(Vec<TokenHash>);

impl Sought {
    /// At most [`MAX_TOKEN_HASHES`] hashes.
    pub fn new(mut hashes: Vec<TokenHash>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes)
    }

    /// The statement that finds them.
    pub fn statement(&self) -> Result<Statement<'static>, StoreError> {
        let fitting = STATEMENTS.iter().find(|(size, _)| *size >= self.0.len());
        let (size, text) = fitting.ok_or(sqlx::Error::RowNotFound)?;
        let hashes = self.0.iter().chain(std::iter::repeat(&NOBODYS)).take(*size);
        Ok(hashes.fold(query(AssertSqlSafe(text.clone())), |statement, hash| {
            statement.bind(hash.as_bytes().to_vec())
        }))
    }
}

/// What one statement has found.
pub(super) struct Found {
    pub at: Position,
    sought: Sought,
    text: String,
    /// Where in the text each hash's record is, without its place; `None`: no token has it.
    records: Vec<Option<Range<usize>>>,
}

impl Found {
    /// Reads the one row.
    pub fn of(sought: Sought, row: &AnyRow) -> Result<Self, StoreError> {
        let at = history::valid_position(row)?;
        let text = row.text_or_null("found")?.unwrap_or_default();
        let mut records = vec![None; sought.0.len()];
        let mut begin = 0;
        for record in text.split_terminator(RECORD) {
            let end = begin + record.len();
            let (place, fields) = record.split_once(FIELD).ok_or_else(|| damaged("found"))?;
            let place: usize = place.parse().map_err(|_| damaged("found"))?;
            // Those beyond were sought to fill the statement.
            if let Some(found) = records.get_mut(place)
                && found.replace(end - fields.len()..end).is_some()
            {
                return Err(damaged("found"));
            }
            begin = end + RECORD.len_utf8();
        }
        Ok(Self { at, sought, text, records })
    }

    /// Whether the token of a hash that was sought may be used.
    pub fn outcome(&self, hash: &TokenHash, now: Timestamp) -> Result<Outcome, StoreError> {
        let place = self.sought.0.binary_search(hash).map_err(|_| damaged("hash"))?;
        let record = self.records.get(place).cloned().flatten().and_then(|record| self.text.get(record));
        let Some(record) = record else { return Ok(Outcome::Refused(RefusalReason::Unknown, None)) };
        let record = Record::of(*hash, record)?;
        Ok(Outcome::of(token(&record)?, record.flag("user_active")?, now))
    }
}

/// One token's columns.
struct Record<'a> {
    hash: TokenHash,
    fields: [&'a str; FIELDS.len()],
}

impl<'a> Record<'a> {
    fn of(hash: TokenHash, text: &'a str) -> Result<Self, StoreError> {
        let mut parts = text.splitn(FIELDS.len(), FIELD);
        let mut fields = [""; FIELDS.len()];
        for field in &mut fields {
            *field = parts.next().ok_or_else(|| damaged("found"))?;
        }
        Ok(Self { hash, fields })
    }

    /// A field; `None`: it is NULL.
    fn field(&self, name: &str) -> Result<Option<&'a str>, StoreError> {
        let place = FIELDS.iter().position(|(field, _)| *field == name);
        let field = place.and_then(|place| self.fields.get(place)).ok_or_else(|| damaged(name))?;
        Ok(Some(*field).filter(|field| *field != NULL))
    }
}

impl Columns for Record<'_> {
    fn text_or_null(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.field(name)?.map(str::to_owned))
    }

    fn integer_or_null(&self, name: &str) -> Result<Option<i64>, StoreError> {
        self.field(name)?.map(|field| field.parse().map_err(|_| damaged(name))).transpose()
    }

    fn token_hash_or_null(&self, _: &str) -> Result<Option<TokenHash>, StoreError> {
        Ok(Some(self.hash))
    }
}
