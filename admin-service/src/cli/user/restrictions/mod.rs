//! `latchkey user restrictions`: limits of one user's own.

mod set;

use clap::Subcommand;

use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::cli::show::{note, object};
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user restrictions show bob
  latchkey user restrictions set bob --max-tokens-per-user 50
  latchkey user restrictions reset bob")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a user's own limits, and those that hold for it
    #[command(after_help = "Example:\n  latchkey user restrictions show bob")]
    Show(Whose),
    /// Gives a user limits of its own
    Set(set::Args),
    /// Takes a user's own limits away: it has those of everyone again
    #[command(after_help = "Example:\n  latchkey user restrictions reset bob")]
    Reset(Whose),
}

#[derive(clap::Args)]
struct Whose {
    /// The user's name
    name: UserName,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Show(whose) => object(service, &service.client()?.get(&path(&whose.name))?),
        Command::Set(args) => set::run(service, args),
        Command::Reset(whose) => reset(service, &whose.name),
    }
}

fn reset(service: &Service, name: &UserName) -> Result<(), Failure> {
    service.client()?.call(Method::DELETE, &path(name), &[], None)?;
    note(&format!("the user {name} has the limits of everyone"));
    Ok(())
}

fn path(name: &UserName) -> String {
    format!("{}/restrictions", super::path(name))
}
