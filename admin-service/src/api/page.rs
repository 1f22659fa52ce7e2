//! Pages, as callers ask for them and see them.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::bad_parameter;
use crate::domain::page::{InvalidCursor, Limit, Page, PageRequest};
use crate::error::{ApiError, Code, sentence};

/// The query parameters of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many items at most.
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn check(&self) -> Result<PageRequest, ApiError> {
        page_request(self.limit.as_deref(), self.cursor.as_deref())
    }
}

/// Which page is asked for.
pub(super) fn page_request<C: FromStr<Err = InvalidCursor>>(
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Result<PageRequest<C>, ApiError> {
    let limit = limit.map_or(Ok(Limit::default()), |text| {
        let no_number = |_| bad_parameter("limit", &format!("must be a number, 1 to {}", Limit::MOST));
        Limit::new(text.parse().map_err(no_number)?).map_err(|problem| bad_parameter("limit", &problem))
    })?;
    let cursor = cursor.map(str::parse).transpose();
    let cursor = cursor.map_err(|problem| invalid_cursor(&problem))?;
    Ok(PageRequest { limit, cursor })
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
    pub(super) fn of<U, C: Display>(page: Page<U, C>, view: impl FnMut(U) -> T) -> Self {
        let page = page.map(view);
        Self { items: page.items, next_cursor: page.next_cursor.map(|cursor| cursor.to_string()) }
    }
}
