//! The file of an import, line by line: checked as the service does it, so that most mistakes are found before anything
//! is sent, all of them at once. No message repeats what a line holds, for it may be a token.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{BufRead, BufReader, stdin};

use latchkey::credential::MAX_TOKEN;
use latchkey::token::TokenHash;
use serde_json::{Map, Value, json};

use super::shape::{hint, is_own};
use crate::api::check_import_entry;
use crate::cli::Failure;
use crate::domain::invisible::{Invisible, without_mark_bytes};
use crate::domain::token::TokenName;

/// What tokens are called of which nothing else is known.
const DEFAULT_NAME: &str = "imported";
/// How many mistakes are told of.
const MAX_SHOWN: usize = 100;

/// Where tokens are read from.
pub(super) struct File<'a> {
    path: &'a str,
    /// Whether its lines are the tokens themselves.
    plain: bool,
    /// What those are called.
    name: &'a str,
}

/// One token of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its line, counted from 1.
    pub line: u64,
    /// It as the API takes it.
    pub json: String,
    /// Whether it is known to be shaped otherwise than Latchkey's own tokens.
    pub foreign: bool,
}

/// What is wrong with a line.
struct Mistake {
    line: u64,
    problem: String,
}

impl<'a> File<'a> {
    pub fn new(path: &'a str, plain: bool, name: Option<&'a TokenName>) -> Self {
        Self { path, plain, name: name.map_or(DEFAULT_NAME, TokenName::as_str) }
    }

    /// All tokens, in the order of their lines; empty lines are none, and one that is repeated counts once.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a file that cannot be read, and for all lines that cannot be.
    pub fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let reader = self.open().map_err(|error| self.unreadable(&error))?;
        let (entries, mistakes) = self.read(reader).map_err(|error| self.unreadable(&error))?;
        if !mistakes.is_empty() {
            return Err(Failure::Usage(all(&mistakes)));
        }
        if entries.is_empty() {
            return Err(Failure::Usage(format!("{} holds no tokens: nothing is imported.", self.path)));
        }
        Ok(entries)
    }

    fn read(&self, mut reader: impl BufRead) -> std::io::Result<(Vec<Entry>, Vec<Mistake>)> {
        let (mut entries, mut mistakes) = (Vec::<Entry>::new(), Vec::new());
        let mut seen: HashMap<TokenHash, (u64, String)> = HashMap::new();
        let (mut bytes, mut line) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            line += 1;
            let text = if line == 1 { without_mark_bytes(&bytes) } else { &bytes };
            if !text.trim_ascii().is_empty() {
                match self.entry(line, text.trim_ascii()) {
                    Err(problem) => mistakes.push(Mistake { line, problem }),
                    Ok((hash, entry)) => match seen.entry(hash) {
                        Slot::Vacant(slot) => {
                            slot.insert((line, entry.json.clone()));
                            entries.push(entry);
                        }
                        Slot::Occupied(slot) if slot.get().1 == entry.json => {}
                        Slot::Occupied(slot) => {
                            let earlier = slot.get().0;
                            let problem = format!(
                                "it is the same token as on line {earlier}, and says other things of it"
                            );
                            mistakes.push(Mistake { line, problem });
                        }
                    },
                }
            }
            bytes.clear();
        }
        Ok((entries, mistakes))
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
    fn entry(&self, line: u64, bytes: &[u8]) -> Result<(TokenHash, Entry), String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
        let (json, foreign) = if self.plain { self.named(text)? } else { hashed(text)? };
        let hash = check_import_entry(json.as_bytes()).map_err(|refused| said(refused.message()))?;
        Ok((hash, Entry { line, json, foreign }))
    }

    /// A line that is the token itself: its hash, the name of all, and its first characters.
    fn named(&self, token: &str) -> Result<(String, bool), String> {
        if token.contains(char::is_whitespace) && Invisible::first_in(token).is_none() {
            return Err("with --plain it must be one token, without white space".to_owned());
        }
        let mut entry = json!({ "token_hash": hash(token)?, "name": self.name });
        if let (Some(hint), Some(entry)) = (hint(token), entry.as_object_mut()) {
            entry.insert("hint".to_owned(), hint.into());
        }
        Ok((entry.to_string(), !is_own(token)))
    }
}

