//! Input that cannot be, in every place that the description has for some: it is refused with what is allowed, is not
//! repeated, and changes nothing.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::described::{Operation, description, operations};
use crate::every_operation::case;
use crate::support::{Answer, TestService};

/// Texts that are no value of most fields, and what is odd about them.
fn odd_texts() -> [(&'static str, String); 5] {
    [
        ("a control character", "odd\u{7}text".to_owned()),
        ("a zero byte", "odd\0text".to_owned()),
        ("markup", "<img src=odd>".to_owned()),
        ("a mark of direction", "odd\u{202e}text".to_owned()),
        ("10,000 characters", "odd-x".repeat(2_000)),
    ]
}

/// Where markup is a text like others: a note, and a scope of RFC 6749.
const MARKUP_IS_ALLOWED: [&str; 2] = ["description", "scopes"];
/// Query parameters whose texts are looked for as they are, if they are short and plain.
const LOOKED_FOR: [&str; 2] = ["q", "subject"];

/// A place for a value in a body, and the value that it gets.
struct Bad {
    pointer: String,
    value: Value,
    status: StatusCode,
}

impl Bad {
    fn wrong_type(pointer: &str, value: Value) -> Self {
        Self { pointer: pointer.to_owned(), value, status: StatusCode::BAD_REQUEST }
    }

    fn impossible(pointer: &str, value: Value) -> Self {
        Self { pointer: pointer.to_owned(), value, status: StatusCode::UNPROCESSABLE_ENTITY }
    }
}

/// The schema behind a reference, or the only one beside null.
fn resolved(schema: &'static Value) -> &'static Value {
    if let Some(location) = schema["$ref"].as_str() {
        return resolved(description().pointer(location.trim_start_matches('#')).unwrap());
    }
    match schema["oneOf"].as_array() {
        Some(kinds) => resolved(kinds.iter().find(|kind| kind["type"] != "null").unwrap()),
        None => schema,
    }
}

/// Whether a schema describes values of this type.
fn is_of(schema: &Value, kind: &str) -> bool {
    schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
}

/// The bad values for a schema, and for what is inside it.
fn bad_values(pointer: &str, schema: &'static Value) -> Vec<Bad> {
    let schema = resolved(schema);
    let field = pointer.rsplit('/').next().unwrap_or_default();
    let types = [("string", json!("odd")), ("integer", json!(7)), ("boolean", json!(true))];
    let types = types.into_iter().chain([("array", json!([])), ("object", json!({"odd": 1}))]);
    let mut bad: Vec<Bad> = types
        .filter(|(kind, _)| !is_of(schema, kind) && !pointer.is_empty())
        .map(|(_, value)| Bad::wrong_type(pointer, value))
        .collect();
    if is_of(schema, "string") {
        let odd = odd_texts().into_iter();
        let odd = odd.filter(|(kind, _)| *kind != "markup" || !MARKUP_IS_ALLOWED.contains(&field));
        bad.extend(odd.map(|(_, text)| Bad::impossible(pointer, json!(text))));
    } else if is_of(schema, "integer") {
        let beyond = schema["maximum"].as_i64().unwrap() + 1;
        let below = schema["minimum"].as_i64().unwrap() - 1;
        bad.extend([beyond, below].map(|number| Bad::impossible(pointer, json!(number))));
        bad.push(Bad::wrong_type(pointer, json!(1.5)));
    } else if is_of(schema, "array") {
        bad.push(Bad::wrong_type(pointer, json!([7])));
        if is_of(resolved(&schema["items"]), "object") {
            bad.push(Bad::impossible(pointer, json!([])));
            bad.extend(bad_values(&format!("{pointer}/0"), &schema["items"]));
            return bad;
        }
        let odd = odd_texts().into_iter();
        let odd = odd.filter(|(kind, _)| *kind != "markup" || !MARKUP_IS_ALLOWED.contains(&field));
        bad.extend(odd.map(|(_, text)| Bad::impossible(pointer, json!([text]))));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        bad.extend(bad_values(&format!("{pointer}/{name}"), schema));
    }
    bad
}

/// Checks that a refusal says what is allowed, and does not repeat what was sent.
fn assert_says_what_is_allowed(answer: &Answer, what: &str) {
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap();
    let allowed = ["must ", "expected ", "cannot ", ": add `"].iter().any(|word| message.contains(word));
    assert!(allowed, "{what}: the message does not say what is allowed: {message}");
    assert!(message.len() < 500 && !answer.text.contains("odd"), "{what}: {}", answer.text);
}

#[tokio::test]
async fn every_field_of_every_body_refuses_what_cannot_be() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &["latchkey:tokens"]).await.id;
    let mut seen = 0;
    for operation in operations().into_iter().filter(|operation| operation.has_body) {
        let case = case(&operation, &token);
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        for bad in bad_values("", schema) {
            let mut body = case.body.clone().unwrap();
            put(&mut body, &bad.pointer, bad.value.clone());
            let answer =
                service.refused(&service.admin(), operation.method.clone(), &case.path, Some(body)).await;
            let value: String = bad.value.to_string().chars().take(40).collect();
            let what = format!("{} {} {value}", operation.name(), bad.pointer);
            assert_eq!(answer.status, bad.status, "{what}: {}", answer.show());
            let field = bad.pointer.trim_start_matches('/').replace("/0", "[0]").replace('/', ".");
            let named = answer.json()["error"]["field"].as_str().unwrap_or_default().to_owned();
            assert!(
                named == field
                    || field.starts_with(&format!("{named}."))
                    || named.starts_with(&format!("{field}[")),
                "{what}: the field is {named}"
            );
            assert_says_what_is_allowed(&answer, &what);
            seen += 1;
        }
    }
    assert!(seen > 150, "only {seen} values");
}

