//! A limit as it is typed.

use std::str::FromStr;

/// A limit, or none.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Limit<T>(pub(in crate::cli) Option<T>);

/// Reads a limit, or `none`.
pub(in crate::cli) fn limit<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => text.parse().map(|limit| Limit(Some(limit))).map_err(|problem| format!("{problem}; or none")),
    }
}
