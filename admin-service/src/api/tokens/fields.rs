//! The fields of tokens, as callers write them. Each refusal names the field and says what is allowed.

use latchkey::wire::Scheme;

use crate::domain::Invalid;
use crate::domain::scope::Scopes;
use crate::domain::time::Timestamp;
use crate::domain::token::{Networks, Schemes};
use crate::error::ApiError;

/// The refusal of a field's value.
pub(in crate::api) fn refuse(field: &str, problem: &impl std::fmt::Display) -> ApiError {
    ApiError::field(field, format!("`{field}` {problem}"))
}

/// A text that is its type's own.
pub(in crate::api) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, ApiError> {
    text.parse().map_err(|problem| refuse(field, &problem))
}

/// A time, without what is finer than a millisecond.
pub(in crate::api) fn time(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    parsed(field, text)
}

/// Scopes.
pub(in crate::api) fn scopes(field: &str, texts: &[String]) -> Result<Scopes, ApiError> {
    let scopes: Result<Vec<_>, Invalid> = texts.iter().map(|scope| scope.parse()).collect();
    scopes.and_then(Scopes::new).map_err(|problem| refuse(field, &problem))
}

/// Networks.
pub(in crate::api) fn networks(field: &str, texts: &[String]) -> Result<Networks, ApiError> {
    Networks::parse(texts.iter().map(String::as_str)).map_err(|problem| refuse(field, &problem))
}

/// Schemes.
pub(in crate::api) fn schemes(field: &str, texts: &[String]) -> Result<Schemes, ApiError> {
    let scheme = |text: &String| match text.as_str() {
        "bearer" => Ok(Scheme::Bearer),
        "basic" => Ok(Scheme::Basic),
        _ => Err(Invalid("must hold only \"bearer\" and \"basic\"".to_owned())),
    };
    let schemes = texts.iter().map(scheme).collect::<Result<Vec<_>, _>>();
    schemes.and_then(Schemes::new).map_err(|problem| refuse(field, &problem))
}