/// Puts a value in its place; what stands in the way of it goes.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    if name == "expires_at" {
        body.as_object_mut().unwrap().remove("expires_in");
    }
}

#[tokio::test]
async fn every_query_parameter_refuses_what_cannot_be() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &["latchkey:tokens"]).await.id;
    let mut seen = 0;
    for operation in operations() {
        for parameter in parameters(&operation, "query") {
            let case = case(&operation, &token);
            let others = case.path.split_once('?').map_or(case.path.as_str(), |(path, _)| path);
            let kept = case.path.split_once('?').map(|(_, query)| query);
            let kept = kept.filter(|query| !query.starts_with(parameter)).map(|query| format!("&{query}"));
            let odd = odd_texts().into_iter();
            for (kind, text) in odd.filter(|(kind, _)| *kind != "markup" || !LOOKED_FOR.contains(&parameter))
            {
                let query = form(parameter, &text) + &kept.clone().unwrap_or_default();
                let path = format!("{others}?{query}");
                let body = case.body.clone();
                let answer = service.refused(&service.admin(), operation.method.clone(), &path, body).await;
                let what = format!("{} {parameter} with {kind}", operation.name());
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}: {}", answer.show());
                let code = if parameter == "cursor" { "invalid_cursor" } else { "invalid_query" };
                assert_eq!(answer.code(), code, "{what}");
                assert_says_what_is_allowed(&answer, &what);
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} values");
}

/// The names of an operation's parameters in the query, or in the path.
fn parameters<'a>(operation: &'a Operation, place: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    let all = operation.described["parameters"].as_array().into_iter().flatten();
    all.filter(move |one| one["in"] == place).map(|one| one["name"].as_str().unwrap())
}

/// A parameter with its value, encoded for a query.
fn form(name: &str, value: &str) -> String {
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("{name}={encoded}")
}

#[tokio::test]
async fn every_name_and_identifier_in_a_path_that_cannot_be_or_is_of_another_kind_is_not_found() {
    let service = TestService::start().await;
    let token = service.user_with("alice", &["latchkey:tokens"]).await.id;
    let key = service.admin().get("/users/alice").await.json()["key"].as_str().unwrap().to_owned();
    let mut seen = 0;
    for operation in operations() {
        for parameter in parameters(&operation, "path") {
            let (right, code, others) = match parameter {
                "name" => ("alice", "user_not_found", [token.as_str(), key.as_str(), "alicia"]),
                _ => (token.as_str(), "token_not_found", ["alice", key.as_str(), "ODD"]),
            };
            let case = case(&operation, &token);
            let odd = odd_texts().map(|(_, text)| form("", &text).trim_start_matches('=').to_owned());
            for wrong in odd.iter().map(String::as_str).chain(others) {
                let path = case.path.replace(right, wrong);
                let body = case.body.clone();
                let answer = service.refused(&service.admin(), operation.method.clone(), &path, body).await;
                let what: String = format!("{} {wrong}", operation.name()).chars().take(80).collect();
                assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, code), "{what}");
                assert!(!answer.text.contains("odd") && answer.text.len() < 500, "{what}: {}", answer.text);
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "only {seen} paths");
}
