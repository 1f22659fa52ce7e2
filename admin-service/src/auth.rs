//! Who calls the management API, and what they may do. A handler that takes [`Admin`], [`TokensOf`] or [`OwnToken`]
//! holds the proof that the check was made; only these give the [`Origin`] that every change needs.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use latchkey::challenges::Challenges;
use latchkey::credential::{self, Accepted, Schemes};
use latchkey::refusal::{Realm, Reason, Refusal};

use crate::app::App;
use crate::attempts::is_failed;
use crate::domain::audit::{Actor, Origin, RequestId};
use crate::domain::scope::{ADMIN, Scope, Scopes, TOKENS};
use crate::domain::token::{Networks, Schemes as TokenSchemes, Token, TokenId};
use crate::domain::user::UserName;
use crate::domain::verdict::Outcome;
use crate::error::{ApiError, Code};
use crate::look_up::{LookedUp, NoVerdict};
use crate::rate::TooMany;
use crate::server::{ClientAddress, RequestFacts, RequestPermit};
use crate::store::StoreError;
use crate::telemetry::REFUSED;

/// What callers present: either scheme. Tokens of any shape are looked up, so that a changed prefix locks nobody out.
const ACCEPTED: Accepted = Accepted { schemes: Schemes::ALL, prefix: None, challenges: Challenges::ALL };

/// A caller with a valid token, whatever its scopes.
pub struct Caller {
    /// The user that the token acts for.
    pub user: UserName,
    /// The token.
    pub token_id: TokenId,
    /// What it permits.
    pub scopes: Scopes,
    networks: Networks,
    schemes: TokenSchemes,
    address: IpAddr,
    request_id: Option<RequestId>,
    client_request_id: Option<RequestId>,
}

impl Caller {
    fn is_admin(&self) -> bool {
        self.scopes.is_admin()
    }

    /// Where a change that it makes with this scope comes from.
    fn origin(&self, permitted_by: &'static str) -> Origin {
        Origin {
            actor: Actor::User(self.user.clone()),
            token_id: Some(self.token_id),
            address: Some(self.address),
            request_id: self.request_id.clone(),
            client_request_id: self.client_request_id.clone(),
            permitted_by: Some(permitted_by),
        }
    }

    /// The same for a change of the very token that it calls with, which needs no scope.
    #[must_use]
    pub fn origin_of_change_of_itself(&self) -> Origin {
        Origin { permitted_by: None, ..self.origin(TOKENS) }
    }

    /// The same for a change of tokens: another's are an administrator's to change.
    fn origin_of_token_change(&self) -> Origin {
        self.origin(if self.is_admin() { ADMIN } else { TOKENS })
    }

    /// Counts a change of tokens, which is refused where an ordinary user has made too many.
    fn count_change(&self, app: &App) -> Result<(), ApiError> {
        if self.is_admin() {
            return Ok(());
        }
        app.changes.take(&self.user).map_err(|too_many| too_many_changes(&self.user, &too_many))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = authenticate(parts, app).await.map_err(|denied| match denied {
            Denied::Refused(refusal) => refused(&refusal, client(parts), app),
            // Not that the token is unknown: the database that knows it may be another.
            Denied::NotBootstrapped => StoreError::NotBootstrapped.into(),
        })?;
        RequestPermit::attribute_to(parts, &caller.user)?;
        Ok(caller)
    }
}

