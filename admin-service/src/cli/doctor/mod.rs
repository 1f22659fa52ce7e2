//! `latchkey doctor`: what is wrong, and what to do about it. It changes nothing.

mod clock;
mod configuration;
mod database;
mod edge;
mod finding;
mod limits;
mod running;
mod secret;
mod unauthorized;

use std::time::Duration;

use super::remote::base_url;
use super::show::print;
use super::{Failure, block_on};
use crate::clock::Sources;
use crate::config::ServeArgs;
use finding::Findings;

/// How long a service may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey doctor                                    with the flags and variables that `latchkey serve` has
  latchkey doctor --database-url-file /run/secrets/database-url --edge-secret-file /run/secrets/edge
  latchkey doctor --url https://tokens.example.com --edge-url http://latchkey:8101
  latchkey doctor --json | jq '.findings[] | select(.status != \"ok\")'

It changes nothing, and works while the service runs. Exit code 1: something is wrong; warnings are no such thing.")]
pub(super) struct Args {
    #[command(flatten)]
    serve: ServeArgs,

    /// Where the management API of a running service is; without it, --listen
    #[arg(long, env = "LATCHKEY_URL", value_name = "URL", value_parser = base_url)]
    url: Option<String>,

    /// Where the edge API of a running service is; without it, --edge-listen
    #[arg(long, env = "LATCHKEY_EDGE_URL", value_name = "URL", value_parser = base_url)]
    edge_url: Option<String>,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let sources = Sources::system();
    let mut findings = Findings::default();
    configuration::check(&args.serve, &mut findings);
    let secrets = secret::check(&args.serve, &mut findings);
    let database = block_on(async { Ok(database::check(&args.serve, &sources, &mut findings).await) })?;
    running::check(args, &secrets, database.as_ref(), &sources, &mut findings);
    print(&if args.json { findings.json() } else { findings.text() })?;
    match findings.problems() {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 thing is wrong.".to_owned())),
        n => Err(Failure::Failed(format!("{n} things are wrong."))),
    }
}
