//! `latchkey token show`.

use super::reference::TokenRef;
use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::object;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token show 019a2b3c-…
  latchkey token show 019a2b3c-… --json | jq .expires_in_seconds")]
pub(super) struct Args {
    /// The token's identifier, or its first characters, 8 at least
    id: TokenRef,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    object(service, &client.get(&super::path(args.id.resolve(&client)?))?)
}
