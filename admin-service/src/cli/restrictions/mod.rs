//! `latchkey restrictions`: the administrator's limits.

mod limit;
mod set;
mod tighter;

use clap::Subcommand;

pub(super) use limit::{Limit, limit};

use super::Failure;
use super::remote::Service;
use super::show::object;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey restrictions show
  latchkey restrictions set --max-lifetime 90d --max-tokens-per-user 5 --dry-run")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the limits in force
    #[command(after_help = "Example:\n  latchkey restrictions show --json > restrictions.json")]
    Show,
    /// Sets limits, having told what exceeds tighter ones
    Set(set::Args),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Show => object(&args.service, &args.service.client()?.get(PATH)?),
        Command::Set(set) => set::run(&args.service, set),
    }
}

/// Where they are.
const PATH: &str = "/restrictions";
