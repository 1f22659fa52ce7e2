//! `latchkey scheduler`: what deletes expired tokens.

use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::remote::{Client, Method, Service};
use super::show::{Progress, harmless, note, object, print};

/// How often a run that goes on is looked at.
const LOOK: Duration = Duration::from_millis(500);

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
    /// Deletes now what is due, and waits until that is done
    #[command(after_help = "Example:\n  latchkey scheduler run")]
    Run,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = args.service.client()?;
    match args.command {
        Command::Show => object(&args.service, &client.get("/scheduler")?),
        Command::Run => {
            let answer = client.call(Method::POST, "/scheduler/run", &[], None)?;
            if answer.status != 202 {
                return object(&args.service, &answer);
            }
            let deleted = ended(&client)?;
            if args.service.json {
                return print(format!("{}\n", json!({"finished": true, "deleted": deleted})));
            }
            note(&format!("the run has ended: {deleted} tokens are deleted"));
            Ok(())
        }
    }
}

/// Waits until the run that goes on has ended, and gives how many tokens it has deleted.
fn ended(client: &Client) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct State {
        deleted_so_far: Option<u64>,
        last_deleted: Option<u64>,
        last_error: Option<String>,
    }
    let progress = Progress::of("tokens");
    loop {
        let state: State = client.read("/scheduler")?;
        match (state.deleted_so_far, state.last_error) {
            (Some(so_far), _) => progress.at(so_far, None),
            (None, Some(error)) => {
                return Err(Failure::Failed(format!(
                    "the run has failed: {}. What it had deleted stays deleted; run it again.",
                    harmless(&error)
                )));
            }
            (None, None) => return Ok(state.last_deleted.unwrap_or_default()),
        }
        std::thread::sleep(LOOK);
    }
}
