//! `latchkey token show`.

use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::object;
use crate::domain::token::TokenId;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token show 019a2b3c-…
  latchkey token show 019a2b3c-… --json | jq .expires_in_seconds")]
pub(super) struct Args {
    /// The token's identifier, as `token list` shows it
    id: TokenId,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    object(service, &service.client()?.get(&super::path(args.id))?)
}
