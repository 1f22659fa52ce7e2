//! Tokens that another system has made: they move in by their hashes, and their holders need no others.

use std::collections::HashMap;

use latchkey::token::TokenHash;

use super::text::{shown_name, text_type};
use super::token::{NewToken, Token, TokenSpec};
use crate::domain::time::Timestamp;

/// The most tokens of one import, so that it keeps other writers waiting for a moment only.
pub const MOST_IMPORTED: usize = 1_000;

text_type! {
    /// What an owner recognises an imported token by: 1 to 32 characters, as a name.
    Hint,
    |text| shown_name(text, 1, 32)
}

impl Default for Hint {
    fn default() -> Self {
        Self::stored("imported".to_owned())
    }
}

/// A text that is the token itself, which nobody may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must not be the token itself, of which only the SHA-256 is stored")]
pub struct TokenItself;

impl NewToken {
    /// A token of another system's, made there at `created_at` if that is known. Where a text is the token itself, the error
    /// comes with that field's name.
    ///
    /// # Errors
    /// [`TokenItself`].
    pub fn imported(
        spec: TokenSpec,
        hash: TokenHash,
        hint: &Hint,
        created_at: Option<Timestamp>,
    ) -> Result<Self, (&'static str, TokenItself)> {
        let description = spec.description.as_ref().map(ToString::to_string).unwrap_or_default();
        let texts =
            [("name", spec.name.as_str()), ("hint", hint.as_str()), ("description", description.as_str())];
        match texts.iter().find(|(_, text)| TokenHash::of(text.as_bytes()) == hash) {
            Some((field, _)) => Err((field, TokenItself)),
            None => Ok(Self { spec, hash, hint: hint.to_string(), created_at }),
        }
    }
}

/// What is to be imported for one user.
#[derive(Clone, Debug)]
pub struct Import {
    /// The tokens; no two have the same hash.
    pub tokens: Vec<NewToken>,
    /// Whether the limits on lifetimes and numbers of tokens do not count.
    pub ignore_restrictions: bool,
}

impl Import {
    /// Collects tokens.
    ///
    /// # Errors
    /// The first token whose hash an earlier one has, and that one, by their places.
    pub fn new(tokens: Vec<NewToken>, ignore_restrictions: bool) -> Result<Self, (usize, usize)> {
        let mut seen = HashMap::with_capacity(tokens.len());
        for (place, token) in tokens.iter().enumerate() {
            if let Some(earlier) = seen.insert(token.hash, place) {
                return Err((place, earlier));
            }
        }
        Ok(Self { tokens, ignore_restrictions })
    }
}

/// What became of one token of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is stored now.
    New(Token),
    /// The user has had it already, and it stays as it is.
    Stored(Token),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> TokenSpec {
        TokenSpec::named(name.parse().unwrap())
    }

    #[test]
    fn no_text_of_an_imported_token_is_the_token_itself() {
        let hash = TokenHash::of(b"the-secret");
        let (plain, secret) = (Hint::default(), "the-secret".parse::<Hint>().unwrap());
        assert!(NewToken::imported(spec("ci"), hash, &plain, None).is_ok());
        assert_eq!(NewToken::imported(spec("the-secret"), hash, &plain, None), Err(("name", TokenItself)));
        assert_eq!(NewToken::imported(spec("ci"), hash, &secret, None), Err(("hint", TokenItself)));
        let noted = TokenSpec { description: Some("the-secret".parse().unwrap()), ..spec("ci") };
        assert_eq!(NewToken::imported(noted, hash, &plain, None), Err(("description", TokenItself)));
    }

    #[test]
    fn the_same_token_twice_is_no_import() {
        let token = |text: &str| {
            NewToken::imported(spec("ci"), TokenHash::of(text.as_bytes()), &Hint::default(), None).unwrap()
        };
        assert!(Import::new(vec![token("a"), token("b")], false).is_ok());
        let twice = Import::new(vec![token("a"), token("b"), token("c"), token("b")], false);
        assert_eq!(twice.unwrap_err(), (3, 1));
    }
}
