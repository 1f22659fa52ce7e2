//! Handing over a token that was made: this once, alone on a line of stdout, everything else on stderr.

use std::io::{Write, stdout};

use serde::Deserialize;

use crate::cli::Failure;
use crate::cli::remote::{Answer, Client, Service};
use crate::cli::show::{harmless, note};
use crate::domain::token::TokenId;

/// What is told of a new token.
#[derive(Deserialize)]
pub(super) struct Made {
    pub id: TokenId,
    user: String,
    name: String,
    expires_at: Option<String>,
    token: String,
}

impl Made {
    /// Reads the answer to its making.
    pub fn of(client: &Client, answer: &Answer) -> Result<Self, Failure> {
        client.parsed(answer)
    }

    /// Prints it, or for programs the whole answer.
    ///
    /// # Errors
    /// Why nobody could see it, whatever the reason.
    pub fn hand_over(&self, service: &Service, answer: &Answer) -> Result<(), std::io::Error> {
        let mut stdout = stdout().lock();
        let text = if service.json { &answer.text } else { &self.token };
        writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush())?;
        let end =
            self.expires_at.as_ref().map_or_else(|| "for ever".to_owned(), |end| format!("until {end}"));
        note(&format!(
            "the token {} of {} is valid {} and is not shown again; its id is {}",
            harmless(&self.name),
            harmless(&self.user),
            harmless(&end),
            self.id
        ));
        Ok(())
    }
}