/// A line that is JSON, with the token's hash in the place of the token, if that is there.
fn hashed(line: &str) -> Result<(String, bool), String> {
    let example = "it must be a JSON object such as {\"token_hash\": \"…\", \"name\": \"ci\"}";
    let mut entry: Map<String, Value> = serde_json::from_str(line)
        .map_err(|_| format!("{example}; where each line is the token itself, add --plain"))?;
    match (entry.remove("token"), entry.contains_key("token_hash")) {
        (Some(_), true) => Err("give `token` or `token_hash`, not both".to_owned()),
        (Some(Value::String(token)), false) => {
            entry.insert("token_hash".to_owned(), json!(hash(&token)?));
            if let (Some(hint), false) = (hint(&token), entry.contains_key("hint")) {
                entry.insert("hint".to_owned(), hint.into());
            }
            Ok((Value::Object(entry).to_string(), !is_own(&token)))
        }
        (Some(_), false) => Err("`token` must be the token, a text".to_owned()),
        (None, false) => Err("it must have `token_hash` or `token`".to_owned()),
        // As it is: what it has twice would not be there any more.
        (None, true) => Ok((line.to_owned(), false)),
    }
}

/// The hash of a token that a gateway can serve: visible ASCII but a comma, which joins two credentials.
fn hash(token: &str) -> Result<TokenHash, String> {
    let served = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    if (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(served) {
        return Ok(TokenHash::of(token.as_bytes()));
    }
    let has = match Invisible::first_in(token) {
        Some(found) => format!("has {found}"),
        None if token.contains(' ') => "has a space".to_owned(),
        None if token.contains(',') => "has a comma".to_owned(),
        None if token.is_ascii() => format!("has {} bytes", token.len()),
        None => "has a character that is not ASCII".to_owned(),
    };
    Err(format!(
        "no gateway can serve this token: one has 1 to {MAX_TOKEN} bytes of visible ASCII and no comma, and this one {has}"
    ))
}

/// What the API would say of a body, said of a line.
fn said(message: &str) -> String {
    message.replacen("The body", "it", 1)
}

/// All that is wrong with a file.
fn all(mistakes: &[Mistake]) -> String {
    if let [Mistake { line, problem }] = mistakes {
        return format!("line {line}: {problem}. Nothing is imported.");
    }
    let lines = mistakes.iter().take(MAX_SHOWN).map(|one| format!("\n  line {}: {}.", one.line, one.problem));
    let rest = match mistakes.len().saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        rest => format!("\n  and {rest} more."),
    };
    format!("{} lines are wrong, and nothing is imported:{}{rest}", mistakes.len(), lines.collect::<String>())
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
            let (found, entry) = file.entry(1, line).unwrap();
            assert_eq!((found, serde_json::from_str::<Value>(&entry.json).unwrap()), (hash, sent));
            assert!(entry.foreign);
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
            (LINES, r#"{"token": "the-secret, and another", "name": "x"}"#.to_owned()),
            (PLAIN, "the-secret and-more".to_owned()),
            (PLAIN, "the-secret\u{0}".to_owned()),
            (PLAIN, "the-secret,the-secret".to_owned()),
            (PLAIN, "thé-the-secret".to_owned()),
            (PLAIN, "the-secret".repeat(26)),
        ] {
            let refused = file.entry(1, line.as_bytes()).unwrap_err();
            assert!(!refused.contains("the-secret"), "{line}: {refused}");
        }
        assert!(LINES.entry(1, b"\xff").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_what_is_not_seen_elsewhere_is_named() {
        let (entries, mistakes) =
            PLAIN.read("\u{feff}first\r\nsec\u{200b}ond\nth\u{a0}ird\n".as_bytes()).unwrap();
        assert_eq!(entries, [PLAIN.entry(1, b"first").unwrap().1]);
        let told = all(&mistakes);
        assert!(
            told.contains("line 2: no gateway") && told.contains("has U+200B ZERO WIDTH SPACE at column 4."),
            "{told}"
        );
        assert!(
            told.contains("line 3: no gateway") && told.contains("has U+00A0 NO-BREAK SPACE at column 3."),
            "{told}"
        );
    }

    #[test]
    fn a_repeated_line_counts_once_and_one_that_says_otherwise_is_a_mistake() {
        let line = r#"{"token": "a", "name": "x"}"#;
        let other = r#"{"token": "a", "name": "y"}"#;
        let (entries, mistakes) = LINES.read(format!("{line}\n{line}\n").as_bytes()).unwrap();
        assert_eq!((entries.len(), mistakes.len()), (1, 0));
        let (_, mistakes) = LINES.read(format!("{line}\n\n{other}\n").as_bytes()).unwrap();
        assert_eq!(
            all(&mistakes),
            "line 3: it is the same token as on line 1, and says other things of it. Nothing is imported."
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once_up_to_a_hundred() {
        let (_, mistakes) = PLAIN.read("a,b\n".repeat(102).as_bytes()).unwrap();
        let told = all(&mistakes);
        assert!(told.starts_with("102 lines are wrong, and nothing is imported:\n  line 1: "), "{told}");
        assert!(told.ends_with("has a comma.\n  and 2 more."), "{told}");
        assert_eq!(told.lines().count(), 102);
    }
}
