//! `latchkey scheduler`: what deletes expired tokens.

use clap::Subcommand;

use super::Failure;
use super::remote::{Method, Service};
use super::show::{note, object};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey scheduler show
  latchkey scheduler run

How long expired tokens are kept is part of the restrictions: `latchkey restrictions set --delete-expired-after 7d`.")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows its settings, its last run and its next
    #[command(after_help = "Example:\n  latchkey scheduler show --json | jq -r .next_run_at")]
    Show,
    /// Deletes now what is due
    #[command(after_help = "Example:\n  latchkey scheduler run")]
    Run,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = args.service.client()?;
    match args.command {
        Command::Show => object(&args.service, &client.get("/scheduler")?),
        Command::Run => {
            let answer = client.call(Method::POST, "/scheduler/run", &[], None)?;
            if answer.status == 202 {
                note("the run goes on; `latchkey scheduler show` tells when it has ended");
            }
            object(&args.service, &answer)
        }
    }
}
