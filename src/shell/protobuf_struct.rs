//! `google.protobuf.Struct` to JSON: Envoy hands a configuration that is written as a `Struct` on in protobuf's encoding.
//!
//! Envoy has read and checked the message itself, so what is odd here is no `Struct` but a text.

use serde_json::{Map, Number, Value};

/// How deep values may nest.
const MAX_DEPTH: u32 = 32;

/// Reads an encoded `Struct` with at least one field. `None`: these bytes are something else. JSON always is, for it never
/// has the byte that marks a field's value.
pub(super) fn decode(message: &[u8]) -> Option<Value> {
    (!message.is_empty()).then(|| fields(message, MAX_DEPTH)).flatten()
}

/// One field of a message.
enum Field<'a> {
    Varint(u64),
    Fixed([u8; 8]),
    Bytes(&'a [u8]),
}

/// `message Struct { map<string, Value> fields = 1; }`
fn fields(mut message: &[u8], depth: u32) -> Option<Value> {
    let mut object = Map::new();
    while !message.is_empty() {
        let (1, Field::Bytes(entry)) = next(&mut message)? else { return None };
        let (key, value) = self::entry(entry, depth)?;
        object.insert(key, value);
    }
    Some(Value::Object(object))
}

/// An entry of the map: `string key = 1; Value value = 2;`
fn entry(mut message: &[u8], depth: u32) -> Option<(String, Value)> {
    let (mut key, mut value) = ("", None);
    while !message.is_empty() {
        match next(&mut message)? {
            (1, Field::Bytes(text)) => key = std::str::from_utf8(text).ok()?,
            (2, Field::Bytes(encoded)) => value = Some(self::value(encoded, depth)?),
            _ => return None,
        }
    }
    Some((key.to_owned(), value?))
}

/// `message Value`, which has one field of six.
fn value(mut message: &[u8], depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let value = match next(&mut message)? {
        (1, Field::Varint(_)) => Value::Null,
        (2, Field::Fixed(bytes)) => number(f64::from_le_bytes(bytes))?,
        (3, Field::Bytes(text)) => Value::String(std::str::from_utf8(text).ok()?.to_owned()),
        (4, Field::Varint(bit)) => Value::Bool(bit != 0),
        (5, Field::Bytes(object)) => fields(object, depth)?,
        (6, Field::Bytes(list)) => self::list(list, depth)?,
        _ => return None,
    };
    message.is_empty().then_some(value)
}

/// `message ListValue { repeated Value values = 1; }`
fn list(mut message: &[u8], depth: u32) -> Option<Value> {
    let mut items = Vec::new();
    while !message.is_empty() {
        let (1, Field::Bytes(item)) = next(&mut message)? else { return None };
        items.push(value(item, depth)?);
    }
    Some(Value::Array(items))
}

/// Every number of a `Struct` is a `double`; whole ones are whole in JSON, so that errors show them as they were written.
fn number(number: f64) -> Option<Value> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        let whole = number as i64;
        return Some(Value::from(whole));
    }
    Number::from_f64(number).map(Value::Number)
}

/// Takes one field off a message: its number, and what it holds.
fn next<'a>(message: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(message)?;
    let field = match tag & 7 {
        0 => Field::Varint(varint(message)?),
        1 => {
            let (bytes, rest) = message.split_first_chunk()?;
            *message = rest;
            Field::Fixed(*bytes)
        }
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Field::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, field))
}

/// Takes a base-128 number of at most ten bytes off a message.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A field that holds bytes, as protobuf writes it. No length here needs more than two digits of base 128.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let low = u8::try_from(content.len() % 128).unwrap();
        let high = u8::try_from(content.len() / 128).unwrap();
        let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
        [&[number << 3 | 2], length.as_slice(), content].concat()
    }

    /// What protobuf makes of a JSON value.
    fn encode(value: &Value) -> Vec<u8> {
        match value {
            Value::Null => vec![1 << 3, 0],
            Value::Bool(bit) => vec![4 << 3, u8::from(*bit)],
            Value::Number(number) => {
                [&[2 << 3 | 1], number.as_f64().unwrap().to_le_bytes().as_slice()].concat()
            }
            Value::String(text) => field(3, text.as_bytes()),
            Value::Array(items) => {
                field(6, &items.iter().flat_map(|item| field(1, &encode(item))).collect::<Vec<_>>())
            }
            Value::Object(_) => field(5, &encode_fields(value)),
        }
    }

    fn encode_fields(object: &Value) -> Vec<u8> {
        let entry = |(key, value): (&String, &Value)| {
            field(1, &[field(1, key.as_bytes()), field(2, &encode(value))].concat())
        };
        object.as_object().unwrap().iter().flat_map(entry).collect()
    }

    #[test]
    fn a_struct_as_envoy_encodes_it_is_read() {
        // Taken from Envoy 1.40.
        let message = b"\n\x53\n\x07service\x12H*F\n\x15\n\x07cluster\x12\n\x1a\x08latchkey\n\x14\n\nsecret_env\x12\x06\x1a\x04EDGE\
            \n\x17\n\ntimeout_ms\x12\t\x11\0\0\0\0\0\x40\x8f\x40";
        let expected = json!({"service": {"cluster": "latchkey", "secret_env": "EDGE", "timeout_ms": 1000}});
        assert_eq!(decode(message), Some(expected));
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let value = json!({
            "null": null, "true": true, "false": false, "whole": -7, "half": 0.5, "large": 1e300, "text": "ä",
            "list": [1, [], {}, "x"], "object": {"a": {"b": {}}}, "": "empty",
        });
        assert_eq!(decode(&encode_fields(&value)), Some(value));
    }

    #[test]
    fn what_is_cut_short_or_nested_without_end_is_no_struct() {
        let message = encode_fields(&json!({"a": [1, "b"]}));
        for length in 0..message.len() {
            assert_eq!(decode(&message[..length]), None, "{length}");
        }
        let nest = |depth: u32| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(decode(&encode_fields(&json!({"a": nest(31)}))).is_some());
        assert_eq!(decode(&encode_fields(&json!({"a": nest(32)}))), None);
    }

    proptest! {
        #[test]
        fn no_json_text_is_taken_for_a_struct(blanks in "[\n\t ]{0,4}", key in "\\PC{0,40}", text in "\\PC{0,90}") {
            let text = format!("{blanks}{}", json!({ key: text }));
            prop_assert_eq!(decode(text.as_bytes()), None);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(message in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&message);
        }
    }
}
