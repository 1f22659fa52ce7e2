//! Reading a request's body and query strictly: what is not understood is refused, with the name of what was wrong.

use std::str::FromStr;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::domain::invisible::without_mark_bytes;
use crate::domain::time::Timestamp;
use crate::error::{ApiError, Code, sentence};

/// The largest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// A JSON body with no field too many, none too few, and each of its type. `MOST` is the limit of bodies of its route, in bytes.
pub struct Body<T, const MOST: usize = MAX_BODY>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const MOST: usize> FromRequest<S> for Body<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_json(request.headers())?;
        let length = declared_length(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|refused| match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(MOST, length),
            _ => ApiError::new(Code::MalformedJson, "The body did not arrive whole"),
        })?;
        parse(&bytes).map(Self)
    }
}

/// Refuses a body that is not declared as JSON, or that is compressed: a few bytes might become a great many.
fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        let message =
            "Compressed bodies are not taken: send it as it is, without the header `Content-Encoding`";
        return Err(ApiError::new(Code::UnsupportedMediaType, message));
    }
    if is_json(headers) {
        return Ok(());
    }
    let message = "The body must be JSON: send it with the header `Content-Type: application/json`";
    Err(ApiError::new(Code::UnsupportedMediaType, message))
}

/// The proof that the body is declared as JSON, for operations that read it themselves.
pub struct DeclaredJson(());

impl<S: Send + Sync> FromRequestParts<S> for DeclaredJson {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        check_json(&parts.headers).map(|()| Self(()))
    }
}

/// The same for an operation that needs no body: without one, it is as if nothing were given.
pub struct OptionalBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Body::<T>::from_request(request, state).await.map(|Body(value)| Self(value))
    }
}

/// The refusal of a body over so many bytes, with its length if that is known before it is read.
pub fn too_large(limit: usize, length: Option<u64>) -> ApiError {
    let has = length.map(|length| format!(": it has {length}")).unwrap_or_default();
    let message = format!("The body is larger than {limit} bytes{has}");
    ApiError::new(Code::BodyTooLarge, message).with("limit", limit)
}

/// How many bytes a request says that its body has.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the content type is `application/json` or ends in `+json` (RFC 6838 §4.2.8), whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads the one JSON value in `bytes`.
///
/// # Errors
/// [`Code::MalformedJson`] when it is no JSON, [`Code::InvalidBody`] with the `field` when it is no `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // RFC 8259 §8.1: it may be ignored.
    let bytes = without_mark_bytes(bytes);
    // An array would do for a struct otherwise, its items taken as the fields in order.
    if bytes.trim_ascii_start().first().is_some_and(|first| b"[\"-0123456789tfn".contains(first)) {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| refusal(".", &error))?;
        return Err(ApiError::new(Code::InvalidBody, "The body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refusal(&path, error.inner())
    })?;
    json.end().map_err(|error| refusal(".", &error))?;
    Ok(value)
}

fn refusal(path: &str, error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return ApiError::new(Code::MalformedJson, format!("The body is no JSON: {error}"));
    }
    // The reader's own words for what it wanted, in JSON's.
    let message = error
        .to_string()
        .replace("expected i64", "expected a whole number")
        .replace("expected u64", "expected a whole number that is not negative")
        .replace("invalid type: sequence", "invalid type: array")
        .replace("expected a sequence", "expected an array")
        .replace("expected a map", "expected an object");
    let message = without_name(without_text(&message));
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _place)| message);
    let about_a_name =
        ["unknown field", "missing field", "duplicate field"].iter().any(|kind| message.starts_with(kind));
    match path {
        _ if path == "." || !is_shown(path) => ApiError::new(Code::InvalidBody, sentence(&message)),
        _ if about_a_name => ApiError::new(Code::InvalidBody, sentence(&message)).with("field", path),
        _ => ApiError::new(Code::InvalidBody, format!("Field `{path}`: {message}")).with("field", path),
    }
}

/// Takes out of the reader's words the text that the caller has sent: it may be a token in the wrong place.
fn without_text(message: &str) -> String {
    let parts = message
        .split_once("string \"")
        .and_then(|(before, rest)| Some((before, rest.rsplit_once("\", expected")?.1)));
    parts.map_or_else(|| message.to_owned(), |(before, after)| format!("{before}string, expected{after}"))
}

