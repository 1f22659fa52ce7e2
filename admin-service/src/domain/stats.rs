//! The figures by which an administrator sees how the service is used.

use crate::domain::time::Timestamp;

use super::period::Period;

/// How soon an active token expires that counts as expiring.
pub const EXPIRING_WITHIN: Period = Period::from_days(7);

/// How many users there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserCounts {
    /// Those whose tokens work.
    pub active: u64,
    /// Those that are disabled and not deleted.
    pub disabled: u64,
    /// Those that were deleted.
    pub deleted: u64,
}

impl UserCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.active + self.disabled + self.deleted
    }
}

/// How many tokens there are, by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Those that are neither expired nor revoked.
    pub active: u64,
    /// Those that are expired and were not revoked.
    pub expired: u64,
    /// Those that were revoked.
    pub revoked: u64,
    /// Of the active ones, those that expire within [`EXPIRING_WITHIN`].
    pub expiring: u64,
}

impl TokenCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.active + self.expired + self.revoked
    }
}

/// How many users and tokens there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// When they were counted.
    pub as_of: Timestamp,
    /// The users.
    pub users: UserCounts,
    /// The tokens.
    pub tokens: TokenCounts,
}

/// The requests of one hour, of all tokens together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourOfRequests {
    /// When the hour begins.
    pub hour: Timestamp,
    /// Those that passed.
    pub allowed: u64,
    /// Those that were refused.
    pub denied: u64,
}
