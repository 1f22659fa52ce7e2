//! Sending the tokens of a file, as many at a time as the API takes.

use std::iter;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Args;
use super::file::Entry;
use crate::api::MAX_IMPORT;
use crate::cli::Failure;
use crate::cli::remote::{Answer, Client, Method};
use crate::cli::show::Progress;
use crate::cli::token::path_of_all;
use crate::domain::import::MOST_IMPORTED;
use crate::domain::user::UserName;

/// What of a body is left for all but its tokens, in bytes.
const REST: usize = 1024;

/// What was imported so far, by the API's names.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct Imported {
    imported: usize,
    already_stored: usize,
}

/// Sends all tokens, one request after the other.
pub(super) fn all(client: &Client, args: &Args, entries: &[Entry]) -> Result<Imported, Failure> {
    let progress = Progress::of("tokens");
    let mut done = Imported::default();
    for batch in batches(entries) {
        let one = one(client, args, batch).map_err(|failure| done.broken_off(failure))?;
        done.add(one);
        progress.at(done.count() as u64, Some(entries.len() as u64));
    }
    Ok(done)
}

/// The tokens of each request.
fn batches(mut left: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    iter::from_fn(move || {
        let mut size = REST;
        let fits = |entry: &&Entry| {
            size += entry.json.len() + 1;
            size <= MAX_IMPORT
        };
        // One at least: where that is too large, the service says so.
        let count = left.iter().take(MOST_IMPORTED).take_while(fits).count().max(1);
        let (batch, rest) = left.split_at_checked(count)?;
        left = rest;
        Some(batch)
    })
}

/// Sends one request.
fn one(client: &Client, args: &Args, batch: &[Entry]) -> Result<Imported, Failure> {
    let tokens: Result<Vec<Value>, _> = batch.iter().map(|entry| serde_json::from_str(&entry.json)).collect();
    let tokens = tokens.map_err(|_| Failure::Failed("a line cannot be sent.".to_owned()))?;
    let body = json!({ "tokens": tokens, "ignore_restrictions": args.ignore_restrictions });
    let path = format!("{}:import", path_of_all(&args.user));
    let answer = client.ask(Method::POST, &path, &[], Some(&body))?;
    if answer.status.is_success() { client.parsed(&answer) } else { Err(refusal(client, batch, &answer)) }
}

/// A refusal, which names the line where it is about one token.
fn refusal(client: &Client, batch: &[Entry], answer: &Answer) -> Failure {
    let refusal = client.refusal(answer);
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let index =
        said.pointer("/error/entry").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
    match (index.and_then(|index| Some((index, batch.get(index)?))), refusal) {
        (Some((index, entry)), Failure::Failed(message)) => {
            let message = message.replacen(&format!("`tokens[{index}]`: "), "", 1);
            Failure::Failed(format!("line {}: {message}", entry.line))
        }
        (_, refusal) => refusal,
    }
}

/// So many tokens.
pub(super) fn tokens(count: usize) -> String {
    if count == 1 { "1 token".to_owned() } else { format!("{count} tokens") }
}

impl Imported {
    fn count(&self) -> usize {
        self.imported + self.already_stored
    }

    fn add(&mut self, more: Self) {
        self.imported += more.imported;
        self.already_stored += more.already_stored;
    }

    /// The failure of a request after those that are done.
    fn broken_off(&self, failure: Failure) -> Failure {
        let Failure::Failed(message) = failure else { return failure };
        match self.count() {
            0 => Failure::Failed(message),
            n => Failure::Failed(format!(
                "{message} The first {} of the file are imported; run this again when it is mended, and they stay as they are.",
                tokens(n)
            )),
        }
    }

    /// What a person is told.
    pub fn told(&self, user: &UserName) -> String {
        let are = if self.imported == 1 { "is" } else { "are" };
        let before = match self.already_stored {
            0 => String::new(),
            n => format!("; {n} were stored already"),
        };
        format!("{} of {user} {are} imported{before}", tokens(self.imported))
    }

    /// What a program is told, by the API's names.
    pub fn json(&self) -> String {
        let Self { imported, already_stored } = self;
        format!("{}\n", json!({ "imported": imported, "already_stored": already_stored }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lengths: &[usize]) -> Vec<usize> {
        let entry = |length: &usize| Entry { line: 1, json: "x".repeat(*length), foreign: false };
        let entries: Vec<Entry> = lengths.iter().map(entry).collect();
        batches(&entries).map(<[Entry]>::len).collect()
    }

    #[test]
    fn a_request_holds_as_many_tokens_as_fit_and_one_at_least() {
        assert_eq!(sizes(&[10; 2 * MOST_IMPORTED + 1]), [MOST_IMPORTED, MOST_IMPORTED, 1]);
        let half = MAX_IMPORT / 2;
        assert_eq!(sizes(&[half, 10, half, half - REST, 10]), [2, 1, 2]);
        assert_eq!(sizes(&[2 * MAX_IMPORT, 10]), [1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