/// Why a request has no caller.
enum Denied {
    Refused(Refusal),
    /// The database never had an administrator, and says nothing of tokens.
    NotBootstrapped,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Judges the request's credential as the filter does, with the same words for what is wrong.
async fn authenticate(parts: &Parts, app: &App) -> Result<Caller, Denied> {
    let values = parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let credential = credential::read(values.collect(), &ACCEPTED).map_err(Refusal::from)?;
    let client = client(parts);
    let unavailable = || Refusal::new(Reason::Unavailable, Some(credential.scheme));
    let found = LookedUp::of(&credential, app).await.map_err(|none| match none {
        NoVerdict::NotBootstrapped => Denied::NotBootstrapped,
        NoVerdict::Unavailable => unavailable().into(),
    })?;
    found.judge(&credential, &Arc::from([]), client)?;
    match (found.outcome, client) {
        (Outcome::Valid(token), Some(address)) => Ok(caller(*token, address, parts)),
        // The judge has refused the first; the listener gives every request the address of its client.
        _ => Err(unavailable().into()),
    }
}

/// Where the caller is.
fn client(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get().map(|ClientAddress(address)| *address)
}

fn caller(token: Token, address: IpAddr, parts: &Parts) -> Caller {
    let facts = parts.extensions.get::<Arc<RequestFacts>>();
    if let Some(facts) = facts {
        // Set once, by the one authentication of a request.
        let _ = facts.user.set(token.user.to_string());
    }
    let id = |text: &String| text.parse().ok();
    let request_id = facts.and_then(|facts| id(&facts.id));
    let client_request_id = facts.and_then(|facts| facts.client_id.as_ref().and_then(id));
    Caller {
        user: token.user,
        token_id: token.id,
        scopes: token.scopes,
        networks: token.allowed_cidrs,
        schemes: token.schemes,
        address,
        request_id,
        client_request_id,
    }
}

/// The answer to a caller that is refused when it comes: a failed attempt counts for its address.
fn refused(refusal: &Refusal, client: Option<IpAddr>, app: &App) -> ApiError {
    let failed = client.filter(|_| is_failed(refusal.reason()));
    match failed.map(|address| app.attempts.failed(address)) {
        Some(Err(too_many)) => {
            metrics::counter!(REFUSED, "reason" => "too_many_failures").increment(1);
            too_many_failures(&too_many)
        }
        _ => answer(refusal),
    }
}

fn too_many_failures(too_many: &TooMany) -> ApiError {
    let message = format!("Too many authentications from this address have failed: {too_many}");
    let error = ApiError::new(Code::TooManyFailures, message).with("limit", too_many.limit);
    error.again_in(too_many.again_in_seconds())
}

fn too_many_changes(user: &UserName, too_many: &TooMany) -> ApiError {
    let message = format!("The user {user} has changed too much: {too_many}. Revocations are not counted");
    let error = ApiError::new(Code::TooManyChanges, message).with("limit", too_many.limit);
    error.again_in(too_many.again_in_seconds())
}

/// The code of a refusal.
#[must_use]
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::Missing => Code::ApiKeyMissing,
        Reason::MultipleCredentials => Code::MultipleCredentials,
        Reason::InsufficientScope => Code::InsufficientScope,
        Reason::Address => Code::AddressNotPermitted,
        Reason::Unavailable | Reason::Overloaded => Code::Unavailable,
        _ => Code::ApiKeyInvalid,
    }
}

/// The answer to a refused caller.
fn answer(refusal: &Refusal) -> ApiError {
    let reason = refusal.reason();
    metrics::counter!(REFUSED, "reason" => reason.name()).increment(1);
    ApiError::new(code(reason), reason.message()).challenging(challenges(refusal))
}

/// The answer to a caller whose token was good when the request began, and was revoked before its change was made.
#[must_use]
pub fn no_longer_valid() -> ApiError {
    answer(&Refusal::new(Reason::Revoked, None))
}

/// The `WWW-Authenticate` lines of a refusal.
fn challenges(refusal: &Refusal) -> Vec<HeaderValue> {
    let challenges = refusal.challenges(&Realm::default(), Schemes::ALL);
    challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()).collect()
}

/// The refusal of a caller whose token lacks `scope`.
#[must_use]
pub fn lacks(scope: &str) -> ApiError {
    let scopes: Arc<[String]> = Arc::from([scope.to_owned()]);
    let error = answer(&Refusal::insufficient_scope(&scopes)).with("required_scope", scope);
    error.adding(&format!(": its token lacks the scope {scope}"))
}

/// The refusal of a caller that would give scopes to a token which its own lacks.
#[must_use]
pub fn cannot_give(scopes: &[Scope], message: String) -> ApiError {
    let lacking: Arc<[String]> = scopes.iter().map(Scope::to_string).collect();
    let error = ApiError::new(Code::InsufficientScope, message).with("lacking_scopes", lacking.to_vec());
    error.challenging(challenges(&Refusal::insufficient_scope(&lacking)))
}

/// A caller whose token has the scope `latchkey:admin`.
pub struct Admin(Caller);

impl Admin {
    /// Where a change that this caller makes comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin(ADMIN)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.is_admin() { Ok(Self(caller)) } else { Err(lacks(ADMIN)) }
    }
}

