//! `latchkey token list`.

use super::{EXPIRES, HINT, ID, LAST_USED, NAME, Owner, SCOPES, STATUS};
use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::{Column, List};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token list
  latchkey token list --user bob
  latchkey token list --json | jq -r '.items[] | select(.status == \"active\") | .name'

With those that are expired or revoked and not deleted yet; the oldest first.")]
pub(super) struct Args {
    #[command(flatten)]
    owner: Owner,

    /// How many at most; without it, all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

const COLUMNS: &[Column] = &[ID, NAME, HINT, STATUS, EXPIRES, LAST_USED, SCOPES];

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    let path = super::path_of_all(&args.owner.name(&client)?);
    List { path: &path, query: &[], most: args.limit, what: "tokens", columns: COLUMNS }
        .show(service, &client)
}
