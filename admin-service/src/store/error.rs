//! What can go wrong with the store, as a caller chooses by it.

use crate::domain::time::Timestamp;

use super::connector::{ConnectError, NoWrites, TransactionPooler, ends_connection};
use super::database_file::Displaced;
use crate::clock::{Hold, NoEntropy};
use crate::domain::authority::Beyond;
use crate::domain::limits::{ExpiryRefusal, Whose};
use crate::domain::period::Period;
use crate::domain::restrictions::InvalidRestriction;
use crate::domain::rotation::RotationRefusal;
use crate::domain::token::{TokenId, TokenStatus};
use crate::domain::usage::InvalidReport;
use crate::domain::user::UserName;

/// Why a call was refused or failed. Whatever it is, the call has changed nothing that it acknowledges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A usage report counts what cannot have been.
    #[error("field `{}` {_0}", _0.field)]
    ImplausibleUsage(InvalidReport),
    /// No user has this name.
    #[error("there is no user {0}")]
    UserNotFound(UserName),
    /// No token has this identifier.
    #[error("there is no such token")]
    TokenNotFound,
    /// The name is taken, perhaps by a deleted user.
    #[error("the user name {0} is taken")]
    UserExists(UserName),
    /// The user was deleted, which cannot be undone or built upon.
    #[error("the user {0} is deleted")]
    UserDeleted(UserName),
    /// The user is disabled, and so gets no tokens.
    #[error("the user {0} is disabled; enable it before making a token for it")]
    UserDisabled(UserName),
    /// The token is expired or revoked, which cannot be undone or built upon.
    #[error("the token is {0}, and stays so; make another")]
    TokenNotActive(TokenStatus),
    /// The token was rotated, and its successor was used since or rotated itself.
    #[error("the token was rotated already, and its successor is in use: rotate {0}")]
    TokenRotated(TokenId),
    /// The user has as many live tokens as the restrictions allow.
    #[error("{}", limit_reached(*limit, *whose, *count))]
    TokenLimitReached {
        /// The most live tokens of the user.
        limit: u32,
        /// Whose limit that is.
        whose: Whose,
        /// How many the user has.
        count: u32,
    },
    /// The user would have more live tokens than its limits allow.
    #[error("{}", import_beyond_limit(*limit, *whose, *count, *new))]
    ImportBeyondLimit {
        /// The most live tokens of the user.
        limit: u32,
        /// Whose limit that is.
        whose: Whose,
        /// How many the user has.
        count: u32,
        /// How many more there would be.
        new: u32,
    },
    /// Another user has a token of this hash: the one of this identifier.
    #[error("another user has this token, as {0}")]
    TokenExists(TokenId),
    /// One of several that were asked for together cannot be.
    #[error("{refused}")]
    Entry {
        /// Which one, counted from 0.
        index: usize,
        /// Why.
        refused: Box<StoreError>,
    },
    /// The user's limits do not allow the expiry that was asked for.
    #[error(transparent)]
    Expiry(#[from] ExpiryRefusal),
    /// Restrictions that no service could keep to.
    #[error(transparent)]
    InvalidRestriction(#[from] InvalidRestriction),
    /// The token that the change was asked for with was good when the request came, and is no longer.
    #[error("the token that this was asked for with is no longer valid")]
    CallerRefused,
    /// The same of a scope of that token.
    #[error("the token that this was asked for with no longer has the scope {0}")]
    CallerLacks(&'static str),
    /// The token that the change was asked for with lacks what it would give.
    #[error(transparent)]
    Beyond(#[from] Beyond),
    /// The change would end the token that it is asked for with.
    #[error(
        "the token that this was asked for with would expire at once: it was made at {made}, and {most} after that is past; \
         ask with a newer one"
    )]
    CallerWouldExpire {
        /// When it was made.
        made: Timestamp,
        /// How long it could last.
        most: Period,
    },
    /// There is an administrator already, who can make others.
    #[error("there is an administrator already: a token with the scope latchkey:admin is live")]
    AdminExists,
    /// Another replica holds the lease of a job, or took it over.
    #[error("another replica holds the lease")]
    LeaseLost,
    /// There never was an administrator in this database, so it may be another than the one that is meant: it says nothing of tokens.
    #[error("the database has never had an administrator; make the first one with `latchkey bootstrap`")]
    NotBootstrapped,
    /// The clock may be wrong, and what is deleted by it is gone for good.
    #[error("{0}")]
    ClockInDoubt(Hold),
    /// The database's disk is full: it can be read, and not written.
    #[error("the database's disk is full")]
    Full(#[source] sqlx::Error),
    /// The database cannot be used now. What it is stays inside: it is for the log, not for a client.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Failure),
}

/// What keeps the store from working.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The database, or the way to it, failed.
    #[error("{}", said(_0))]
    Database(sqlx::Error),
    /// The only servers that answer take no writes, and so are no source of verdicts.
    #[error(transparent)]
    NoWrites(#[from] NoWrites),
    /// What answers is a pooler that does not keep what the service needs.
    #[error(transparent)]
    TransactionPooler(#[from] TransactionPooler),
    /// All connections were in use.
    #[error("all connections to the database were in use for {0:?}")]
    NoConnection(std::time::Duration),
    /// The driver panicked. The connection is gone; the panic is in the log.
    #[error(
        "the database's driver panicked; this is a fault of Latchkey's or the driver's, please report it with the log"
    )]
    Panicked,
    /// The database did not answer in time.
    #[error("the database did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The operating system's generator failed.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// A row holds what this program would never write.
    #[error("the database holds {0}, which this program would not have written")]
    Damaged(String),
    /// The database is not where it was opened, so that what is written may be lost and what is read may be out of date.
    #[error(transparent)]
    Displaced(#[from] Displaced),
    /// It kept the statement from working that this call shared with others.
    #[error(transparent)]
    Shared(std::sync::Arc<StoreError>),
    /// The service is ending.
    #[error("the look-up was given up")]
    GivenUp,
}

impl From<RotationRefusal> for StoreError {
    fn from(refusal: RotationRefusal) -> Self {
        match refusal {
            RotationRefusal::NotActive(status) => Self::TokenNotActive(status),
            RotationRefusal::Rotated(successor) => Self::TokenRotated(successor),
        }
    }
}

/// What to do about a limit that an import is beyond.
fn import_beyond_limit(limit: u32, whose: Whose, count: u32, new: u32) -> String {
    let the_limit = whose.the_limit();
    format!(
        "the user has {count} live tokens and {the_limit} is {limit}, so that {new} more cannot be imported; \
         import fewer, give the user a limit of its own, or import with `ignore_restrictions`"
    )
}

/// What to do about a limit that is reached.
fn limit_reached(limit: u32, whose: Whose, count: u32) -> String {
    let the_limit = whose.the_limit();
    match limit {
        0 => format!(
            "an administrator has stopped the making of tokens: {the_limit} is 0 (max_tokens_per_user), and the user has {count} live tokens"
        ),
        _ => format!(
            "the user has {count} live tokens, and {the_limit} is {limit}; revoke one before making another"
        ),
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // `SQLITE_FULL`, and PostgreSQL's `disk_full`.
        if matches!(code.as_deref(), Some("13" | "53100")) {
            Self::Full(error)
        } else {
            Self::Unavailable(error.into())
        }
    }
}

/// What the database says. The driver would add the line of the server's own source, which helps nobody.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        other => other.to_string(),
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Driver(error) => error.into(),
            ConnectError::NoWrites(server) => Self::Unavailable(server.into()),
            ConnectError::TransactionPooler(pooler) => Self::Unavailable(pooler.into()),
        }
    }
}

