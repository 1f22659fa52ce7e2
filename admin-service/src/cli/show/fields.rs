//! One object for people: a line per field, in the order and by the names of the API, those of inner objects with a dot.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{harmless, text};

/// The fields of an object in their order.
struct Ordered(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Ordered(fields))
    }
}

/// The lines of a JSON text that is an object; another is shown as it is.
pub(in crate::cli) fn fields(json: &str) -> String {
    let mut lines = Vec::new();
    if !collect("", json, &mut lines) {
        return format!("{}\n", harmless(json));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Whether `json` is an object, whose fields are collected then.
fn collect(prefix: &str, json: &str, lines: &mut Vec<(String, String)>) -> bool {
    let Ok(Ordered(fields)) = serde_json::from_str(json) else { return false };
    for (name, value) in fields {
        let name = format!("{prefix}{}", harmless(&name));
        if !collect(&format!("{name}."), value.get(), lines) {
            let value = serde_json::from_str(value.get()).unwrap_or(Value::Null);
            lines.push((name, text(&value)));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_of_the_api() {
        let shown =
            fields(r#"{"name": "ci", "at": null, "inner": {"b": 1, "a": ["x", "y"]}, "e\u001b": "\u202e"}"#);
        insta::assert_snapshot!(shown, @r"
        name     ci
        at       -
        inner.b  1
        inner.a  x y
        e\u{1b}  \u{202e}
        ");
        assert_eq!(fields("[1]"), "[1]\n");
    }
}