/// The user that the path names, who is the caller unless that is an administrator.
async fn named_user(caller: &Caller, parts: &mut Parts, app: &App) -> Result<UserName, ApiError> {
    let name = path_parameter("name", parts, app).await.to_ascii_lowercase();
    // Before it is looked up, so that the response does not disclose which users exist.
    if !caller.is_admin() && name != caller.user.as_str() {
        return Err(lacks(ADMIN));
    }
    name.parse().map_err(|_| no_such_user())
}

/// A caller who may read the user that the path names: its own with any token, everyone with `latchkey:admin`.
pub struct ReadableUser(pub UserName);

impl FromRequestParts<App> for ReadableUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        named_user(&caller, parts, app).await.map(Self)
    }
}

/// A caller who may manage tokens: its own with `latchkey:tokens`, everyone's with `latchkey:admin`.
struct TokenManager(Caller);

impl FromRequestParts<App> for TokenManager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.is_admin() || caller.scopes.contains(TOKENS) {
            Ok(Self(caller))
        } else {
            Err(lacks(TOKENS))
        }
    }
}

/// A caller who may manage the tokens of the user that the path names.
pub struct TokensOf {
    /// The user whose tokens they are; whether there is such a user, the store knows.
    pub user: UserName,
    caller: Caller,
}

impl TokensOf {
    /// Where a change that this caller makes comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.caller.origin_of_token_change()
    }

    /// The same for what makes or alters a token, which is counted; revocations are not.
    ///
    /// # Errors
    /// [`Code::TooManyChanges`].
    pub fn origin_of_counted(&self, app: &App) -> Result<Origin, ApiError> {
        self.caller.count_change(app)?;
        Ok(self.origin())
    }

    /// Where a new token may be used from if nothing is said about it: where the caller's own may, unless the caller is
    /// an administrator.
    #[must_use]
    pub fn default_networks(&self) -> Networks {
        if self.caller.is_admin() { Networks::default() } else { self.caller.networks.clone() }
    }

    /// The same for what it may be presented with.
    #[must_use]
    pub fn default_schemes(&self) -> TokenSchemes {
        if self.caller.is_admin() { TokenSchemes::default() } else { self.caller.schemes.clone() }
    }
}

impl FromRequestParts<App> for TokensOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let TokenManager(caller) = TokenManager::from_request_parts(parts, app).await?;
        let user = named_user(&caller, parts, app).await?;
        Ok(Self { user, caller })
    }
}

/// A token that the path names and that the caller may manage.
pub struct OwnToken {
    /// The token.
    pub token: Token,
    caller: Caller,
}

impl OwnToken {
    /// Where a change that this caller makes comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.caller.origin_of_token_change()
    }

    /// The same for what makes or alters a token, which is counted; revocations are not.
    ///
    /// # Errors
    /// [`Code::TooManyChanges`].
    pub fn origin_of_counted(&self, app: &App) -> Result<Origin, ApiError> {
        self.caller.count_change(app)?;
        Ok(self.origin())
    }
}

impl FromRequestParts<App> for OwnToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let TokenManager(caller) = TokenManager::from_request_parts(parts, app).await?;
        let id = path_parameter("id", parts, app).await;
        let id = id.parse().map_err(|_| no_such_token())?;
        let token = app.store.token(id).await?;
        // Another's token answers as one that never was.
        if caller.is_admin() || token.user == caller.user {
            Ok(Self { token, caller })
        } else {
            Err(no_such_token())
        }
    }
}

/// The refusal of a text that can be no user's name. It is not repeated: it may be a token in the wrong place.
#[must_use]
pub fn no_such_user() -> ApiError {
    ApiError::new(
        Code::UserNotFound,
        "There is no such user: names are made of a-z, 0-9, '.', '_', '@', '+' and '-', 64 characters at most",
    )
}

/// The refusal of a token that is not there, or not there for the caller.
#[must_use]
pub fn no_such_token() -> ApiError {
    ApiError::new(Code::TokenNotFound, "There is no such token")
}

/// A parameter of the matched path, decoded; empty where it is no UTF-8, which names nothing.
pub async fn path_parameter(name: &str, parts: &mut Parts, app: &App) -> String {
    let found = RawPathParams::from_request_parts(parts, app).await.ok();
    let value = found.as_ref().and_then(|parameters| parameters.iter().find(|(key, _)| *key == name));
    value.map(|(_, value)| value.to_owned()).unwrap_or_default()
}
