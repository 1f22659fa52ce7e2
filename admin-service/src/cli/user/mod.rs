//! `latchkey user`: who tokens act for. For administrators.

mod create;
mod delete;
mod list;
mod restrictions;
mod show;
mod update;

use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::remote::{Method, Service};
use super::show::object;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  export LATCHKEY_URL=https://tokens.example.com LATCHKEY_TOKEN_FILE=~/.config/latchkey/token
  latchkey user create bob --display-name 'Bob Example'
  latchkey user disable bob                    refuses all of bob's tokens at once; `enable` lets them work again
  latchkey user list --json | jq -r '.items[].name'")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the users
    List(list::Args),
    /// Shows one user
    Show(show::Args),
    /// Makes a user
    Create(create::Args),
    /// Changes a user
    Update(update::Args),
    /// Refuses all of a user's tokens at once, at every edge, until it is enabled
    Disable(update::Switch),
    /// Lets a disabled user's tokens work again
    Enable(update::Switch),
    /// Limits of one user's own, in place of those for everyone
    Restrictions(restrictions::Args),
    /// Deletes a user for good, and refuses all its tokens at once
    Delete(delete::Args),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let service = &args.service;
    match &args.command {
        Command::List(args) => list::run(service, args),
        Command::Show(args) => show::run(service, args),
        Command::Create(args) => create::run(service, args),
        Command::Update(args) => update::run(service, args),
        Command::Disable(args) => update::switch(service, args, false),
        Command::Enable(args) => update::switch(service, args, true),
        Command::Restrictions(args) => restrictions::run(service, args),
        Command::Delete(args) => delete::run(service, args),
    }
}

/// The path of a user. A name needs no encoding.
fn path(name: &UserName) -> String {
    format!("/users/{name}")
}

/// Sends a change and shows the user that it made.
fn change(service: &Service, method: Method, path: &str, body: &Value) -> Result<(), Failure> {
    object(service, &service.client()?.call(method, path, &[], Some(body))?)
}
