//! Changes, limited for each user that is no administrator: making and revoking tokens in a loop would fill the disk, and with it end
//! the revocations of everyone else.
//!
//! What makes or alters counts. Revocations do not: each needs a token that was made, and none must be held up.

use std::sync::Arc;

use crate::clock::Sources;
use crate::domain::user::UserName;
use crate::rate::{RateLimiter, TooMany};

/// How many changes of one user are allowed at once, and within a minute afterwards, where nothing else is said.
pub const DEFAULT_LIMIT: u32 = 120;

/// Counts changes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChangeLimit(Arc<RateLimiter<UserName>>);

impl ChangeLimit {
    /// So many changes of one user are allowed at once, and within a minute; 0: any number.
    #[must_use]
    pub fn new(limit: u32, sources: Sources) -> Self {
        Self(Arc::new(RateLimiter::new(limit, sources)))
    }

    /// Counts a change by a user, be it made or refused by the store: both take its locks.
    ///
    /// # Errors
    /// [`TooMany`]: this one is beyond the limit, and does not put the next one off.
    pub fn take(&self, user: &UserName) -> Result<(), TooMany> {
        self.0.take(user.clone())
    }
}
