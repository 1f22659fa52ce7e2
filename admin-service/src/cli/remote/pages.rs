//! Lists, page by page to their end.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Method};
use crate::cli::Failure;

/// The most items of one page, by the contract.
const LARGEST: u64 = 200;

/// One page, each item as the API wrote it.
#[derive(Deserialize)]
pub(in crate::cli) struct Page {
    pub(in crate::cli) items: Vec<Box<RawValue>>,
    pub(in crate::cli) next_cursor: Option<String>,
}

/// Gives every page of a list to `each`, or those that hold the first `most` items.
pub(in crate::cli) fn pages(
    client: &Client,
    path: &str,
    query: &[(&'static str, String)],
    most: Option<u64>,
    mut each: impl FnMut(&Page) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut left = most.unwrap_or(u64::MAX);
    let mut cursor: Option<String> = None;
    loop {
        let limit = left.min(LARGEST).to_string();
        let mut query: Vec<(&str, &str)> =
            query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.push(("limit", &limit));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page = client.parsed(&client.call(Method::GET, path, &query, None)?)?;
        each(&page)?;
        left = left.saturating_sub(page.items.len() as u64);
        if left == 0 || page.next_cursor.is_none() {
            return Ok(());
        }
        if page.next_cursor == cursor {
            return Err(Failure::Failed(
                "the list does not go on: the service gave the same page twice.".to_owned(),
            ));
        }
        cursor = page.next_cursor;
    }
}
