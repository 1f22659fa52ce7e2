//! The fields of limits, as callers write them. Each refusal names the field and says what is allowed.

use crate::domain::period::Period;
use crate::domain::restrictions::InvalidRestriction;
use crate::error::ApiError;

/// A length of time.
pub(in crate::api) fn period(field: &str, text: &str) -> Result<Period, ApiError> {
    text.parse().map_err(|problem| ApiError::field(field, format!("`{field}` {problem}")))
}

/// The longest lifetime, or none.
pub(in crate::api) fn max_lifetime(text: Option<&str>) -> Result<Option<Period>, ApiError> {
    text.map(|text| period("max_lifetime", text)).transpose()
}

/// The most live tokens of a user, or none.
pub(in crate::api) fn max_tokens(most: Option<i64>) -> Result<Option<u32>, ApiError> {
    let refused = |most| {
        let all = u32::MAX;
        let problem = format!(
            "`max_tokens_per_user` must be 0 to {all}, where 0 stops the making of tokens, or null for no limit; it is {most}"
        );
        ApiError::field("max_tokens_per_user", problem)
    };
    most.map(|most| u32::try_from(most).map_err(|_| refused(most))).transpose()
}

/// The refusal of limits that no service could keep to.
pub(in crate::api) fn refuse(refused: &InvalidRestriction) -> ApiError {
    ApiError::field(refused.field, format!("`{}` {}", refused.field, refused.problem))
}
