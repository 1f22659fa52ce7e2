//! How answers are shown: tables and fields for people, JSON for programs. Whatever a name holds does nothing to a terminal.

mod fields;
mod flags;
mod list;
mod print;
mod progress;
mod table;
mod value;

use std::borrow::Cow;

use crate::domain::misleads;

pub(super) use fields::fields;
pub(super) use flags::with_flags;
pub(super) use list::{Column, List};
pub(super) use print::{note, object, print};
pub(super) use progress::Progress;
pub(super) use value::{text, time};

/// A text with the characters spelled out that a terminal would obey, or that change how others are read.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |character: char| character.is_control() || misleads(character);
    if !text.contains(harmful) {
        return text.into();
    }
    let mut shown = String::new();
    for character in text.chars() {
        if harmful(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out_and_no_script_is() {
        assert_eq!(harmless("a\u{1b}[31mb\r\n\u{202e}c\u{9b}"), r"a\u{1b}[31mb\r\n\u{202e}c\u{9b}");
        for text in ["Ärger", "שלום", "日本語", "👩‍💻", r"a\b"] {
            assert!(matches!(harmless(text), Cow::Borrowed(same) if same == text));
        }
    }
}
