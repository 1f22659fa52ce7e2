//! `latchkey token delete-expired`.

use serde::Deserialize;
use serde_json::json;

use super::Owner;
use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Client, Method, Service};
use crate::cli::show::{Progress, note, print};

/// How many one request deletes.
const BATCH: u64 = 5_000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token delete-expired
  latchkey token delete-expired --user bob --yes

It cannot be undone. The scheduler does the same for all users, some time after a token has expired.")]
pub(super) struct Args {
    #[command(flatten)]
    owner: Owner,

    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    args.confirmation
        .ask(|| Ok(format!("Delete all expired tokens of {} for good?", args.owner.name(&client)?)))?;
    let user = args.owner.name(&client)?;
    let deleted = delete_all(&client, &super::path_of_all(&user))?;
    if service.json {
        return print(format!("{}\n", json!({ "deleted": deleted })));
    }
    note(&match deleted {
        1 => format!("1 expired token of {user} is deleted"),
        n => format!("{n} expired tokens of {user} are deleted"),
    });
    Ok(())
}

/// Deletes them, some at a time, so that no request takes long.
fn delete_all(client: &Client, path: &str) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Deleted {
        deleted: u64,
        /// Not told by older services.
        more: Option<bool>,
    }
    let progress = Progress::of("tokens");
    let limit = BATCH.to_string();
    let query = [("status", "expired"), ("limit", limit.as_str())];
    let mut all = 0;
    loop {
        let Deleted { deleted, more } = client.parsed(&client.call(Method::DELETE, path, &query, None)?)?;
        all += deleted;
        progress.at(all, None);
        if !more.unwrap_or(deleted >= BATCH) {
            return Ok(all);
        }
    }
}
