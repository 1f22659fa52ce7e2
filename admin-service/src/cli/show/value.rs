//! Values of the API's JSON as texts of one line.

use serde_json::Value;

use super::harmless;
use crate::domain::time::Timestamp;

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// A value as a text: the items of a list one after the other.
pub(in crate::cli) fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING.to_owned(),
        Value::String(text) => harmless(text).into_owned(),
        Value::Array(items) if items.is_empty() => NOTHING.to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        other => harmless(&other.to_string()).into_owned(),
    }
}

/// A time to the minute, in UTC.
pub(in crate::cli) fn time(value: &Value) -> String {
    let time = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    time.map_or_else(|| text(value), |time| time.civil().strftime("%Y-%m-%d %H:%MZ").to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_one_line_each() {
        for (value, shown) in [
            (json!(null), "-"),
            (json!([]), "-"),
            (json!(""), "-"),
            (json!(["a", "b\n"]), "a b\\n"),
            (json!(7), "7"),
            (json!({"a": "\u{202e}"}), "{\"a\":\"\\u{202e}\"}"),
        ] {
            assert_eq!(text(&value), shown);
        }
    }

    #[test]
    fn times_are_shown_to_the_minute_and_what_is_none_as_it_is() {
        assert_eq!(time(&json!("2026-01-01T10:30:59.5Z")), "2026-01-01 10:30Z");
        assert_eq!(time(&json!(null)), "-");
        assert_eq!(time(&json!("\u{1b}[2J")), "\\u{1b}[2J");
    }
}