impl From<NoEntropy> for StoreError {
    fn from(error: NoEntropy) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure)
    }
}

impl StoreError {
    /// What keeps the database from being written, in a word for metrics; `None`: nothing, the change was refused.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Full(_) => Some("full"),
            Self::Unavailable(_) => Some("unavailable"),
            _ => None,
        }
    }

    /// The server that takes no writes, if that is what keeps the database from being used.
    #[must_use]
    pub fn no_writes(&self) -> Option<&NoWrites> {
        match self {
            Self::Unavailable(Failure::NoWrites(server)) => Some(server),
            Self::Unavailable(Failure::Shared(shared)) => shared.no_writes(),
            _ => None,
        }
    }

    /// Whether the server has ended the connection, or takes no writes on it any more.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Unavailable(Failure::Database(error)) if ends_connection(error))
    }

    /// The same, of one of several that were asked for together. What keeps the database from working is of none of them.
    pub(super) fn of_entry(self, index: usize) -> Self {
        match self {
            Self::TokenExists(_) | Self::Expiry(_) | Self::Beyond(_) => {
                Self::Entry { index, refused: Box::new(self) }
            }
            _ => self,
        }
    }

    /// Whether the database gave the transaction up only because others were at work, so that trying again may do:
    /// `serialization_failure` and `deadlock_detected` of PostgreSQL, and of SQLite the busy codes that come without a
    /// wait (`SQLITE_BUSY_RECOVERY`, `SQLITE_BUSY_SNAPSHOT`). Plain `SQLITE_BUSY` comes after the busy timeout. A row that
    /// another transaction has written first is such a case too: the next try finds it.
    pub(super) fn is_contention(&self) -> bool {
        let Self::Unavailable(Failure::Database(sqlx::Error::Database(error))) = self else {
            return false;
        };
        error.is_unique_violation()
            || matches!(error.code().as_deref(), Some("40001" | "40P01" | "261" | "517"))
    }
}
