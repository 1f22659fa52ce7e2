//! Pages, as callers ask for them and see them.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::bad_parameter;
use crate::domain::page::{InvalidCursor, Limit, Page, PageRequest};
use crate::error::{ApiError, Code, sentence};

/// How many bytes of a digest a cursor carries: enough that no two lists share one by accident.
const KEY_BYTES: usize = 8;

/// Which list a cursor belongs to: its name and its filters. It is no secret, and a forged one does no harm: a cursor only
/// says where in a list, which the caller may read anyway, a page begins.
pub(super) struct ListKey(String);

impl ListKey {
    /// The list of this name with these filters.
    pub fn of(list: &str, filters: &[(&str, Option<&str>)]) -> Self {
        let mut digest = Sha256::new();
        let mut part = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        part(list);
        for (name, value) in filters {
            if let Some(value) = value {
                part(name);
                part(value);
            }
        }
        let digest = digest.finalize();
        Self(URL_SAFE_NO_PAD.encode(digest.iter().take(KEY_BYTES).copied().collect::<Vec<u8>>()))
    }

    /// Which page of it is asked for.
    pub fn page<C: FromStr<Err = InvalidCursor>>(
        &self,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<PageRequest<C>, ApiError> {
        let limit = limit.map_or(Ok(Limit::default()), |text| {
            let no_number = |_| bad_parameter("limit", &format!("must be a number, 1 to {}", Limit::MOST));
            Limit::new(text.parse().map_err(no_number)?).map_err(|problem| bad_parameter("limit", &problem))
        })?;
        let cursor = cursor.map(|text| self.place(text)).transpose();
        let cursor = cursor.map_err(|problem| invalid_cursor(&problem))?;
        Ok(PageRequest { limit, cursor })
    }

    /// The cursor of a place in it.
    fn cursor(&self, place: &impl Display) -> String {
        format!("{place}.{}", self.0)
    }

    /// The place of one of its cursors.
    fn place<C: FromStr<Err = InvalidCursor>>(&self, cursor: &str) -> Result<C, InvalidCursor> {
        match cursor.rsplit_once('.') {
            Some((place, key)) if key == self.0 => place.parse(),
            _ => Err(InvalidCursor),
        }
    }
}

/// The query parameters of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<String>,
    /// The `next_cursor` of the page before, of the same list with the same filters.
    #[param(pattern = "^[A-Za-z0-9_-]{22,32}[.][A-Za-z0-9_-]{11}$")]
    pub(super) cursor: Option<String>,
}

/// The refusal of a cursor.
pub(super) fn invalid_cursor(problem: &InvalidCursor) -> ApiError {
    ApiError::new(Code::InvalidCursor, sentence(problem))
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = Page)]
pub(super) struct PageBody<T> {
    /// The items.
    items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

impl<T> PageBody<T> {
    pub(super) fn of<U, C: Display>(page: Page<U, C>, key: &ListKey, view: impl FnMut(U) -> T) -> Self {
        let page = page.map(view);
        Self { items: page.items, next_cursor: page.next_cursor.map(|place| key.cursor(&place)) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::page::Cursor;

    #[test]
    fn a_cursor_belongs_to_its_list_and_its_filters() {
        let key = |list, filters: &[(&str, Option<&str>)]| ListKey::of(list, filters);
        let place = Cursor(Uuid::from_u128(7));
        let cursor = key("audit", &[("actor", Some("alice")), ("since", None)]).cursor(&place);
        let read = |key: &ListKey, cursor: &str| {
            key.page::<Cursor>(None, Some(cursor)).ok().and_then(|page| page.cursor)
        };
        assert_eq!(read(&key("audit", &[("actor", Some("alice"))]), &cursor), Some(place));
        for other in [
            key("audit", &[]),
            key("audit", &[("actor", Some("bob"))]),
            key("audit", &[("subject", Some("alice"))]),
            key("audit", &[("actor", Some("alice")), ("since", Some(""))]),
            key("users", &[("actor", Some("alice"))]),
            key("auditactor", &[("", Some("alice"))]),
        ] {
            assert_eq!(read(&other, &cursor), None);
        }
        let own = key("audit", &[("actor", Some("alice"))]);
        for bad in
            ["", ".", &place.to_string(), &format!("{cursor}A"), &format!("A{cursor}"), &format!(".{cursor}")]
        {
            assert_eq!(read(&own, bad), None, "{bad}");
        }
    }
}
