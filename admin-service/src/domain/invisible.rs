//! Characters that nobody sees: they come along with what people paste and save, and make two different texts look the same.

use std::fmt;

/// What editors of some systems put at the beginning of a file: U+FEFF.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text without the byte order mark that some editors put before it.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// The same of bytes.
#[must_use]
pub fn without_mark_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Characters that are not seen, by the names of the Unicode standard.
const NAMES: &[(char, char, &str)] = &[
    ('\u{a0}', '\u{a0}', "NO-BREAK SPACE"),
    ('\u{ad}', '\u{ad}', "SOFT HYPHEN"),
    ('\u{34f}', '\u{34f}', "COMBINING GRAPHEME JOINER"),
    ('\u{61c}', '\u{61c}', "ARABIC LETTER MARK"),
    ('\u{115f}', '\u{115f}', "HANGUL CHOSEONG FILLER"),
    ('\u{1160}', '\u{1160}', "HANGUL JUNGSEONG FILLER"),
    ('\u{17b4}', '\u{17b5}', "KHMER INHERENT VOWEL"),
    ('\u{180b}', '\u{180d}', "MONGOLIAN FREE VARIATION SELECTOR"),
    ('\u{180e}', '\u{180e}', "MONGOLIAN VOWEL SEPARATOR"),
    ('\u{180f}', '\u{180f}', "MONGOLIAN FREE VARIATION SELECTOR FOUR"),
    ('\u{2000}', '\u{2006}', "a space of another width"),
    ('\u{2007}', '\u{2007}', "FIGURE SPACE"),
    ('\u{2008}', '\u{200a}', "a space of another width"),
    ('\u{200b}', '\u{200b}', "ZERO WIDTH SPACE"),
    ('\u{200c}', '\u{200c}', "ZERO WIDTH NON-JOINER"),
    ('\u{200d}', '\u{200d}', "ZERO WIDTH JOINER"),
    ('\u{200e}', '\u{200e}', "LEFT-TO-RIGHT MARK"),
    ('\u{200f}', '\u{200f}', "RIGHT-TO-LEFT MARK"),
    ('\u{2028}', '\u{2028}', "LINE SEPARATOR"),
    ('\u{2029}', '\u{2029}', "PARAGRAPH SEPARATOR"),
    ('\u{202a}', '\u{202a}', "LEFT-TO-RIGHT EMBEDDING"),
    ('\u{202b}', '\u{202b}', "RIGHT-TO-LEFT EMBEDDING"),
    ('\u{202c}', '\u{202c}', "POP DIRECTIONAL FORMATTING"),
    ('\u{202d}', '\u{202d}', "LEFT-TO-RIGHT OVERRIDE"),
    ('\u{202e}', '\u{202e}', "RIGHT-TO-LEFT OVERRIDE"),
    ('\u{202f}', '\u{202f}', "NARROW NO-BREAK SPACE"),
    ('\u{205f}', '\u{205f}', "MEDIUM MATHEMATICAL SPACE"),
    ('\u{2060}', '\u{2060}', "WORD JOINER"),
    ('\u{2061}', '\u{2064}', "an invisible operator"),
    ('\u{2066}', '\u{2066}', "LEFT-TO-RIGHT ISOLATE"),
    ('\u{2067}', '\u{2067}', "RIGHT-TO-LEFT ISOLATE"),
    ('\u{2068}', '\u{2068}', "FIRST STRONG ISOLATE"),
    ('\u{2069}', '\u{2069}', "POP DIRECTIONAL ISOLATE"),
    ('\u{206a}', '\u{206f}', "a deprecated format character"),
    ('\u{2800}', '\u{2800}', "BRAILLE PATTERN BLANK"),
    ('\u{3164}', '\u{3164}', "HANGUL FILLER"),
    ('\u{fe00}', '\u{fe0f}', "a VARIATION SELECTOR"),
    (BYTE_ORDER_MARK, BYTE_ORDER_MARK, "ZERO WIDTH NO-BREAK SPACE (byte order mark)"),
    ('\u{ffa0}', '\u{ffa0}', "HALFWIDTH HANGUL FILLER"),
    ('\u{fff9}', '\u{fffb}', "an interlinear annotation mark"),
    ('\u{1bca0}', '\u{1bca3}', "a shorthand format control"),
    ('\u{1d173}', '\u{1d17a}', "a musical format control"),
    ('\u{e0000}', '\u{e0fff}', "a tag or VARIATION SELECTOR"),
];

/// A character that is not seen, and where it stands. It is shown as "U+200B ZERO WIDTH SPACE at column 3".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invisible {
    character: char,
    name: &'static str,
    column: usize,
}

