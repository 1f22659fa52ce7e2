//! `latchkey token delete-expired`.

use serde::Deserialize;

use super::Owner;
use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Method, Service};
use crate::cli::show::{note, object};

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
    #[derive(Deserialize)]
    struct Deleted {
        deleted: u64,
    }
    let client = service.client()?;
    args.confirmation
        .ask(|| Ok(format!("Delete all expired tokens of {} for good?", args.owner.name(&client)?)))?;
    let user = args.owner.name(&client)?;
    let answer = client.call(Method::DELETE, &super::path_of_all(&user), &[("status", "expired")], None)?;
    if service.json {
        return object(service, &answer);
    }
    let Deleted { deleted } = client.parsed(&answer)?;
    note(&match deleted {
        1 => format!("1 expired token of {user} is deleted"),
        n => format!("{n} expired tokens of {user} are deleted"),
    });
    Ok(())
}
