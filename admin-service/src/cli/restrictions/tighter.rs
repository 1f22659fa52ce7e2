//! Whether limits allow less than others, or delete more: then somebody should mean it.

use serde_json::{Map, Value};

use crate::domain::period::Period;

/// Whether `after` allows less than `before` in any way.
pub(super) fn is_tighter(before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    let of = |limits: &Map<String, Value>| Limits {
        max_lifetime: period(limits.get("max_lifetime")),
        max_tokens_per_user: limits.get("max_tokens_per_user").and_then(Value::as_u64).unwrap_or(u64::MAX),
        outlive_maker: limits.get("outlive_maker").and_then(Value::as_bool).unwrap_or(false),
        kept: kept(limits.get("delete_expired").unwrap_or(&Value::Null)),
    };
    let (before, after) = (of(before), of(after));
    after.max_lifetime < before.max_lifetime
        || after.max_tokens_per_user < before.max_tokens_per_user
        || (before.outlive_maker && !after.outlive_maker)
        || after.kept < before.kept
}

/// What limits allow; the more, the larger.
struct Limits {
    max_lifetime: u64,
    max_tokens_per_user: u64,
    outlive_maker: bool,
    /// How long expired tokens are kept.
    kept: u64,
}

/// A period in milliseconds, where none is no limit.
fn period(value: Option<&Value>) -> u64 {
    let period = value.and_then(Value::as_str).and_then(|text| text.parse().ok());
    period.map_or(u64::MAX, Period::as_millis)
}

fn kept(delete: &Value) -> u64 {
    if delete["enabled"] == true { period(delete.get("after")) } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn less_of_anything_is_tighter_and_more_is_not() {
        let limits = |lifetime: Value, tokens: Value, enabled: bool, after: &str| {
            let delete = json!({"enabled": enabled, "after": after, "every": "1h"});
            let limits =
                json!({"max_lifetime": lifetime, "max_tokens_per_user": tokens, "delete_expired": delete});
            limits.as_object().cloned().unwrap()
        };
        let before = limits(json!("90d"), json!(10), true, "30d");
        for tighter in [
            limits(json!("89d"), json!(10), true, "30d"),
            limits(json!("90d"), json!(9), true, "30d"),
            limits(json!(null), json!(null), true, "29d"),
        ] {
            assert!(is_tighter(&before, &tighter), "{tighter:?}");
        }
        for looser in [
            before.clone(),
            limits(json!(null), json!(10), true, "30d"),
            limits(json!("2160h"), json!(null), true, "31d"),
            limits(json!("90d"), json!(11), false, "0s"),
        ] {
            assert!(!is_tighter(&before, &looser), "{looser:?}");
        }
        let mut may_outlive = before.clone();
        may_outlive.insert("outlive_maker".to_owned(), true.into());
        assert!(is_tighter(&may_outlive, &before) && !is_tighter(&before, &may_outlive));
        assert!(is_tighter(
            &limits(json!(null), json!(1), true, "0s"),
            &limits(json!("1d"), json!(1), true, "0s")
        ));
        assert!(is_tighter(
            &limits(json!(null), json!(1), false, "9d"),
            &limits(json!(null), json!(1), true, "9d")
        ));
    }
}