impl Invisible {
    /// The first character of a text that is not seen, if there is one; tabs and line ends count.
    #[must_use]
    pub fn first_in(text: &str) -> Option<Self> {
        text.chars().enumerate().find_map(|(index, character)| Self::of(character, index + 1))
    }

    /// The same, where joiners and variation selectors may stand between characters that they shape: scripts and
    /// pictures need them.
    #[must_use]
    pub fn first_out_of_place(text: &str) -> Option<Self> {
        let mut before = None;
        for (index, character) in text.chars().enumerate() {
            let after = text.chars().nth(index + 1);
            if let Some(found) = Self::of(character, index + 1)
                && !shapes(before, character, after)
            {
                return Some(found);
            }
            before = Some(character);
        }
        None
    }

    fn of(character: char, column: usize) -> Option<Self> {
        let name = name(character)?;
        Some(Self { character, name, column })
    }
}

/// The name of a character that is not seen.
fn name(character: char) -> Option<&'static str> {
    if character.is_control() {
        return Some("a control character");
    }
    NAMES.iter().find(|(first, last, _)| (first..=last).contains(&&character)).map(|(_, _, name)| *name)
}

/// Whether a character shapes those around it: U+200C and U+200D between others, variation selectors after one. No letter
/// of ASCII is shaped.
fn shapes(before: Option<char>, character: char, after: Option<char>) -> bool {
    let shaped = |one: Option<char>| one.is_some_and(|one| !one.is_ascii() && is_seen_or_selects(one));
    match character {
        '\u{200c}' | '\u{200d}' => shaped(before) && shaped(after),
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => {
            before.is_some_and(|one| name(one).is_none()) && (shaped(before) || after == Some('\u{20e3}'))
        }
        _ => false,
    }
}

fn is_seen_or_selects(character: char) -> bool {
    name(character).is_none() || matches!(character, '\u{fe00}'..='\u{fe0f}')
}

/// Whether a character is none that is seen, and changes how others are read or how lines end: what a terminal must not get.
pub(crate) fn misleads(character: char) -> bool {
    !matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' | '\u{2000}'..='\u{200a}')
        && !matches!(character, '\u{a0}' | '\u{202f}' | '\u{205f}')
        && !character.is_control()
        && name(character).is_some()
}

impl fmt::Display for Invisible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { character, name, column } = self;
        write!(f, "U+{:04X} {name} at column {column}", u32::from(*character))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_beginning_and_nowhere_else() {
        assert_eq!(without_mark("\u{feff}a\u{feff}"), "a\u{feff}");
        assert_eq!(without_mark("\u{feff}\u{feff}a"), "\u{feff}a", "one of them");
        assert_eq!(without_mark_bytes("\u{feff}a".as_bytes()), b"a");
        assert_eq!(without_mark_bytes(b"\xef\xbb"), b"\xef\xbb");
    }

    #[test]
    fn what_is_not_seen_is_named_with_its_place() {
        for (text, named) in [
            ("ab\u{200b}c", "U+200B ZERO WIDTH SPACE at column 3"),
            ("é\u{a0}b", "U+00A0 NO-BREAK SPACE at column 2"),
            ("\u{feff}b", "U+FEFF ZERO WIDTH NO-BREAK SPACE (byte order mark) at column 1"),
            ("b\u{202e}", "U+202E RIGHT-TO-LEFT OVERRIDE at column 2"),
            ("b\u{e0041}", "U+E0041 a tag or VARIATION SELECTOR at column 2"),
            ("a\u{7}", "U+0007 a control character at column 2"),
            ("a\u{200d}b", "U+200D ZERO WIDTH JOINER at column 2"),
        ] {
            assert_eq!(Invisible::first_in(text).map(|found| found.to_string()).as_deref(), Some(named));
            assert_eq!(Invisible::first_out_of_place(text), Invisible::first_in(text), "{named}");
        }
        assert_eq!(Invisible::first_in("plain text, é 日本"), None);
    }

    #[test]
    fn what_shapes_scripts_and_pictures_has_its_place() {
        for text in
            ["می\u{200c}خواهم", "👩\u{200d}💻", "❤\u{fe0f}", "1\u{fe0f}\u{20e3}", "🏳\u{fe0f}\u{200d}🌈"]
        {
            assert_eq!(Invisible::first_out_of_place(text), None, "{text}");
        }
        for text in ["\u{200d}", "👩\u{200d}", "\u{200c}م", "a\u{fe0f}", "\u{fe0f}", "م\u{200c}\u{200c}م"]
        {
            assert!(Invisible::first_out_of_place(text).is_some(), "{text:?}");
        }
    }
}
