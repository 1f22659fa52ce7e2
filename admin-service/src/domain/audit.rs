//! The audit log: who did what to what, when, and from where.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::text::{Invalid, id_type, plain, text_type};
use super::token::TokenId;
use super::user::UserName;
use crate::domain::time::Timestamp;

id_type! {
    /// An audit entry's identifier (UUIDv7).
    AuditId
}

text_type! {
    /// Names one request in logs: 1 to 128 visible ASCII characters.
    RequestId,
    |text| {
        if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(())
        } else {
            Err(Invalid::because("must be 1 to 128 visible ASCII characters"))
        }
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user, by a token.
    User(UserName),
    /// The service's own jobs.
    Scheduler,
    /// Whoever ran `latchkey bootstrap` beside the database.
    Bootstrap,
    /// Whoever ran another command beside the database.
    Local,
}

/// What [`Actor::Scheduler`] is called. No user name has a colon.
const SCHEDULER: &str = "system:scheduler";
/// What [`Actor::Bootstrap`] is called.
const BOOTSTRAP: &str = "system:bootstrap";
/// What [`Actor::Local`] is called.
const LOCAL: &str = "system:local";

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User(name) => name.as_str(),
            Self::Scheduler => SCHEDULER,
            Self::Bootstrap => BOOTSTRAP,
            Self::Local => LOCAL,
        })
    }
}

impl Actor {
    /// Reads what [`Actor`] displays.
    pub(crate) fn stored(text: String) -> Self {
        match text.as_str() {
            SCHEDULER => Self::Scheduler,
            BOOTSTRAP => Self::Bootstrap,
            LOCAL => Self::Local,
            _ => Self::User(UserName::stored(text)),
        }
    }
}

impl FromStr for Actor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            SCHEDULER => Ok(Self::Scheduler),
            BOOTSTRAP => Ok(Self::Bootstrap),
            LOCAL => Ok(Self::Local),
            _ => text.parse().map(Self::User),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Defines [`Action`] with its stable names.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal,)*) => {
        /// What was done. The names are stable: programs filter by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            /// Its stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)*
                }
            }
        }
    };
}

actions! {
    /// A user was made.
    UserCreated = "user.created",
    /// A user's fields were changed, or it was disabled or enabled.
    UserUpdated = "user.updated",
    /// A user got limits of its own, or has them no longer.
    UserRestrictionsUpdated = "user_restrictions.updated",
    /// A user was deleted.
    UserDeleted = "user.deleted",
    /// Users who had been deleted before were deleted for good, with no token left of theirs.
    UsersPruned = "users.pruned",
    /// A token was made.
    TokenCreated = "token.created",
    /// A token of another system's was stored.
    TokenImported = "token.imported",
    /// A token's fields were changed.
    TokenUpdated = "token.updated",
    /// A token got a successor, and ends.
    TokenRotated = "token.rotated",
    /// A token was revoked.
    TokenRevoked = "token.revoked",
    /// Tokens that had ended were deleted: expired ones by their owner, all that are due by the scheduler.
    TokensDeleted = "tokens.deleted",
    /// The restrictions were changed.
    RestrictionsUpdated = "restrictions.updated",
    /// Entries of the audit log were deleted, for they were older than it is kept.
    AuditDeleted = "audit.deleted",
    /// A backup was put in the place of the database.
    DatabaseRestored = "database.restored",
    /// The history got a new name, so that every edge forgets its verdicts.
    EpochChanged = "epoch.changed",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let names = || Self::ALL.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|action| action.as_str() == text);
        found.ok_or_else(|| Invalid(format!("must be one of {}", names())))
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What it was done to: a user's name, a token's identifier, `restrictions`, `scheduler`, `audit` or `epoch`. The action tells which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    /// The restrictions.
    #[must_use]
    pub fn restrictions() -> Self {
        Self("restrictions".to_owned())
    }

    /// What the scheduler did by itself.
    #[must_use]
    pub fn scheduler() -> Self {
        Self("scheduler".to_owned())
    }

    /// The audit log itself.
    #[must_use]
    pub fn audit() -> Self {
        Self("audit".to_owned())
    }

    /// The database itself.
    #[must_use]
    pub fn database() -> Self {
        Self("database".to_owned())
    }

    /// The name of the history.
    #[must_use]
    pub fn epoch() -> Self {
        Self("epoch".to_owned())
    }

    /// The text that is stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes what was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }
}

impl From<&UserName> for Subject {
    fn from(name: &UserName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl From<TokenId> for Subject {
    fn from(id: TokenId) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for Subject {
    type Err = Invalid;

    /// Any text may be looked for that is no longer than the longest subject, and has nothing in it that none has.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        plain(text, 1, 64)?;
        // Names and identifiers have no capitals.
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Where a change comes from. Every call that changes something takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who asks.
    pub actor: Actor,
    /// The token that the actor used.
    pub token_id: Option<TokenId>,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
    /// The request that the change belongs to.
    pub request_id: Option<RequestId>,
    /// What the caller calls that request.
    pub client_request_id: Option<RequestId>,
    /// The scope that permits the change to the actor's token. It is looked at again with the change, and not recorded.
    pub permitted_by: Option<&'static str>,
}

impl Origin {
    /// The service's own jobs.
    #[must_use]
    pub fn scheduler() -> Self {
        Self {
            actor: Actor::Scheduler,
            token_id: None,
            address: None,
            request_id: None,
            client_request_id: None,
            permitted_by: None,
        }
    }

    /// `latchkey bootstrap`.
    #[must_use]
    pub fn bootstrap() -> Self {
        Self { actor: Actor::Bootstrap, ..Self::scheduler() }
    }

    /// A command beside the database.
    #[must_use]
    pub fn local() -> Self {
        Self { actor: Actor::Local, ..Self::scheduler() }
    }
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its identifier.
    pub id: AuditId,
    /// When it was done.
    pub at: Timestamp,
    /// Who did it, by what and from where.
    pub origin: Origin,
    /// What was done.
    pub action: Action,
    /// What it was done to.
    pub subject: Subject,
    /// More about it, a JSON object: never a secret or a hash. Where something was made or changed, `before` and `after`
    /// are what it was and what it is: all of it, or the fields that differ, or null where there is nothing.
    pub details: serde_json::Value,
}

/// Which entries to list: those that meet all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this actor.
    pub actor: Option<Actor>,
    /// Of this kind.
    pub action: Option<Action>,
    /// To this subject.
    pub subject: Option<Subject>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_and_actions_survive_their_text() {
        for actor in [Actor::Scheduler, Actor::Bootstrap, Actor::Local, Actor::User("alice".parse().unwrap())]
        {
            assert_eq!(actor.to_string().parse(), Ok(actor.clone()));
            assert_eq!(Actor::stored(actor.to_string()), actor);
        }
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
    }

    #[test]
    fn no_user_can_pass_for_the_system() {
        assert!("system:scheduler".parse::<UserName>().is_err());
        assert!("system:other".parse::<Actor>().is_err());
    }

    #[test]
    fn an_unknown_action_is_refused_with_those_that_there_are() {
        let refused = "token.eaten".parse::<Action>().unwrap_err().to_string();
        assert!(refused.contains("token.revoked"), "{refused}");
    }

    #[test]
    fn what_no_database_may_be_asked_for_is_no_subject() {
        assert!("alice".parse::<Subject>().is_ok());
        for bad in ["", "a\0", "a\n", &"a".repeat(65)] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn request_identifiers_cannot_break_a_log_line() {
        assert!("0b5c-1".parse::<RequestId>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"a".repeat(129)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
