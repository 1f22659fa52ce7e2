//! What goes wrong, as callers see it: one list of codes, and one shape of body for all of them.

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::authority::Beyond;
use crate::domain::limits::ExpiryRefusal;
use crate::json::Json;
use crate::store::StoreError;

/// What went wrong, for programs: the `code` of an error body. Codes are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400: the body is no JSON.
    MalformedJson,
    /// 400: the body has an unknown field, lacks one, or has one of the wrong type.
    InvalidBody,
    /// 400: a query parameter is unknown, missing or has an impossible value.
    InvalidQuery,
    /// 400: the cursor is not one that this service gave out.
    InvalidCursor,
    /// 400: the request carries more than one credential.
    MultipleCredentials,
    /// 401: the request carries no credential.
    ApiKeyMissing,
    /// 401: the credential is not valid; the message never says why.
    ApiKeyInvalid,
    /// 401: the caller of the edge API did not present an edge secret.
    EdgeSecretInvalid,
    /// 403: the token lacks a scope that the operation needs, or would give scopes that it lacks itself.
    InsufficientScope,
    /// 403: a page of another site has sent the request, which might change something.
    CrossSite,
    /// 403: the listener asks for no secret, and the request is for a host that is not on loopback.
    HostNotAllowed,
    /// 403: the token may not be used from the caller's address.
    AddressNotPermitted,
    /// 403: the token is bound to networks, and would make another one usable from elsewhere.
    NetworksTooWide,
    /// 403: the token may not be presented with each scheme, and would make another one that may.
    SchemesTooWide,
    /// 404: nothing is at this path.
    NotFound,
    /// 404: there is no such user.
    UserNotFound,
    /// 404: there is no such token, or it is not the caller's.
    TokenNotFound,
    /// 405: the path does not answer this method.
    MethodNotAllowed,
    /// 409: another user has, or had, this name.
    UserExists,
    /// 409: the user is deleted or disabled, which rules the operation out.
    UserNotActive,
    /// 409: the token is expired or revoked, which rules the operation out; `token_status` says which.
    TokenNotActive,
    /// 409: the token was rotated, and its successor is in use; `successor` names it.
    TokenRotated,
    /// 409: the user has as many live tokens as the restrictions allow.
    TokenLimitReached,
    /// 409: the token is stored for another user, whose `token_id` it has, or is twice in one import.
    TokenExists,
    /// 409: the change would end the token that it is asked for with.
    CallerWouldExpire,
    /// 409: another replica is running the scheduler.
    SchedulerRunning,
    /// 408: the body did not arrive in time.
    RequestTimeout,
    /// 413: the body is too large.
    BodyTooLarge,
    /// 415: the body is not declared as JSON.
    UnsupportedMediaType,
    /// 422: a field has a value that cannot be; `field` names it.
    InvalidValue,
    /// 422: the token would live longer than the restrictions allow.
    ExpiryTooLong,
    /// 422: the token would expire later than the one that makes or changes it; `latest_expires_at` says when that is.
    OutlivesMaker,
    /// 429: too many authentications from this address have failed; a valid credential is still accepted.
    TooManyFailures,
    /// 429: the user has changed too much; revocations are still accepted.
    TooManyChanges,
    /// 500: the service failed; its log says more.
    InternalError,
    /// 503: the service cannot do this now; a later try may succeed.
    Unavailable,
    /// 503: the database never had an administrator, so nothing is said of users and tokens; `latchkey bootstrap` makes the first one.
    NotBootstrapped,
    /// 503: the service works on as many requests as it can already.
    Overloaded,
    /// 507: the database's disk is full, so nothing can be changed.
    InsufficientStorage,
}

