//! `latchkey user delete`.

use serde_json::Value;

use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Method, Service};
use crate::cli::show::{note, text};
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user delete bob
  latchkey user delete bob --yes

It cannot be undone. The name stays taken until the scheduler prunes the user (restrictions: delete expired after). `latchkey user disable` refuses the tokens as well, and can be undone.")]
pub(super) struct Args {
    /// The user's name
    name: UserName,

    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let (client, path) = (service.client()?, super::path(&args.name));
    args.confirmation.ask(|| client.read(&path).map(|user| question(&user)))?;
    client.call(Method::DELETE, &path, &[], None)?;
    note(&format!("the user {} is deleted, and all its tokens are refused", args.name));
    Ok(())
}

fn question(user: &Value) -> String {
    let (name, shown) = (text(&user["name"]), text(&user["displayName"]));
    format!("Delete the user {name} ({shown}) for good, and refuse all its tokens?")
}
