//! Reading rows: the store's column types as the domain's.

use latchkey::token::TokenHash;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::error::{Failure, StoreError};
use crate::domain::time::Timestamp;

/// How many rows one statement writes or looks for, so that many need few ways to the database and back.
pub(super) const MANY: usize = 50;

/// The places of so many values: `($3, $4)` for two from the third on.
pub(super) fn list(first: usize, count: usize) -> String {
    let places = (first..).take(count).map(|place| format!("${place}"));
    format!("({})", places.collect::<Vec<_>>().join(", "))
}

/// The places of values, row by row: `($1, $2), ($3, $4)` for two rows of two.
pub(super) fn places(rows: usize, columns: usize) -> String {
    (0..rows).map(|row| list(row * columns + 1, columns)).collect::<Vec<_>>().join(", ")
}

/// Typed access to the columns of a row.
pub(super) trait Columns {
    /// A text that may be absent.
    fn text_or_null(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// A whole number that may be absent.
    fn integer_or_null(&self, name: &str) -> Result<Option<i64>, StoreError>;

    /// A token's hash that may be absent.
    fn token_hash_or_null(&self, name: &str) -> Result<Option<TokenHash>, StoreError>;

    /// A text.
    fn text(&self, name: &str) -> Result<String, StoreError> {
        self.text_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A whole number.
    fn integer(&self, name: &str) -> Result<i64, StoreError> {
        self.integer_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A flag, 0 or 1.
    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.integer(name)? != 0)
    }

    /// A number that cannot be negative.
    fn number<N: TryFrom<i64>>(&self, name: &str) -> Result<N, StoreError> {
        self.number_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A number that cannot be negative, and may be absent.
    fn number_or_null<N: TryFrom<i64>>(&self, name: &str) -> Result<Option<N>, StoreError> {
        let value = self.integer_or_null(name)?;
        value.map(|value| N::try_from(value).map_err(|_| damaged(name))).transpose()
    }

    /// A time in Unix milliseconds.
    fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        self.time_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A time in Unix milliseconds that may be absent.
    fn time_or_null(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let millis = self.integer_or_null(name)?;
        millis.map(|millis| Timestamp::from_millisecond(millis).map_err(|_| damaged(name))).transpose()
    }

    /// A token's hash.
    fn token_hash(&self, name: &str) -> Result<TokenHash, StoreError> {
        self.token_hash_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A UUID.
    fn uuid(&self, name: &str) -> Result<Uuid, StoreError> {
        self.uuid_or_null(name)?.ok_or_else(|| damaged(name))
    }

    /// A UUID that may be absent.
    fn uuid_or_null(&self, name: &str) -> Result<Option<Uuid>, StoreError> {
        let text = self.text_or_null(name)?;
        text.map(|text| Uuid::try_parse(&text).map_err(|_| damaged(name))).transpose()
    }
}

impl Columns for AnyRow {
    fn text_or_null(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.try_get(name)?)
    }

    fn integer_or_null(&self, name: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(name)?)
    }

    fn token_hash_or_null(&self, name: &str) -> Result<Option<TokenHash>, StoreError> {
        let bytes: Option<Vec<u8>> = self.try_get(name)?;
        bytes.map(|bytes| Ok(TokenHash::from_bytes(bytes.try_into().map_err(|_| damaged(name))?))).transpose()
    }
}

/// A column holds what this program would not have written.
pub(super) fn damaged(column: &str) -> StoreError {
    Failure::Damaged(format!("a wrong value in the column {column}")).into()
}

/// A time as it is stored.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}
