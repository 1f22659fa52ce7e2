//! A token as people name it on the command line: its identifier, or as much of its beginning as is unique.

use std::io::{IsTerminal, stdout};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::remote::{Client, pages};
use crate::domain::Invalid;
use crate::domain::scope::ADMIN;
use crate::domain::token::TokenId;
use crate::domain::user::UserName;

/// The fewest characters of a beginning.
const MIN_LENGTH: usize = 8;
/// The length of an identifier.
const ID_LENGTH: usize = 36;
/// How many identifiers are listed where several begin alike.
const LISTED: usize = 5;
/// How much of an identifier a terminal gets: the time to the millisecond, and what tells those of one apart.
const SHOWN_LENGTH: usize = 18;

/// The caller's own token.
#[derive(Deserialize)]
struct OwnToken {
    user: UserName,
    scopes: Vec<String>,
}

/// An identifier, or the beginning of one.
#[derive(Clone, Debug)]
pub(super) struct TokenRef(String);

impl FromStr for TokenRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim_end_matches('…').to_ascii_lowercase();
        let fits = (MIN_LENGTH..=ID_LENGTH).contains(&text.len());
        let may_begin = text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        if fits && may_begin {
            return Ok(Self(text));
        }
        Err(Invalid(format!(
            "must be a token's identifier (a UUID), or its first {MIN_LENGTH} characters or more"
        )))
    }
}

impl TokenRef {
    /// The identifier that is meant. A beginning is looked for among the tokens that the caller may list.
    pub(super) fn resolve(&self, client: &Client) -> Result<TokenId, Failure> {
        if let Ok(id) = self.0.parse() {
            return Ok(id);
        }
        let own: OwnToken = client.read("/tokens/self")?;
        // An administrator lists everybody's, other users their own.
        let is_admin = own.scopes.iter().any(|scope| scope == ADMIN);
        let list = if is_admin { "/tokens".to_owned() } else { super::path_of_all(&own.user) };
        let mut found = Vec::new();
        self.look(&list, client, &mut found)?;
        match found.as_slice() {
            [one] => one.parse().map_err(|problem| Failure::Failed(format!("{problem}."))),
            [] => Err(Failure::Failed(format!(
                "no token that you may list has an id that begins with {}.",
                self.0
            ))),
            several => {
                let (listed, and_more) = match several.split_at_checked(LISTED) {
                    Some((listed, [_, ..])) => (listed, " and others"),
                    _ => (several, ""),
                };
                Err(Failure::Usage(format!(
                    "several tokens have ids that begin with {}: {}{and_more}; give more of it.",
                    self.0,
                    listed.join(", ")
                )))
            }
        }
    }

    /// Collects the identifiers of a list that begin so; two are enough to know that there are several.
    fn look(&self, path: &str, client: &Client, found: &mut Vec<String>) -> Result<(), Failure> {
        pages(client, path, &[], None, |page| {
            for item in &page.items {
                let token: Value = serde_json::from_str(item.get()).unwrap_or_default();
                let id = token.get("id").and_then(Value::as_str).unwrap_or_default();
                if id.starts_with(&self.0) && found.len() <= LISTED {
                    found.push(id.to_owned());
                }
            }
            Ok(())
        })
    }
}

/// An identifier in a table: on a terminal its beginning.
pub(super) fn shown(id: &str) -> String {
    let short = id.get(..SHOWN_LENGTH).filter(|_| stdout().is_terminal());
    short.unwrap_or(id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_an_identifier_or_its_beginning() {
        for good in [
            "0198c0de",
            "0198c0de-",
            "0198C0DE-0000-7",
            "0198c0de-0000-7000-8000-000000000001",
            "0198c0de-0000-7000…",
        ] {
            assert!(good.parse::<TokenRef>().is_ok(), "{good}");
        }
        for bad in
            ["", "0198c0d", "0198c0deff", "0198c0de-0000-7000-8000-0000000000012", "lk_01234567", "0198c0de "]
        {
            assert!(bad.parse::<TokenRef>().is_err(), "{bad}");
        }
    }
}
