//! One object for people: a line per field, in the order and by the names of the API, those of inner objects with a dot.
//! Lists of objects follow as tables.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::Table;
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
    let mut shown = Shown::default();
    if !shown.collect("", json) {
        return format!("{}\n", harmless(json));
    }
    let width = shown.lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = shown.lines.iter().map(|(name, value)| format!("{name:width$}  {value}\n"));
    lines.chain(shown.tables).collect()
}

/// What is shown of an object.
#[derive(Default)]
struct Shown {
    lines: Vec<(String, String)>,
    tables: Vec<String>,
}

impl Shown {
    /// Whether `json` is an object, whose fields are collected then.
    fn collect(&mut self, prefix: &str, json: &str) -> bool {
        let Ok(Ordered(fields)) = serde_json::from_str(json) else { return false };
        for (name, value) in fields {
            let name = format!("{prefix}{}", label(&name));
            if self.collect(&format!("{name} "), value.get()) {
                continue;
            }
            match serde_json::from_str::<Vec<Ordered>>(value.get()) {
                Ok(items) if !items.is_empty() => self.tables.push(format!("\n{name}:\n{}", table(&items))),
                _ => self.lines.push((name, cell(&value))),
            }
        }
        true
    }
}

/// The API's name of a field in words: `emailAddress` and `expires_at` are "email address" and "expires at".
fn label(name: &str) -> String {
    let mut words = String::new();
    for character in harmless(name).chars() {
        match character {
            '_' => words.push(' '),
            capital if capital.is_ascii_uppercase() => words.extend([' ', capital.to_ascii_lowercase()]),
            other => words.push(other),
        }
    }
    words.trim_start().to_owned()
}

/// Objects as a table, with the fields of the first one as its columns.
fn table(items: &[Ordered]) -> String {
    let names =
        items.first().map(|Ordered(fields)| fields.iter().map(|(name, _)| label(name).to_uppercase()));
    let mut table = Table::new(names.into_iter().flatten().collect());
    table.lines(items.iter().map(|Ordered(fields)| fields.iter().map(|(_, value)| cell(value)).collect()))
}

fn cell(value: &RawValue) -> String {
    text(&serde_json::from_str(value.get()).unwrap_or(Value::Null))
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
        inner b  1
        inner a  x y
        e\u{1b}  \u{202e}
        ");
        assert_eq!(fields("[1]"), "[1]\n");
    }

    #[test]
    fn lists_of_objects_follow_as_tables() {
        let shown = fields(
            r#"{"hours": [{"hour": "10:00", "n": 1}, {"hour": "11:00", "n": 20}], "none": [], "n": 21}"#,
        );
        insta::assert_snapshot!(shown, @r"
        none  -
        n     21

        hours:
        HOUR   N
        10:00  1
        11:00  20
        ");
    }

    #[test]
    fn names_of_fields_are_words() {
        for (name, words) in [
            ("emailAddress", "email address"),
            ("expires_at", "expires at"),
            ("Odd", "odd"),
            ("name", "name"),
        ] {
            assert_eq!(label(name), words);
        }
    }
}
