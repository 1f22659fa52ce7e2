//! What the description says of every operation, written once: the errors that any may answer with, and an example of each
//! body.

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, HttpMethod, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema};

use super::examples::{Schemas, of_code};
use crate::domain::scope::TOKENS;
use crate::error::{Code, ErrorBody};

/// Which operations may answer with an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    /// Those that a token needs a scope for.
    Scoped,
    /// Lists.
    Pages,
    /// Those with a request body.
    Body,
    /// Those that change something.
    Changing,
    /// Those by which users make or alter their own tokens.
    Counted,
}

/// The errors that say nothing of one operation, in the order in which they are told of.
const GENERAL: [(Code, Of, &str); 21] = [
    (Code::MalformedJson, Of::Body, "the body is no JSON."),
    (Code::InvalidBody, Of::Body, "a field is unknown, missing or of the wrong type."),
    (Code::InvalidQuery, Of::All, "a query parameter is unknown or impossible."),
    (Code::InvalidCursor, Of::Pages, "the cursor is of no earlier page."),
    (Code::MultipleCredentials, Of::All, "more than one credential was sent."),
    (Code::ApiKeyMissing, Of::All, "no credential was sent."),
    (Code::ApiKeyInvalid, Of::All, "the credential is not valid; why is not told."),
    (Code::InsufficientScope, Of::Scoped, "the token lacks the scope."),
    (Code::AddressNotPermitted, Of::All, "the token may not be used from here."),
    (
        Code::CrossSite,
        Of::Changing,
        "a page of another site has sent this; `Origin` or `Sec-Fetch-Site` says so.",
    ),
    (Code::RequestTimeout, Of::Body, "the body did not arrive in time."),
    (Code::BodyTooLarge, Of::Body, "the body is larger than `limit` bytes."),
    (Code::UnsupportedMediaType, Of::Body, "the body is not declared as JSON."),
    (Code::InvalidValue, Of::Body, "a field has a value that cannot be; `field` names it."),
    (
        Code::TooManyFailures,
        Of::All,
        "too many authentications from this address have failed. A valid credential still passes.",
    ),
    (
        Code::TooManyChanges,
        Of::Counted,
        "the user has made or altered too many tokens; `limit` says how many are allowed within a minute. Revocations still pass.",
    ),
    (Code::InternalError, Of::All, "something failed in the service."),
    (Code::Unavailable, Of::All, "the service cannot do this now; try again."),
    (
        Code::NotBootstrapped,
        Of::All,
        "the database never had an administrator, so nothing is said of users and tokens; the operator has to run `latchkey bootstrap`.",
    ),
    (
        Code::Overloaded,
        Of::All,
        "the service works on as many requests as it can, or on as many of this caller's as one may have: `limit`; try again.",
    ),
    (Code::InsufficientStorage, Of::Changing, "the disk of the database is full, so nothing was changed."),
];

/// Completes every operation.
pub(super) fn complete(description: &mut OpenApi) {
    let schemas = Schemas::of(description);
    for item in description.paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            for (code, of, about) in GENERAL {
                if has(operation, &method, of) {
                    add(operation, code, about);
                }
            }
            give_examples(operation, &schemas);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn has(operation: &Operation, method: &HttpMethod, of: Of) -> bool {
    let is_cursor = |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.name == "cursor");
    match of {
        Of::All => true,
        Of::Scoped => {
            let any_token = SecurityRequirement::new("bearer", [""; 0]);
            operation.security.as_ref().is_some_and(|needed| !needed.contains(&any_token))
        }
        Of::Pages => operation.parameters.iter().flatten().any(is_cursor),
        Of::Body => operation.request_body.is_some(),
        Of::Changing => *method != HttpMethod::Get,
        Of::Counted => {
            let own_tokens = SecurityRequirement::new("bearer", [TOKENS]);
            let alters = ![HttpMethod::Get, HttpMethod::Delete].contains(method);
            alters && operation.security.as_ref().is_some_and(|needed| needed.contains(&own_tokens))
        }
    }
}

/// Adds an error to what the operation says of its status.
fn add(operation: &mut Operation, code: Code, about: &str) {
    let about = format!("`{}`: {about}", code.text());
    let key = code.status().as_u16().to_string();
    match operation.responses.responses.get_mut(&key) {
        Some(RefOr::T(own)) => own.description = format!("{} {about}", own.description),
        _ => {
            operation.responses.responses.insert(key, RefOr::T(error(&about)));
        }
    }
}

fn error(about: &str) -> Response {
    let schema = Ref::from_schema_name(ErrorBody::name());
    ResponseBuilder::new().description(about).content("application/json", Content::new(Some(schema))).build()
}

/// Gives every body of an operation its example: an error one for each of its codes, which are those that its text names.
fn give_examples(operation: &mut Operation, schemas: &Schemas) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        inline(body.content.values_mut()).for_each(|content| exemplify(content, schemas));
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let codes = codes(&response.description, status);
        for content in inline(response.content.values_mut()) {
            if status.starts_with('2') {
                exemplify(content, schemas);
            } else {
                let one = |code: &Code| (code.text(), example(of_code(*code)));
                content.examples = codes.iter().map(one).collect();
            }
        }
    }
}

/// The bodies that are described in place, as all are.
fn inline<'a>(bodies: impl Iterator<Item = &'a mut RefOr<Content>>) -> impl Iterator<Item = &'a mut Content> {
    bodies.filter_map(|content| match content {
        RefOr::T(content) => Some(content),
        RefOr::Ref(_) => None,
    })
}

/// Gives a body its example, or one for each of the kinds that it may be of.
fn exemplify(content: &mut Content, schemas: &Schemas) {
    let kinds = match &content.schema {
        Some(RefOr::Ref(named)) => schemas.kinds(&named.ref_location),
        _ => Vec::new(),
    };
    if content.example.is_some() {
        // It has one of its own.
    } else if kinds.is_empty() {
        content.example = content.schema.as_ref().map(|schema: &RefOr<Schema>| schemas.example_of(schema));
    } else {
        content.examples = kinds.into_iter().map(|(name, value)| (name, example(value))).collect();
    }
}

fn example(value: Value) -> RefOr<Example> {
    RefOr::T(ExampleBuilder::new().value(Some(value)).build())
}

/// The codes of one status that a text names, in backticks as all names.
fn codes(text: &str, status: &str) -> Vec<Code> {
    let names = text.split('`').skip(1).step_by(2);
    let codes = names.filter_map(|name| serde_json::from_value(Value::from(name)).ok());
    codes.filter(|code: &Code| code.status().as_str() == status).collect()
}