impl Code {
    /// The code as it stands in bodies.
    #[must_use]
    pub fn text(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The status that answers with this code have.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::InvalidBody
            | Self::InvalidQuery
            | Self::InvalidCursor
            | Self::MultipleCredentials => StatusCode::BAD_REQUEST,
            Self::ApiKeyMissing | Self::ApiKeyInvalid | Self::EdgeSecretInvalid => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope
            | Self::CrossSite
            | Self::HostNotAllowed
            | Self::AddressNotPermitted
            | Self::NetworksTooWide
            | Self::SchemesTooWide => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UserNotFound | Self::TokenNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UserExists
            | Self::UserNotActive
            | Self::TokenNotActive
            | Self::TokenRotated
            | Self::TokenLimitReached
            | Self::TokenExists
            | Self::CallerWouldExpire
            | Self::SchedulerRunning => StatusCode::CONFLICT,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidValue | Self::ExpiryTooLong | Self::OutlivesMaker => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TooManyFailures | Self::TooManyChanges => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::NotBootstrapped | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// An answer that says no.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: String,
    details: Map<String, Value>,
    challenges: Vec<HeaderValue>,
    /// After how many seconds to come again.
    retry_after: Option<u64>,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What an error body holds; some codes add details of their own, such as `limit` and `count`.
#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// Always `ERROR`.
    #[schema(example = "ERROR")]
    status: &'static str,
    code: Code,
    /// A sentence for people.
    #[schema(example = "The user has 10 live tokens, and the limit is 10; revoke one before making another")]
    message: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

impl ApiError {
    /// An error with a code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after =
            matches!(code, Code::Unavailable | Code::NotBootstrapped | Code::Overloaded).then_some(1);
        Self { code, message: message.into(), details: Map::new(), challenges: Vec::new(), retry_after }
    }

    /// A field's value that cannot be.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidValue, message).with("field", field)
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds to its sentence.
    #[must_use]
    pub fn adding(mut self, more: &str) -> Self {
        self.message += more;
        self
    }

    /// The same about one of the request's tokens: `entry` says which, counted from 0.
    #[must_use]
    pub fn of_entry(mut self, index: usize) -> Self {
        let place = format!("tokens[{index}]");
        self.message = format!("`{place}`: {}", self.message);
        if let Some(Value::String(field)) = self.details.get_mut("field") {
            *field = format!("{place}.{field}");
        }
        self.with("entry", index)
    }

    /// Adds `WWW-Authenticate` lines.
    #[must_use]
    pub fn challenging(mut self, challenges: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.challenges.extend(challenges);
        self
    }

    /// Asks the caller to come again after so many seconds.
    #[must_use]
    pub const fn again_in(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Something that should not happen; `cause` goes to the log and not to the caller.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(cause = chain(cause), "a request failed");
        Self::new(Code::InternalError, "Something failed in the service; its log says more")
    }

    /// What cannot be done now, and may be done later.
    #[must_use]
    pub fn unavailable(message: &'static str) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Its sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = sentence(&error);
        match error {
            StoreError::UserNotFound(_) => Self::new(Code::UserNotFound, message),
            StoreError::TokenNotFound => Self::new(Code::TokenNotFound, message),
            StoreError::UserExists(_) => Self::new(Code::UserExists, message),
            StoreError::UserDeleted(_) | StoreError::UserDisabled(_) => {
                Self::new(Code::UserNotActive, message)
            }
            StoreError::TokenNotActive(status) => {
                Self::new(Code::TokenNotActive, message).with("token_status", json!(status))
            }
            StoreError::TokenRotated(successor) => {
                Self::new(Code::TokenRotated, message).with("successor", successor.to_string())
            }
            StoreError::TokenLimitReached { limit, whose, count } => {
                let error = Self::new(Code::TokenLimitReached, message).with("limit", limit);
                error.with("limit_of", json!(whose)).with("count", count)
            }
            StoreError::ImportBeyondLimit { limit, whose, count, new } => {
                let error = Self::new(Code::TokenLimitReached, message).with("limit", limit);
                error.with("limit_of", json!(whose)).with("count", count).with("new", new)
            }
            StoreError::TokenExists(id) => {
                Self::new(Code::TokenExists, message).with("token_id", id.to_string())
            }
            StoreError::Entry { index, refused } => Self::from(*refused).of_entry(index),
            StoreError::Expiry(refusal) => expiry(&refusal),
            StoreError::InvalidRestriction(refused) => Self::field(refused.field, message),
            StoreError::CallerRefused => crate::auth::no_longer_valid(),
            StoreError::CallerLacks(scope) => crate::auth::lacks(scope),
            StoreError::Beyond(beyond) => cannot_give(&beyond, message),
            StoreError::CallerWouldExpire { made, most } => {
                let error = Self::new(Code::CallerWouldExpire, message).with("created_at", made.to_string());
                error.with("max_lifetime", most.to_string())
            }
            StoreError::Unavailable(_) => {
                tracing::warn!(cause = chain(&error), "the database cannot be used");
                Self::unavailable("The service cannot reach its database now; try again")
            }
            StoreError::NotBootstrapped => Self::new(Code::NotBootstrapped, message),
            StoreError::ClockInDoubt(_) => Self::new(Code::Unavailable, message),
            StoreError::Full(_) => {
                tracing::warn!(cause = chain(&error), "nothing can be written");
                let message = "The disk of the service's database is full, so nothing was changed; tokens are still verified";
                Self::new(Code::InsufficientStorage, message)
            }
            _ => Self::internal(&error),
        }
    }
}

/// The refusal of what the caller's token lacks itself.
fn cannot_give(beyond: &Beyond, message: String) -> ApiError {
    match beyond {
        Beyond::Scopes(scopes) => crate::auth::cannot_give(scopes, message),
        Beyond::Networks(bound) => {
            ApiError::new(Code::NetworksTooWide, message).with("networks", json!(bound))
        }
        Beyond::Schemes(held) => ApiError::new(Code::SchemesTooWide, message).with("schemes", json!(held)),
        Beyond::Expiry(end) => {
            ApiError::new(Code::OutlivesMaker, message).with("latest_expires_at", end.to_string())
        }
    }
}

/// The refusal of an expiry, with the limit that it goes beyond and what was asked for.
fn expiry(refusal: &ExpiryRefusal) -> ApiError {
    let message = sentence(refusal);
    match refusal {
        ExpiryRefusal::NotInFuture { asked, .. } | ExpiryRefusal::Rotated { asked, .. } => {
            ApiError::field("expires_at", message).with("asked_for", asked.value())
        }
        ExpiryRefusal::OutlivesMaker { latest, asked } => ApiError::new(Code::OutlivesMaker, message)
            .with("latest_expires_at", latest.to_string())
            .with("asked_for", asked.value()),
        ExpiryRefusal::TooLong(limit) => ApiError::new(Code::ExpiryTooLong, message)
            .with("max_lifetime", limit.longest.to_string())
            .with("limit_of", json!(limit.whose))
            .with("latest_expires_at", limit.latest.to_string())
            .with("asked_for", limit.asked.value()),
    }
}

/// An error's text as a sentence: with a capital letter at its beginning.
pub fn sentence(problem: &impl std::fmt::Display) -> String {
    let text = problem.to_string();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// An error and what it came from, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Many errors repeat their source's text in their own.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorDetail {
                status: "ERROR",
                code: self.code,
                message: self.message,
                details: self.details,
            },
        };
        let mut response = (self.code.status(), Json(body)).into_response();
        // For whoever counts errors.
        response.extensions_mut().insert(self.code);
        for challenge in self.challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
