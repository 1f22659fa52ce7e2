//! The trace that a request belongs to, as W3C Trace Context writes it in `traceparent`.

/// The header, as Envoy spells names.
pub const TRACEPARENT: &str = "traceparent";

/// A `traceparent` value (W3C Trace Context, §3.2): `00-<trace id>-<parent id>-<flags>`, all lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent<'a>(&'a str);

impl<'a> Traceparent<'a> {
    /// Reads a header's value. `None`: it is none of this form, and a request with it belongs to no trace.
    #[must_use]
    pub fn of(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let named = |part: &str| part.bytes().any(|byte| byte != b'0');
        let sound = version == "00"
            && hex(trace, 32)
            && hex(parent, 16)
            && hex(flags, 2)
            && named(trace)
            && named(parent);
        (sound && parts.next().is_none()).then_some(Self(text))
    }

    /// The value.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The trace's identifier, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> &'a str {
        self.0.split('-').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_names_its_trace() {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = Traceparent::of(value.as_bytes()).unwrap();
        assert_eq!((read.as_str(), read.trace_id()), (value, "4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn nothing_else_is_passed_on_for_one() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-lk_92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::of(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Traceparent::of(b"00-\xff"), None);
    }
}
