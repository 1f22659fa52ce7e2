//! `POST /edge/v1/introspect`: token introspection (RFC 7662), for services that check a token themselves.
//!
//! Here a service chooses to send the token itself: it is hashed while the body is read, and nothing else of it is kept. One
//! that would rather not sends `token_hash` in its place.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequestParts, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use latchkey::credential::{Credential, decode_basic};
use latchkey::token::TokenHash;
use latchkey::wire::Scheme;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::verify::Edge;
use crate::app::App;
use crate::domain::token::Token;
use crate::domain::verdict::Outcome;
use crate::error::{Code, sentence};
use crate::look_up::{LookedUp, NoVerdict};
use crate::store::StoreError;
use crate::telemetry::INTROSPECTIONS;

/// How a service shows that it may ask. The secret is also taken as the password of `Basic`, with any user name: many
/// libraries know no other way.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"edge\"", "Basic realm=\"edge\", charset=\"UTF-8\""];

/// The proof that the caller presented an edge secret, or that none is configured.
pub struct Asker(());

impl FromRequestParts<App> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let secrets = app.settings.edge_secrets.as_ref();
        let password = secrets.and_then(|secrets| Some((secrets, password(&parts.headers)?)));
        if password.is_some_and(|(secrets, password)| secrets.accept(&password)) {
            return Ok(Self(()));
        }
        Edge::from_request_parts(parts, app).await.map(|_| Self(())).map_err(|_| Refused::Client)
    }
}

/// The password of the only `Authorization` line, where that is `Basic` (RFC 7617 §2).
fn password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, encoded) = value.as_bytes().split_at_checked("Basic ".len())?;
    let decoded = decode_basic(encoded.trim_ascii())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| decoded.get(colon + 1..).unwrap_or_default().to_vec())
}

/// What is asked: parameters that this does not know are left alone, as OAuth has it, `token_type_hint` among them.
#[derive(Deserialize)]
pub struct Question {
    #[serde(default, deserialize_with = "hashed")]
    token: Option<TokenHash>,
    token_hash: Option<TokenHash>,
    client_address: Option<IpAddr>,
}

/// The hash of a token, in whose place it stands from here on. A parameter without a value counts as left out (RFC 6749 §3.1).
fn hashed<'de, D: Deserializer<'de>>(token: D) -> Result<Option<TokenHash>, D::Error> {
    let token = String::deserialize(token)?;
    Ok((!token.is_empty()).then(|| TokenHash::of(token.as_bytes())))
}

impl Question {
    /// The hash that is asked about.
    fn hash(&self) -> Result<TokenHash, Refused> {
        match (self.token, self.token_hash) {
            (Some(hash), None) | (None, Some(hash)) => Ok(hash),
            _ => Err(Refused::Request("Give either `token` or `token_hash`".to_owned())),
        }
    }
}

/// What is answered (RFC 7662 §2.2).
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The token may be used.
    Active(Active),
    /// It may not, and why is not said.
    Inactive {
        /// Always false.
        active: bool,
    },
}

/// What is said of a token that may be used.
#[derive(Serialize)]
pub struct Active {
    active: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    username: String,
    /// The user's identifier, which never changes.
    sub: String,
    /// The second in which it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    iat: i64,
    token_type: &'static str,
    jti: String,
}

impl Active {
    fn of(token: &Token) -> Self {
        Self {
            active: true,
            scope: token.scopes.to_string(),
            username: token.user.to_string(),
            sub: token.user_id.to_string(),
            exp: token.expires_at.map(crate::domain::time::Timestamp::as_second),
            iat: token.created_at.as_second(),
            token_type: if token.schemes.contains(Scheme::Bearer) { "Bearer" } else { "Basic" },
            jti: token.id.to_string(),
        }
    }
}

