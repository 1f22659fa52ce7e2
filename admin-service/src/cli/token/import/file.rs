//! The file of an import, line by line: checked as the service does it, so that most mistakes are found before anything
//! is sent. No message repeats what a line holds, for it may be a token.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, stdin};

use latchkey::credential::MAX_TOKEN;
use latchkey::token::TokenHash;
use serde_json::{Map, Value, json};

use crate::api::check_import_entry;
use crate::cli::Failure;
use crate::domain::token::TokenName;

/// What tokens are called of which nothing else is known.
const DEFAULT_NAME: &str = "imported";

/// Where tokens are read from.
pub(super) struct File<'a> {
    path: &'a str,
    /// Whether its lines are the tokens themselves.
    plain: bool,
    /// What those are called.
    name: &'a str,
}

/// One token of the file.
pub(super) struct Entry {
    /// Its line, counted from 1.
    pub line: u64,
    /// It as the API takes it.
    pub json: String,
}

impl<'a> File<'a> {
    pub fn new(path: &'a str, plain: bool, name: Option<&'a TokenName>) -> Self {
        Self { path, plain, name: name.map_or(DEFAULT_NAME, TokenName::as_str) }
    }

    /// All tokens, in the order of their lines; empty lines are none.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a file that cannot be read, and for the first line that cannot be.
    pub fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let mut reader = self.open().map_err(|error| self.unreadable(&error))?;
        let (mut entries, mut lines) = (Vec::new(), HashMap::new());
        let (mut bytes, mut line) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut bytes).map_err(|error| self.unreadable(&error))? > 0 {
            line += 1;
            if !bytes.trim_ascii().is_empty() {
                let refused =
                    |problem| Failure::Usage(format!("line {line}: {problem}. Nothing is imported."));
                let (hash, json) = self.entry(bytes.trim_ascii()).map_err(refused)?;
                if let Some(earlier) = lines.insert(hash, line) {
                    return Err(refused(format!("it is the same token as on line {earlier}")));
                }
                entries.push(Entry { line, json });
            }
            bytes.clear();
        }
        if entries.is_empty() {
            return Err(Failure::Usage(format!("{} holds no tokens: nothing is imported.", self.path)));
        }
        Ok(entries)
    }

    fn open(&self) -> std::io::Result<Box<dyn BufRead>> {
        if self.path == "-" {
            return Ok(Box::new(stdin().lock()));
        }
        Ok(Box::new(BufReader::new(std::fs::File::open(self.path)?)))
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::Usage(format!("{} cannot be read: {error}.", self.path))
    }

    /// One line as the API takes it, and the token's hash.
    fn entry(&self, line: &[u8]) -> Result<(TokenHash, String), String> {
        let text = str::from_utf8(line).map_err(|_| "it is no UTF-8 text".to_owned())?;
        let json = if self.plain { self.named(text)? } else { hashed(text)? };
        let hash = check_import_entry(json.as_bytes()).map_err(|refused| said(refused.message()))?;
        Ok((hash, json))
    }

    /// A line that is the token itself: its hash, and the name of all.
    fn named(&self, token: &str) -> Result<String, String> {
        if token.contains(char::is_whitespace) {
            return Err("with --plain it must be one token, without white space".to_owned());
        }
        let hash = hash(token)?;
        Ok(json!({ "token_hash": hash, "name": self.name }).to_string())
    }
}

/// A line that is JSON, with the token's hash in the place of the token, if that is there.
fn hashed(line: &str) -> Result<String, String> {
    let example = "it must be a JSON object such as {\"token_hash\": \"…\", \"name\": \"ci\"}";
    let mut entry: Map<String, Value> = serde_json::from_str(line)
        .map_err(|_| format!("{example}; where each line is the token itself, add --plain"))?;
    match (entry.remove("token"), entry.contains_key("token_hash")) {
        (Some(_), true) => return Err("give `token` or `token_hash`, not both".to_owned()),
        (Some(Value::String(token)), false) => entry.insert("token_hash".to_owned(), json!(hash(&token)?)),
        (Some(_), false) => return Err("`token` must be the token, a text".to_owned()),
        (None, false) => return Err("it must have `token_hash` or `token`".to_owned()),
        // As it is: what it has twice would not be there any more.
        (None, true) => return Ok(line.to_owned()),
    };
    Ok(Value::Object(entry).to_string())
}

/// The hash of a token that a client can present.
fn hash(token: &str) -> Result<TokenHash, String> {
    if (1..=MAX_TOKEN).contains(&token.len()) && !token.contains(char::is_control) {
        return Ok(TokenHash::of(token.as_bytes()));
    }
    Err(format!(
        "a token must have 1 to {MAX_TOKEN} bytes and no control characters: no filter looks up another"
    ))
}

/// What the API would say of a body, said of a line.
fn said(message: &str) -> String {
    message.replacen("The body", "it", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: File<'static> = File { path: "-", plain: false, name: DEFAULT_NAME };
    const PLAIN: File<'static> = File { plain: true, ..LINES };

    #[test]
    fn a_token_is_hashed_before_it_goes_anywhere() {
        let hash = TokenHash::of(b"the-secret");
        let line = br#"{"token": "the-secret", "name": "ci", "scopes": ["read"]}"#;
        for (file, line, sent) in [
            (LINES, &line[..], json!({"token_hash": hash, "name": "ci", "scopes": ["read"]})),
            (PLAIN, b"the-secret", json!({"token_hash": hash, "name": "imported"})),
        ] {
            let (found, json) = file.entry(line).unwrap();
            assert_eq!((found, serde_json::from_str::<Value>(&json).unwrap()), (hash, sent));
        }
    }

    #[test]
    fn what_cannot_be_is_told_and_not_repeated() {
        let hash = TokenHash::of(b"the-secret");
        for (file, line) in [
            (LINES, "the-secret".to_owned()),
            (LINES, r#"["the-secret"]"#.to_owned()),
            (LINES, r#"{"name": "the-secret"}"#.to_owned()),
            (LINES, r#"{"token": ["the-secret"], "name": "x"}"#.to_owned()),
            (LINES, r#"{"token": "the-secret", "token_hash": "x", "name": "x"}"#.to_owned()),
            (LINES, r#"{"token": "the-secret", "name": "the-secret"}"#.to_owned()),
            (LINES, r#"{"token": "the-secret", "name": "x", "hint": "the-secret"}"#.to_owned()),
            (
                LINES,
                r#"{"token": "the-secret", "name": "x", "the-secret-and-more-that-is-as-long-as-tokens": 1}"#
                    .to_owned(),
            ),
            (LINES, r#"{"token_hash": "the-secret", "name": "x"}"#.to_owned()),
            (LINES, format!(r#"{{"token_hash": "{hash}", "token_hash": "{hash}", "name": "x"}}"#)),
            (LINES, format!(r#"{{"token": "{}", "name": "x"}}"#, "the-secret".repeat(26))),
            (PLAIN, "the-secret and-more".to_owned()),
            (PLAIN, "the-secret\u{0}".to_owned()),
            (PLAIN, "the-secret".repeat(26)),
        ] {
            let refused = file.entry(line.as_bytes()).unwrap_err();
            assert!(!refused.contains("the-secret"), "{line}: {refused}");
        }
        assert!(LINES.entry(b"\xff").is_err());
    }
}
