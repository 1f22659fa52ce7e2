//! Where the service is and who asks: flags of every command that speaks to it, and the token, which is none.

use std::env::{VarError, var};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::client::Client;
use crate::api::BASE;
use crate::cli::Failure;
use crate::cli::variables::empty_variable;
use crate::config::{public_url, read_secret_file};
use crate::domain::invisible::{Invisible, without_mark};

/// Where `latchkey serve` listens by default.
pub(in crate::cli) const DEFAULT_URL: &str = "http://127.0.0.1:8100";
/// The variable that holds the token.
const TOKEN: &str = "LATCHKEY_TOKEN";
/// The variable that names the token's file.
const TOKEN_FILE: &str = "LATCHKEY_TOKEN_FILE";
/// Over these flags in the help of a command.
const HEADING: &str = "The service, and who asks";

/// Where the service is, and who asks.
#[derive(clap::Args)]
pub(in crate::cli) struct Service {
    /// Where the management API is
    #[arg(long, global = true, env = "LATCHKEY_URL", value_name = "URL", default_value = DEFAULT_URL,
        value_parser = base_url, help_heading = HEADING)]
    pub(in crate::cli) url: String,

    /// A file that holds your token.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = HEADING,
        help = "A file that holds your token; without it LATCHKEY_TOKEN is the token, or LATCHKEY_TOKEN_FILE names \
        the file. There is no flag for the token itself: others can see command lines"
    )]
    token_file: Option<PathBuf>,

    /// Print the API's JSON, for programs
    #[arg(long, global = true, help_heading = HEADING)]
    pub(in crate::cli) json: bool,
}

/// A token, and what it was read from.
pub(super) struct Token {
    pub value: SecretString,
    pub source: String,
}

impl Service {
    /// A client with the caller's token.
    pub(in crate::cli) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.token()?)
    }

    fn token(&self) -> Result<Token, Failure> {
        if let Some(path) = &self.token_file {
            return token_of_file("--token-file", path);
        }
        match (variable(TOKEN)?, variable(TOKEN_FILE)?) {
            (Some(_), Some(_)) => Err(Failure::Usage(format!(
                "{TOKEN} and {TOKEN_FILE} are both set; unset the one that you do not mean."
            ))),
            (Some(text), None) => checked(&text.into(), TOKEN.to_owned()),
            (None, Some(path)) => token_of_file(TOKEN_FILE, Path::new(&path)),
            (None, None) => Err(Failure::Usage(format!(
                "this needs your token: set {TOKEN}, or name a file that holds it by --token-file or {TOKEN_FILE}."
            ))),
        }
    }
}

/// The value of a variable. One that is set and empty is a mistake, as everywhere.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match var(name) {
        Ok(text) if text.trim().is_empty() => Err(Failure::Usage(empty_variable(name))),
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name} is no text."))),
    }
}

fn token_of_file(flag: &'static str, path: &Path) -> Result<Token, Failure> {
    checked(&read_secret_file(flag, path)?, format!("the file {}", path.display()))
}

/// The token in a text, which holds nothing else: what follows it would go out with it.
fn checked(text: &SecretString, source: String) -> Result<Token, Failure> {
    let token = without_mark(text.expose_secret()).trim();
    if let Some(found) = Invisible::first_in(token) {
        return Err(Failure::Usage(format!(
            "{source} must hold one token and nothing else, and has {found}."
        )));
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!("{source} must hold one token and nothing else.")));
    }
    Ok(Token { value: token.into(), source })
}

/// The URL of a service. One of its API is as good.
pub(in crate::cli) fn base_url(text: &str) -> Result<String, String> {
    let url = public_url(text)?;
    Ok(url.strip_suffix(BASE).unwrap_or(&url).trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_api_is_as_good_as_that_of_the_service() {
        for url in ["https://h/base", "https://h/base/", "https://h/base/api/v1", "https://h/base/api/v1/"] {
            assert_eq!(base_url(url).as_deref(), Ok("https://h/base"));
        }
        assert!(base_url("h:8100").is_err());
    }

    #[test]
    fn a_token_stands_alone() {
        let token = |text: &str| checked(&text.into(), "it".to_owned()).ok();
        assert_eq!(
            token(" lk_x\n").map(|token| token.value.expose_secret().to_owned()).as_deref(),
            Some("lk_x")
        );
        assert_eq!(
            token("\u{feff}lk_x\r\n").map(|token| token.value.expose_secret().to_owned()).as_deref(),
            Some("lk_x")
        );
        let Err(Failure::Usage(refused)) = checked(&"lk_\u{200b}x".into(), "it".to_owned()) else {
            panic!("taken")
        };
        assert_eq!(
            refused,
            "it must hold one token and nothing else, and has U+200B ZERO WIDTH SPACE at column 4."
        );
        for bad in ["", "\n", "lk_x\u{a0}y", "lk_x lk_y", "lk_x\nlk_y", "lk_é"] {
            assert!(token(bad).is_none(), "{bad:?}");
        }
    }
}
