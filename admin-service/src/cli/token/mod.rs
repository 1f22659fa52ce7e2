//! `latchkey token`: one's own tokens, and for administrators everybody's.

mod create;
mod delete_expired;
mod given;
mod import;
mod list;
mod made;
mod reference;
mod revoke;
mod rotate;
mod search;
mod show;
mod update;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use super::remote::{Client, Service};
use super::show::{Column, text, time};
use crate::domain::token::TokenId;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  export LATCHKEY_URL=https://tokens.example.com LATCHKEY_TOKEN_FILE=~/.config/latchkey/token
  TOKEN=$(latchkey token create ci --expires-in 30d)
  latchkey token list
  latchkey token list --user bob --json | jq -r '.items[] | select(.status == \"active\") | .id'
  TOKEN=$(latchkey token rotate 019a2b3c-… --overlap 1h)
  latchkey token revoke 019a2b3c-…")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists a user's tokens
    List(list::Args),
    /// Looks for tokens among those of all users
    Search(search::Args),
    /// Makes a token, and prints it this once
    Create(create::Args),
    /// Shows one token, without its secret
    Show(show::Args),
    /// Changes a token's name, note, scopes, networks or expiry
    Update(update::Args),
    /// Makes a successor with a new secret, prints it this once, and ends the old token
    Rotate(rotate::Args),
    /// Revokes tokens: they are refused from now on, at every edge
    Revoke(revoke::Args),
    /// Stores tokens of another system's by their SHA-256, so that their holders need no others
    Import(import::Args),
    /// Deletes all of a user's expired tokens
    DeleteExpired(delete_expired::Args),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let service = &args.service;
    match &args.command {
        Command::List(args) => list::run(service, args),
        Command::Search(args) => search::run(service, args),
        Command::Create(args) => create::run(service, args),
        Command::Show(args) => show::run(service, args),
        Command::Update(args) => update::run(service, args),
        Command::Rotate(args) => rotate::run(service, args),
        Command::Revoke(args) => revoke::run(service, args),
        Command::Import(args) => import::run(service, args),
        Command::DeleteExpired(args) => delete_expired::run(service, args),
    }
}

/// Whose tokens.
#[derive(clap::Args)]
struct Owner {
    /// Whose; without it, those of the user whose token you have
    #[arg(long, value_name = "NAME")]
    user: Option<UserName>,
}

impl Owner {
    fn name(&self, client: &Client) -> Result<UserName, Failure> {
        #[derive(Deserialize)]
        struct Me {
            name: UserName,
        }
        match &self.user {
            Some(name) => Ok(name.clone()),
            None => client.read("/me").map(|me: Me| me.name),
        }
    }
}

/// The path of a token.
fn path(id: TokenId) -> String {
    format!("/tokens/{id}")
}

/// The path of a user's tokens.
fn path_of_all(user: &UserName) -> String {
    format!("/users/{user}/tokens")
}

/// How a question names a token.
fn described(token: &Value) -> String {
    format!("{} ({}) of {}", text(&token["name"]), text(&token["hint"]), text(&token["user"]))
}

const ID: Column = Column("ID", |token| reference::shown(&text(&token["id"])));
const NAME: Column = Column("NAME", |token| text(&token["name"]));
const HINT: Column = Column("HINT", |token| text(&token["hint"]));
const STATUS: Column = Column("STATUS", |token| text(&token["status"]));
const EXPIRES: Column = Column("EXPIRES", |token| match &token["expires_at"] {
    Value::Null => "never".to_owned(),
    at => time(at),
});
const LAST_USED: Column = Column("LAST USED", |token| time(&token["last_used_at"]));
const SCOPES: Column = Column("SCOPES", |token| text(&token["scopes"]));
