//! Texts that obey a rule, and the macro that makes a type of each.

use super::invisible::Invisible;

/// A value that breaks the rule of its type. The message says what is allowed, as a sentence that can follow
/// the name of a field: "is 1 to 64 characters of …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    pub(crate) fn because(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Checks that a text has `least` to `most` characters (Unicode scalar values) and that each of them is seen, or shapes one
/// that is.
pub(super) fn plain(text: &str, least: usize, most: usize) -> Result<(), Invalid> {
    let length = text.chars().count();
    if !(least..=most).contains(&length) {
        return Err(Invalid(format!("must have {least} to {most} characters, and has {length}")));
    }
    match Invisible::first_out_of_place(text) {
        Some(found) => {
            Err(Invalid(format!("must not contain characters that are not seen, and has {found}")))
        }
        None => Ok(()),
    }
}

/// Checks that a text can be a name that people see: [`plain`], with no white space at either end, and with neither `<`
/// nor `>`, so that it is no markup wherever it is shown.
pub(super) fn shown_name(text: &str, least: usize, most: usize) -> Result<(), Invalid> {
    plain(text, least, most)?;
    if text.trim() != text {
        return Err(Invalid::because("must not begin or end with white space"));
    }
    if text.contains(['<', '>']) { Err(Invalid::because("must not contain '<' or '>'")) } else { Ok(()) }
}

/// Defines a text type: its rule is a function from `&str` to `Result<(), Invalid>`. What `folded` makes of a text is
/// checked and kept in its place.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $crate::domain::text::text_type! { $(#[$doc])* $name, folded: str::to_owned, $rule }
    };
    ($(#[$doc:meta])* $name:ident, folded: $folded:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes a text that was checked before it was stored.
            #[allow(dead_code, reason = "not every text is read back")]
            pub(crate) fn stored(text: String) -> Self {
                Self(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::Invalid;

            fn from_str(text: &str) -> Result<Self, $crate::domain::Invalid> {
                let rule: fn(&str) -> Result<(), $crate::domain::Invalid> = $rule;
                let folded: fn(&str) -> String = $folded;
                let text = folded(text);
                rule(&text)?;
                Ok(Self(text))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Defines an identifier type over a UUID.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::Invalid;

            fn from_str(text: &str) -> Result<Self, $crate::domain::Invalid> {
                let invalid = |_| $crate::domain::Invalid::because("must be a UUID");
                uuid::Uuid::try_parse(text).map(Self).map_err(invalid)
            }
        }
    };
}

pub(super) use {id_type, text_type};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters() {
        assert_eq!(plain("äöü", 3, 3), Ok(()));
        let refused = plain("äöü", 1, 2).unwrap_err();
        assert_eq!(refused.to_string(), "must have 1 to 2 characters, and has 3");
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["a\0b", "a\nb", "a\u{7f}", "a\u{85}"] {
            assert!(plain(text, 0, 10).is_err(), "{text:?}");
        }
    }

    #[test]
    fn marks_that_make_a_text_read_as_another_are_refused_and_no_script_is() {
        for text in [
            "a\u{202e}b",
            "\u{200f}a",
            "a\u{200e}",
            "a\u{2066}b",
            "a\u{61c}b",
            "a\u{2028}b",
            "\u{feff}a",
            "a\u{200b}",
            "a\u{a0}b",
            "\u{200d}",
            "\u{3164}",
            "\u{ad}\u{ad}",
        ] {
            assert!(plain(text, 0, 10).is_err(), "{text:?}");
        }
        let refused = plain("a\u{200b}", 0, 10).unwrap_err().to_string();
        assert_eq!(
            refused,
            "must not contain characters that are not seen, and has U+200B ZERO WIDTH SPACE at column 2"
        );
        for text in ["שלום", "مرحبا", "می‌خواهم", "👩‍💻", "日本語"] {
            assert_eq!(shown_name(text, 1, 10), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_name_that_people_see_has_no_outer_white_space_and_is_no_markup() {
        assert_eq!(shown_name("a b", 1, 10), Ok(()));
        for text in [" a", "a ", " ", "\u{a0}a", "<b>", "a > b"] {
            assert!(shown_name(text, 0, 10).is_err(), "{text:?}");
        }
    }
}