/// Says whether a token may be used, and by whom.
///
/// # Errors
/// [`Refused`].
pub async fn introspect(
    _: Asker,
    State(app): State<App>,
    question: Result<Form<Question>, FormRejection>,
) -> Result<Json<Answer>, Refused> {
    let answered = answer(&app, question).await;
    let outcome = match &answered {
        Ok(Answer::Active(_)) => "active",
        Ok(Answer::Inactive { .. }) => "inactive",
        Err(Refused::Unavailable | Refused::NotBootstrapped) => "unavailable",
        Err(_) => "refused",
    };
    metrics::counter!(INTROSPECTIONS, "outcome" => outcome).increment(1);
    answered.map(Json)
}

async fn answer(app: &App, question: Result<Form<Question>, FormRejection>) -> Result<Answer, Refused> {
    let Form(question) = question.map_err(|refused| Refused::form(&refused))?;
    // How the token was presented, the service that asks has judged.
    let mut credential = Credential { scheme: Scheme::Bearer, user: None, hash: question.hash()? };
    let found = LookedUp::of(&credential, app).await?;
    let Outcome::Valid(token) = &found.outcome else {
        if let Some(token) = found.token_id() {
            app.used.count(token, false);
        }
        return Ok(Answer::Inactive { active: false });
    };
    if !token.schemes.contains(Scheme::Bearer) {
        credential.scheme = Scheme::Basic;
    }
    let judged = found.judge(&credential, &Arc::from([]), question.client_address);
    app.used.count(&token.id.to_string(), judged.is_ok());
    Ok(match judged {
        Ok(_) => Answer::Active(Active::of(token)),
        Err(_) => Answer::Inactive { active: false },
    })
}

/// A question that is not answered, in the words of RFC 6749 §5.2.
#[derive(Debug)]
pub enum Refused {
    /// Whoever asks may not.
    Client,
    /// What is asked cannot be.
    Request(String),
    /// What is asked is too large to be.
    TooLarge(String),
    /// The database does not answer.
    Unavailable,
    /// The database never had an administrator.
    NotBootstrapped,
}

impl From<NoVerdict> for Refused {
    fn from(none: NoVerdict) -> Self {
        match none {
            NoVerdict::NotBootstrapped => Self::NotBootstrapped,
            NoVerdict::Unavailable => Self::Unavailable,
        }
    }
}

impl Refused {
    /// What is wrong with a form. Its values are not repeated: one of them is a token.
    fn form(refused: &FormRejection) -> Self {
        match refused {
            FormRejection::InvalidFormContentType(_) => {
                Self::Request("Send the parameters as application/x-www-form-urlencoded".to_owned())
            }
            _ if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Self::TooLarge(format!("The body is larger than {} bytes", crate::api::extract::MAX_BODY))
            }
            _ => Self::Request(
                "Give each parameter once; `token_hash` is 64 hexadecimal digits, `client_address` an IP address"
                    .to_owned(),
            ),
        }
    }

    fn parts(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Client => {
                let description =
                    "The edge secret is missing or wrong: send `Authorization: Bearer <edge secret>`";
                (StatusCode::UNAUTHORIZED, "invalid_client", description.to_owned())
            }
            Self::Request(description) => (StatusCode::BAD_REQUEST, "invalid_request", description),
            Self::TooLarge(description) => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", description),
            Self::Unavailable => {
                let description = "The service cannot look tokens up now; try again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            }
            Self::NotBootstrapped => {
                let description = format!("not_bootstrapped: {}", sentence(&StoreError::NotBootstrapped));
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let is_not_bootstrapped = matches!(self, Self::NotBootstrapped);
        let (status, error, description) = self.parts();
        let body = Json(json!({"error": error, "error_description": description}));
        let mut response = (status, body).into_response();
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => Some(Code::BodyTooLarge),
            StatusCode::SERVICE_UNAVAILABLE if is_not_bootstrapped => Some(Code::NotBootstrapped),
            StatusCode::SERVICE_UNAVAILABLE => Some(Code::Unavailable),
            _ => None,
        };
        code.map(|code| response.extensions_mut().insert(code));
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                for challenge in CHALLENGES {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
