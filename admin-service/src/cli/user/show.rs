//! `latchkey user show`.

use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::object;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  latchkey user show bob")]
pub(super) struct Args {
    /// The user's name
    name: UserName,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    object(service, &service.client()?.get(&super::path(&args.name))?)
}