/// The longest name that is repeated to the caller, in bytes. Tokens are longer.
const MAX_SHOWN: usize = 32;

/// Whether a name that the caller made up, or the path to a field, is repeated to it: not one that may be a token in the
/// wrong place.
fn is_shown(name: &str) -> bool {
    name.len() <= MAX_SHOWN && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[]".contains(&b))
}

/// Takes the name out of "unknown field `name`, expected …", unless it is one that is shown.
fn without_name(message: String) -> String {
    let Some((_, rest)) = message.split_once("unknown field `") else { return message };
    // What follows the caller's name is ours, so the last such mark is its end.
    let end = ["`, expected ", "`, there are "].iter().filter_map(|mark| rest.rfind(mark)).max();
    match end.and_then(|end| rest.split_at_checked(end)) {
        Some((name, after)) if !is_shown(name) => format!("unknown field{}", after.trim_start_matches('`')),
        _ => message,
    }
}

/// Query parameters, with none too many.
pub struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::<T>::try_from_uri(&parts.uri).map_err(|refused| {
            // "…: <parameter>: <unknown or duplicate> field `<parameter>`, expected `<one>` or `<another>`"
            let text = without_name(refused.body_text()).replace(" field", " query parameter");
            let reason = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason);
            ApiError::new(Code::InvalidQuery, sentence(&reason))
        })?;
        Ok(Self(value))
    }
}

/// The refusal of a query parameter.
pub fn bad_parameter(name: &str, problem: &impl std::fmt::Display) -> ApiError {
    let message = format!("The query parameter `{name}` {problem}");
    ApiError::new(Code::InvalidQuery, message).with("parameter", name)
}

/// A query parameter that is true or false; without it, false.
///
/// # Errors
/// [`Code::InvalidQuery`] with the `parameter`.
pub fn switch(name: &str, value: Option<&str>) -> Result<bool, ApiError> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad_parameter(name, &"must be true or false")),
    }
}

/// A query parameter that is its type's own, if it is given.
///
/// # Errors
/// [`Code::InvalidQuery`] with the `parameter`.
pub fn parameter<T: FromStr<Err: std::fmt::Display>>(
    name: &str,
    value: Option<&str>,
) -> Result<Option<T>, ApiError> {
    value.map(str::parse).transpose().map_err(|problem| bad_parameter(name, &problem))
}

/// A query parameter that is a time, if it is given.
///
/// # Errors
/// [`Code::InvalidQuery`] with the `parameter`.
pub fn time_parameter(name: &str, value: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    parameter(name, value)
}

/// For operations that take no query parameters: one that is given is a mistake of the caller's.
pub struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let given = Query::<std::collections::BTreeMap<String, IgnoredAny>>::try_from_uri(&parts.uri);
        match given.map(|Query(given)| given.into_keys().next()) {
            Ok(None) => Ok(Self),
            Ok(Some(name)) if is_shown(&name) => {
                let message = format!("This operation takes no query parameters, and `{name}` was given");
                Err(ApiError::new(Code::InvalidQuery, message).with("parameter", name))
            }
            Ok(Some(_)) => Err(ApiError::new(Code::InvalidQuery, "This operation takes no query parameters")),
            Err(_) => Err(ApiError::new(Code::InvalidQuery, "The query cannot be read")),
        }
    }
}

/// For a field that must be there, though it may be `null`.
///
/// # Errors
/// What the field's own type refuses.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(value)
}

/// For a field that is an object itself.
///
/// # Errors
/// What is no object, and what the field's own type refuses.
pub fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(value: D) -> Result<T, D::Error> {
    let object = serde_json::Map::deserialize(value)?;
    T::deserialize(serde_json::Value::Object(object)).map_err(serde::de::Error::custom)
}

/// For a field that may be missing, and not `null`.
///
/// # Errors
/// What the field's own type refuses.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// For a field that may be missing, `null`, or a value, each meaning something else (RFC 7396).
///
/// # Errors
/// What the field's own type refuses.
pub fn patched<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}
