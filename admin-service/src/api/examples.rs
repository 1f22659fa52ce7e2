//! Examples for the description: of each error by its code, and of each other body from the examples of its fields.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use crate::error::Code;

/// Where a description has its schemas.
const SCHEMAS: &str = "#/components/schemas/";
/// The identifier in examples.
const ID: &str = "0198c0de-0000-7000-8000-000000000001";

/// The body of an error with this code.
pub(super) fn of_code(code: Code) -> Value {
    let mut error = json!({"status": "ERROR", "code": code, "message": message(code)});
    if let (Some(error), Value::Object(details)) = (error.as_object_mut(), details(code)) {
        error.extend(details);
    }
    json!({ "error": error })
}

/// What an error says.
fn message(code: Code) -> &'static str {
    match code {
        Code::MalformedJson => "The body is no JSON: EOF while parsing an object at line 1 column 1",
        Code::InvalidBody => "Unknown field `nmae`, expected one of `name`, `description`",
        Code::InvalidQuery => "The query parameter `limit` must be 1 to 200, and is 0",
        Code::InvalidCursor => "The cursor must be the next_cursor of an earlier page of the same list",
        Code::MultipleCredentials => "More than one credential was provided",
        Code::ApiKeyMissing => "API key is missing",
        Code::ApiKeyInvalid => "Provided API key is invalid",
        Code::EdgeSecretInvalid => "The edge secret is missing or wrong",
        Code::InsufficientScope => "API key does not permit this request",
        Code::AddressNotPermitted => "API key is not permitted from this address",
        Code::NetworksTooWide => {
            "A token that is bound to networks cannot give others: `allowed_cidrs` must lie within 10.0.0.0/8"
        }
        Code::CrossSite => {
            "A page of another site may not change anything here. Where this is the service's own page, name how users reach it as --public-url"
        }
        Code::SchemesTooWide => {
            "A token cannot give schemes that it lacks itself: `schemes` must be among bearer"
        }
        Code::NotFound => "There is nothing at this path; /api/v1/openapi.json lists what there is",
        Code::UserNotFound => "There is no user alice",
        Code::TokenNotFound => "There is no such token",
        Code::MethodNotAllowed => {
            "This path does not answer this method; the `Allow` header lists those it does"
        }
        Code::UserExists => "The user name alice is taken",
        Code::UserNotActive => "The user alice is deleted",
        Code::TokenNotActive => "The token is revoked, and stays so; make another",
        Code::TokenRotated => {
            "The token was rotated already, and its successor is in use: rotate 0198c0de-0000-7000-8000-000000000001"
        }
        Code::TokenLimitReached => {
            "The user has 10 live tokens, and the limit is 10; revoke one before making another"
        }
        Code::TokenExists => {
            "`tokens[0]`: Another user has this token, as 0198c0de-0000-7000-8000-000000000001"
        }
        Code::CallerWouldExpire => {
            "The token that this was asked for with would expire at once: it was made at 2026-01-01T00:00:00Z, and 30d after \
             that is past; ask with a newer one"
        }
        Code::SchedulerRunning => "The scheduler is running already, on another replica",
        Code::RequestTimeout => "The body did not arrive within 7 s",
        Code::BodyTooLarge => "The body is larger than 65536 bytes: it has 70000",
        Code::UnsupportedMediaType => {
            "The body must be JSON: send it with the header `Content-Type: application/json`"
        }
        Code::InvalidValue => "`max_lifetime` must be at least \"1s\", or null for no limit, and is \"0s\"",
        Code::ExpiryTooLong => {
            "A token may live for at most 90d: until 2026-04-01T00:00:00Z; 400d was asked for"
        }
        Code::OutlivesMaker => {
            "A token cannot give an expiry later than its own, which is 2026-01-31T00:00:00Z; 90d was asked for. Use a token \
             that expires later, or have an administrator set `outlive_maker`"
        }
        code => trouble(code),
    }
}

/// What is not the caller's fault says.
fn trouble(code: Code) -> &'static str {
    match code {
        Code::TooManyFailures => {
            "Too many authentications from this address have failed: 300 are allowed at once, then 5 a second; the next in 1 s"
        }
        Code::TooManyChanges => {
            "The user alice has changed too much: 120 are allowed at once, then 2 a second; the next in 1 s. Revocations are not counted"
        }
        Code::Overloaded => "The service works on 1024 requests already; try again",
        Code::Unavailable => "The service cannot reach its database now; try again",
        Code::NotBootstrapped => {
            "The database has never had an administrator; make the first one with `latchkey bootstrap`"
        }
        Code::InsufficientStorage => {
            "The disk of the service's database is full, so nothing was changed; tokens are still verified"
        }
        _ => "Something failed in the service; its log says more",
    }
}

