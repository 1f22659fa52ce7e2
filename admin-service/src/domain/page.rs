//! Lists in pages: how many items, and where the next page begins.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::text::Invalid;

/// Where a page ended: the identifier of its last item, as a text that callers need not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) Uuid);

/// A text that no page gave out as its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor must be the next_cursor of an earlier page of the same list")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        Uuid::from_slice(&bytes).map(Self).map_err(|_| InvalidCursor)
    }
}

impl From<Uuid> for Cursor {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many items a page has at most: 1 to 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u8);

impl Limit {
    /// The most items of a page.
    pub const MOST: u8 = 200;

    /// A limit of so many items.
    ///
    /// # Errors
    /// [`Invalid`] when that is not 1 to 200.
    pub fn new(items: u64) -> Result<Self, Invalid> {
        let fits = u8::try_from(items).ok().filter(|items| (1..=Self::MOST).contains(items));
        fits.map(Self).ok_or_else(|| Invalid(format!("must be 1 to {}, and is {items}", Self::MOST)))
    }

    /// How many items.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Limit {
    /// 50.
    fn default() -> Self {
        Self(50)
    }
}

/// Which page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest<C = Cursor> {
    /// How many items at most.
    pub limit: Limit,
    /// Where the page before it ended; `None`: the first page.
    pub cursor: Option<C>,
}

impl<C> Default for PageRequest<C> {
    /// The first page.
    fn default() -> Self {
        Self { limit: Limit::default(), cursor: None }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T, C = Cursor> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: there is none.
    pub next_cursor: Option<C>,
}

impl<T, C> Page<T, C> {
    /// Makes a page of what a query found when it looked for one item more than the page may have.
    #[must_use]
    pub fn of<P: Into<C>>(mut found: Vec<T>, limit: Limit, place: impl Fn(&T) -> P) -> Self {
        let most = usize::from(limit.get());
        let more = found.len() > most;
        found.truncate(most);
        let next_cursor = found.last().filter(|_| more).map(|last| place(last).into());
        Self { items: found, next_cursor }
    }

    /// The same page with other items.
    #[must_use]
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U, C> {
        Page { items: self.items.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = Cursor(Uuid::from_u128(7));
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "x", "AAAA", "not base64!", &format!("{cursor}A"), &format!("{cursor}=")] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad:?}");
        }
    }

    #[test]
    fn a_page_has_a_cursor_only_where_another_follows() {
        let two = Limit::new(2).unwrap();
        let id = |item: &u128| Uuid::from_u128(*item);
        assert_eq!(Page::<_, Cursor>::of(vec![1, 2], two, id), Page { items: vec![1, 2], next_cursor: None });
        let first = Page::of(vec![1, 2, 3], two, id);
        assert_eq!(first, Page { items: vec![1, 2], next_cursor: Some(Cursor(Uuid::from_u128(2))) });
    }

    #[test]
    fn limits_are_one_to_two_hundred() {
        assert!([1, 200].into_iter().all(|items| Limit::new(items).is_ok()));
        assert!([0, 201, 256, 257, u64::MAX].into_iter().all(|items| Limit::new(items).is_err()));
    }
}
