//! `latchkey token import`.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};

use latchkey::token::TokenHash;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::remote::{Client, Method, Service};
use crate::cli::show::{Progress, note, print};
use crate::domain::import::MOST_IMPORTED;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token import --user bob tokens.jsonl
  some-export | latchkey token import --user bob -

Each line is a JSON object, of `token_hash` (the SHA-256 of the token, 64 hexadecimal digits) and `name`; and if you like
`hint`, `description`, `schemes`, `scopes`, `allowed_cidrs`, and `expires_in` or `expires_at`:
  {\"token_hash\": \"2c26b46b68ff…\", \"name\": \"ci\", \"scopes\": [\"read\"], \"expires_in\": \"90d\"}

A `token` in the place of `token_hash` is hashed here, and does not leave this machine. What the user has already stays as it
is, so that an import can be repeated. Tokens that do not look like the service's own are looked up by filters with
`token_prefix: null` only.")]
pub(super) struct Args {
    /// A file of one JSON object per line; `-` is stdin
    file: PathBuf,

    /// Whose tokens they become
    #[arg(long, value_name = "NAME")]
    user: UserName,

    /// Import them even where they last longer, or are more, than the restrictions allow
    #[arg(long)]
    ignore_restrictions: bool,
}

/// One line's token, as the API takes it, and the number of that line.
type Entry = (usize, Value);

/// What has been done so far.
#[derive(Default)]
struct Done {
    imported: u64,
    already_stored: u64,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    // All of it, before anything is imported: a line that cannot be read is better known first.
    let entries = entries(&args.file)?;
    if entries.is_empty() {
        return Err(Failure::Usage(format!("{} holds no tokens: nothing is imported.", args.file.display())));
    }
    let client = service.client()?;
    let mut done = Done::default();
    let progress = Progress::of("tokens");
    for batch in entries.chunks(MOST_IMPORTED) {
        send(&client, args, batch, &mut done)?;
        progress.at(done.imported + done.already_stored, Some(entries.len() as u64));
    }
    drop(progress);
    if service.json {
        let Done { imported, already_stored } = done;
        return print(format!("{}\n", json!({"imported": imported, "already_stored": already_stored})));
    }
    note(&done.told(&args.user));
    Ok(())
}

/// Imports one batch: all of it, or nothing.
fn send(client: &Client, args: &Args, batch: &[Entry], done: &mut Done) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        imported: u64,
        already_stored: u64,
    }
    let tokens: Vec<&Value> = batch.iter().map(|(_, token)| token).collect();
    let body = json!({"tokens": tokens, "ignore_restrictions": args.ignore_restrictions});
    let path = format!("/users/{}/tokens:import", args.user);
    let called = client.call(Method::POST, &path, &[], Some(&body));
    let answer: Answer =
        called.and_then(|answer| client.parsed(&answer)).map_err(|failure| failed(failure, batch, done))?;
    done.imported += answer.imported;
    done.already_stored += answer.already_stored;
    Ok(())
}

/// The failure of a batch, by lines of the file: the API counts the tokens of one request.
fn failed(failure: Failure, batch: &[Entry], done: &Done) -> Failure {
    let Failure::Failed(mut message) = failure else { return failure };
    for (index, (line, _)) in batch.iter().enumerate().rev() {
        message = message.replace(&format!("`tokens[{index}]`"), &format!("line {line}"));
    }
    if done.imported + done.already_stored > 0 {
        message += " The tokens of the lines before are imported; run this again when it is mended, and they stay as they are.";
    }
    Failure::Failed(message)
}

impl Done {
    fn told(&self, user: &UserName) -> String {
        let Self { imported, already_stored } = self;
        let before = match already_stored {
            0 => String::new(),
            n => format!("; {n} were stored already"),
        };
        match imported {
            1 => format!("1 token of {user} is imported{before}"),
            n => format!("{n} tokens of {user} are imported{before}"),
        }
    }
}

/// The tokens of a file.
fn entries(path: &Path) -> Result<Vec<Entry>, Failure> {
    let unread = |error| Failure::Usage(format!("{} cannot be read: {error}.", path.display()));
    let lines: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).map_err(unread)?)),
    };
    let mut entries = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let (number, line) = (index + 1, line.map_err(unread)?);
        if !line.trim().is_empty() {
            entries.push((number, entry(number, &line)?));
        }
    }
    Ok(entries)
}

/// One line's token. No message repeats the line: there may be a token in it.
fn entry(number: usize, line: &str) -> Result<Value, Failure> {
    let refused = |problem: &str| Failure::Usage(format!("line {number}: {problem}. Nothing is imported."));
    let mut entry: Map<String, Value> = serde_json::from_str(line)
        .map_err(|_| refused("it must be a JSON object such as {\"token_hash\": \"…\", \"name\": \"ci\"}"))?;
    match (entry.remove("token"), entry.contains_key("token_hash")) {
        (Some(_), true) => return Err(refused("give `token` or `token_hash`, not both")),
        (Some(Value::String(token)), false) if !token.is_empty() => {
            entry.insert("token_hash".to_owned(), TokenHash::of(token.as_bytes()).to_string().into());
        }
        (Some(_), false) => return Err(refused("`token` must be the token, a text")),
        (None, false) => return Err(refused("it must have `token_hash` or `token`")),
        (None, true) => {}
    }
    Ok(entry.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hashed_before_it_goes_anywhere() {
        let line = r#"{"token": "the-secret", "name": "ci"}"#;
        let hash = TokenHash::of(b"the-secret").to_string();
        assert_eq!(entry(1, line).ok(), Some(json!({"name": "ci", "token_hash": hash})));
    }

    #[test]
    fn a_line_that_is_no_token_is_named_and_not_repeated() {
        for line in ["the-secret", "[]", r#"{"name": "the-secret"}"#, r#"{"token": ["the-secret"]}"#] {
            let Err(Failure::Usage(message)) = entry(7, line) else { panic!("{line}") };
            assert!(message.starts_with("line 7: ") && !message.contains("the-secret"), "{message}");
        }
        let both = r#"{"token": "the-secret", "token_hash": "x", "name": "ci"}"#;
        assert!(entry(1, both).is_err());
    }
}
