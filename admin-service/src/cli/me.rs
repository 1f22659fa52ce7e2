//! `latchkey me`: whose token this is.

use super::Failure;
use super::remote::Service;
use super::show::object;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey me
  latchkey me --json | jq -r .name")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    object(&args.service, &args.service.client()?.get("/me")?)
}
