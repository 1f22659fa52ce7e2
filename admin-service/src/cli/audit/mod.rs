//! `latchkey audit`: who did what, when and from where. For administrators.

mod changes;
mod export;
mod filter;
mod list;

use clap::Subcommand;

use super::Failure;
use super::remote::Service;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey audit list --since 24h
  latchkey audit list --actor bob --action token.created
  latchkey audit export --since 2026-01-01T00:00:00Z > audit.jsonl")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists what was done, the latest first
    List(list::Args),
    /// Writes all of it as JSON Lines, the oldest first
    Export(export::Args),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(list) => list::run(&args.service, list),
        Command::Export(export) => export::run(&args.service, export),
    }
}