/// What an error adds for programs.
fn details(code: Code) -> Value {
    match code {
        Code::InvalidBody => json!({"field": "nmae"}),
        Code::InvalidQuery => json!({"parameter": "limit"}),
        Code::InsufficientScope => json!({"required_scope": "latchkey:admin"}),
        Code::NetworksTooWide => json!({"networks": ["10.0.0.0/8"]}),
        Code::SchemesTooWide => json!({"schemes": ["bearer"]}),
        Code::CallerWouldExpire => json!({"created_at": "2026-01-01T00:00:00Z", "max_lifetime": "30d"}),
        Code::OutlivesMaker => json!({"latest_expires_at": "2026-01-31T00:00:00Z", "asked_for": "90d"}),
        Code::TokenNotActive => json!({"token_status": "revoked"}),
        Code::TokenRotated => json!({"successor": ID}),
        Code::TokenLimitReached => json!({"limit": 10, "limit_of": "service", "count": 10}),
        Code::TokenExists => json!({"token_id": ID, "entry": 0}),
        Code::RequestTimeout => json!({"limit": 7}),
        Code::BodyTooLarge => json!({"limit": 65536}),
        Code::InvalidValue => json!({"field": "max_lifetime"}),
        Code::ExpiryTooLong => json!({
            "max_lifetime": "90d", "limit_of": "service", "latest_expires_at": "2026-04-01T00:00:00Z", "asked_for": "400d",
        }),
        Code::TooManyFailures => json!({"limit": 300}),
        Code::TooManyChanges => json!({"limit": 120}),
        Code::Overloaded => json!({"limit": 1024}),
        _ => Value::Null,
    }
}

/// The schemas of a description, by name.
pub(super) struct Schemas(Map<String, Value>);

impl Schemas {
    pub fn of(description: &OpenApi) -> Self {
        let schemas =
            description.components.as_ref().map(|components| serde_json::to_value(&components.schemas));
        match schemas {
            Some(Ok(Value::Object(schemas))) => Self(schemas),
            _ => Self(Map::new()),
        }
    }

    /// The kinds of a body that may be of several: their names, with an example of each.
    pub fn kinds(&self, location: &str) -> Vec<(String, Value)> {
        let kinds = self.named(location)["oneOf"].as_array().into_iter().flatten();
        let name = |kind: &Value| Some(kind["$ref"].as_str()?.strip_prefix(SCHEMAS)?.to_owned());
        kinds.filter_map(|kind| Some((name(kind)?, self.example(kind)))).collect()
    }

    /// An example of a schema.
    pub fn example_of(&self, schema: &impl serde::Serialize) -> Value {
        serde_json::to_value(schema).map(|schema| self.example(&schema)).unwrap_or_default()
    }

    fn named(&self, location: &str) -> &Value {
        location.strip_prefix(SCHEMAS).and_then(|name| self.0.get(name)).unwrap_or(&Value::Null)
    }

    /// The example of its own, or what the examples of its parts make. What may be null, and has none, is null.
    fn example(&self, schema: &Value) -> Value {
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        if let Some(location) = schema["$ref"].as_str() {
            return self.example(self.named(location));
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.example(part));
            return parts
                .filter_map(|part| part.as_object().cloned())
                .flatten()
                .collect::<Map<_, _>>()
                .into();
        }
        if let Some(kinds) = schema["oneOf"].as_array() {
            let kind = kinds.iter().find(|kind| kind["type"] != "null");
            return kind.map(|kind| self.example(kind)).unwrap_or_default();
        }
        match schema["type"].as_str() {
            Some("object") => self.object(&schema["properties"]),
            Some("array") => json!([self.example(&schema["items"])]),
            Some("string") => json!(text(&schema["format"])),
            Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            Some("boolean") => json!(true),
            _ => Value::Null,
        }
    }

    fn object(&self, properties: &Value) -> Value {
        let properties = properties.as_object().into_iter().flatten();
        Value::Object(properties.map(|(name, schema)| (name.clone(), self.example(schema))).collect())
    }
}

/// A text of a format.
fn text(format: &Value) -> &'static str {
    match format.as_str() {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("uuid") => ID,
        _ => "text",
    }
}
