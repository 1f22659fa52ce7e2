//! The description, and what it says of each answer: every answer that a test gets is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Answer;

/// The description.
pub fn description() -> &'static Value {
    static DESCRIPTION: OnceLock<Value> = OnceLock::new();
    DESCRIPTION
        .get_or_init(|| serde_json::from_str(&latchkey_admin::api::description().to_json().unwrap()).unwrap())
}

/// One operation, as the description tells it.
pub struct Operation {
    pub method: Method,
    pub path: String,
    /// The scope that it needs; `None`: any token will do.
    pub scope: Option<String>,
    pub has_body: bool,
    /// All that is described of it.
    pub described: &'static Value,
}

/// The operations that the description lists.
pub fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in description()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                scope: needed_scope(&operation["security"], path),
                has_body: operation.get("requestBody").is_some(),
                described: operation,
            });
        }
    }
    operations
}

/// The scope in the security requirement, which must be the same for both schemes.
fn needed_scope(security: &Value, path: &str) -> Option<String> {
    let scopes: BTreeSet<Vec<String>> = ["bearer", "basic"]
        .iter()
        .enumerate()
        .map(|(index, scheme)| serde_json::from_value(security[index][scheme].clone()).expect(path))
        .collect();
    assert_eq!(scopes.len(), 1, "{path}: the schemes need different scopes");
    let scopes = scopes.into_iter().next().unwrap();
    assert!(scopes.len() <= 1, "{path}: more than one scope");
    scopes.into_iter().next()
}

impl Operation {
    /// Its method and path, as the description writes them.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether a request with this path, below `/api/v1`, is one for it.
    fn is_asked_by(&self, method: &Method, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let (template, path): (Vec<_>, Vec<_>) = (self.path.split('/').collect(), path.split('/').collect());
        let fits =
            |(part, given): (&&str, &&str)| part == given || (part.starts_with('{') && !given.is_empty());
        *method == self.method && template.len() == path.len() && template.iter().zip(&path).all(fits)
    }

    /// The codes of errors that it may answer with, by status.
    pub fn codes(&self) -> impl Iterator<Item = (&str, &str)> {
        let errors = self.described["responses"].as_object().unwrap().iter();
        errors.flat_map(|(status, response)| {
            let examples = response["content"]["application/json"]["examples"].as_object();
            let codes = examples.filter(|_| !status.starts_with('2')).into_iter().flatten();
            codes.map(|(code, _)| (status.as_str(), code.as_str()))
        })
    }
}

/// Checks that a schema of the description describes a value.
#[track_caller]
pub fn assert_valid(schema: &Value, value: &Value, what: &str) {
    static VALIDATORS: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let validator = Arc::clone(VALIDATORS.lock().unwrap().entry(schema.to_string()).or_insert_with(|| {
        let mut schema = schema.clone();
        schema["components"] = description()["components"].clone();
        Arc::new(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
    }));
    let problems: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{what}: {value} is not as described: {problems:?}");
}

/// Checks that an answer is one that the description tells of.
#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operations().into_iter().find(|one| one.is_asked_by(method, path)) else { return };
    let (what, status) = (format!("{} answers {}", operation.name(), answer.status), answer.status.as_str());
    let response = &operation.described["responses"][status];
    assert!(response.is_object(), "{what}, which is not described");
    if answer.status.is_success() {
        let json = &response["content"]["application/json"];
        match response.get("content") {
            Some(_) if json.is_object() => assert_valid(&json["schema"], &answer.json(), &what),
            Some(_) => {}
            None => assert_eq!(answer.text, "", "{what} with a body that is not described"),
        }
    } else {
        let code = answer.code();
        let described = operation.codes().any(|known| known == (status, code.as_str()));
        assert!(described, "{what} with {code}, which is not described");
        assert_valid(&json!({"$ref": "#/components/schemas/Error"}), &answer.json(), &what);
    }
}

#[test]
fn every_body_has_an_example_that_fits_its_schema() {
    let mut seen = 0;
    for operation in operations() {
        let described = operation.described;
        let answers = described["responses"].as_object().unwrap();
        let bodies = answers.iter().map(|(status, answer)| (status.as_str(), &answer["content"]));
        for (what, content) in bodies.chain([("request", &described["requestBody"]["content"])]) {
            for body in content.as_object().into_iter().flat_map(|content| content.values()) {
                let what = format!("{} {what}", operation.name());
                let one = body.get("example");
                let many = body["examples"].as_object().into_iter().flatten();
                let examples: Vec<&Value> = many.map(|(_, example)| &example["value"]).chain(one).collect();
                assert!(!examples.is_empty(), "{what} has no example");
                for example in examples {
                    assert_valid(&body["schema"], example, &what);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 300, "only {seen} examples");
}

#[test]
fn every_answer_has_a_body_that_is_described_or_none() {
    for operation in operations() {
        let (what, answers) = (operation.name(), operation.described["responses"].as_object().unwrap());
        assert!(answers.keys().any(|status| status.starts_with('2')), "{what} never succeeds");
        for (status, answer) in answers {
            let has_body = answer.get("content").is_some();
            assert!(has_body || status == "204", "{what}: {status} has no body");
            let named = operation.codes().any(|(of, _)| of == status);
            assert!(status.starts_with('2') || named, "{what}: {status} names no code");
        }
    }
}
