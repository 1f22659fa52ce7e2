//! `latchkey token revoke`.

use serde_json::Value;

use super::reference::TokenRef;
use super::{described, path};
use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Client, Method, Service};
use crate::cli::show::note;
use crate::domain::token::TokenId;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token revoke 019a2b3c-…
  latchkey token revoke 019a2b3c-… --with-descendants     a token that leaked, with all that it made
  latchkey token list --user bob --json | jq -r '.items[].id' | xargs latchkey token revoke --yes

It cannot be undone. To revoke a token again does nothing.")]
pub(super) struct Args {
    /// Their identifiers, or their first characters, 8 at least
    #[arg(required = true, value_name = "ID")]
    ids: Vec<TokenRef>,

    /// Also revoke all tokens that were made with them, all that were made with those, and so on
    #[arg(long)]
    with_descendants: bool,

    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    let ids = args.ids.iter().map(|id| id.resolve(&client)).collect::<Result<Vec<_>, _>>()?;
    args.confirmation.ask(|| question(&client, &ids, args.with_descendants))?;
    let query: &[_] = if args.with_descendants { &[("with_descendants", "true")] } else { &[] };
    let with = if args.with_descendants { ", with all that it made" } else { "" };
    for id in &ids {
        client.call(Method::DELETE, &path(*id), query, None)?;
        note(&format!("the token {id} is revoked{with}"));
    }
    Ok(())
}

fn question(client: &Client, ids: &[TokenId], with_descendants: bool) -> Result<String, Failure> {
    let described = |id: &TokenId| client.read(&path(*id)).map(|token: Value| described(&token));
    let tokens: Vec<String> = ids.iter().map(described).collect::<Result<_, _>>()?;
    let with = if with_descendants { ", with all tokens that were made with them," } else { "" };
    Ok(format!("Revoke {}{with} for good?", tokens.join(", ")))
}
