//! What an audit entry says was changed, in a few words: "max_lifetime 365d → 90d".

use serde_json::{Map, Value};

use crate::cli::show::text;

/// A summary of an entry's details: what differs between `before` and `after`, else the details field by field.
pub(super) fn changes(details: &Value) -> String {
    let object = |name: &str| details.get(name).and_then(Value::as_object);
    let mut parts = Vec::new();
    match (object("before"), object("after")) {
        (Some(before), Some(after)) => differences("", before, after, &mut parts),
        (None, Some(made)) => told("", made, &mut parts),
        (Some(_), None) | (None, None) => {}
    }
    if let Some(others) = details.as_object() {
        let others = others.iter().filter(|(name, _)| !matches!(name.as_str(), "before" | "after"));
        told("", &others.map(|(name, value)| (name.clone(), value.clone())).collect(), &mut parts);
    }
    if parts.is_empty() { text(&Value::Null) } else { parts.join(", ") }
}

/// The fields that differ, with what they were and are.
fn differences(
    prefix: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    parts: &mut Vec<String>,
) {
    let names = after.keys().chain(before.keys().filter(|name| !after.contains_key(*name)));
    for name in names {
        let (was, is) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
        match (was, is) {
            (was, is) if was == is => {}
            (Value::Object(was), Value::Object(is)) => {
                differences(&format!("{prefix}{name}."), was, is, parts);
            }
            (was, is) => {
                parts.push(format!("{prefix}{} {} → {}", text(&name.as_str().into()), text(was), text(is)));
            }
        }
    }
}

/// The fields that say something.
fn told(prefix: &str, fields: &Map<String, Value>, parts: &mut Vec<String>) {
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(inner) => told(&format!("{prefix}{name}."), inner, parts),
            value => parts.push(format!("{prefix}{} {}", text(&name.as_str().into()), text(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_with_what_it_was() {
        let limits = |lifetime: &str, after: &str| json!({"max_lifetime": lifetime, "max_tokens_per_user": 10, "delete_expired": {"after": after}});
        let details = json!({"before": limits("365d", "30d"), "after": limits("90d", "7d")});
        assert_eq!(changes(&details), "delete_expired.after 30d → 7d, max_lifetime 365d → 90d");
        let gone = json!({"before": {"scopes": ["read", "write"], "a": 1}, "after": {"scopes": ["read"], "a": null}});
        assert_eq!(changes(&gone), "a 1 → -, scopes read write → read");
    }

    #[test]
    fn what_was_made_is_told_without_what_is_empty() {
        let made = json!({"before": null, "after": {"name": "ci", "scopes": [], "expires_at": null, "e\u{1b}": "\u{202e}"}, "user": "bob"});
        assert_eq!(changes(&made), "e\\u{1b} \\u{202e}, name ci, user bob");
        assert_eq!(changes(&json!({})), "-");
        assert_eq!(changes(&json!({"deleted": 3})), "deleted 3");
    }
}
