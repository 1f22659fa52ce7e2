//! `latchkey token import`.

mod file;
mod send;
mod shape;

use serde_json::json;

use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::{note, print};
use crate::domain::token::TokenName;
use crate::domain::user::UserName;
use file::{Entry, File};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token import --user bob tokens.jsonl
  some-export | latchkey token import --user bob -
  latchkey token import --user bob --plain --name 'from Jira' tokens.txt

Each line is a JSON object, of `token_hash` (the SHA-256 of the token, 64 hexadecimal digits) and `name`; and if you like
`hint`, `description`, `schemes`, `scopes`, `allowed_cidrs`, `created_at`, and `expires_in` or `expires_at`:
  {\"token_hash\": \"2c26b46b68ff…\", \"name\": \"ci\", \"scopes\": [\"read\"], \"expires_in\": \"90d\"}

A `token` in the place of `token_hash` is hashed here, and does not leave this machine; with --plain each line is nothing but
that. Its first characters become the hint. The whole file is checked before anything is sent, and all that is wrong is told at
once; then 1000 tokens at a time are sent, all of them or none. What the user has already stays as it is, and a line that is
repeated counts once, so that an import can be repeated. A gateway serves tokens of 1 to 256 bytes of visible ASCII without a
comma; those that do not look like the service's own it looks up with `token_prefix: null` only.")]
pub(super) struct Args {
    /// A file of one token per line; `-` is stdin
    file: String,

    /// Whose tokens they become
    #[arg(long, value_name = "NAME")]
    user: UserName,

    /// Import them even where they last longer, or are more, than the restrictions allow
    #[arg(long)]
    ignore_restrictions: bool,

    /// Each line is the token itself
    #[arg(long)]
    plain: bool,

    /// What such tokens are called; without it, imported
    #[arg(long, value_name = "NAME", requires = "plain")]
    name: Option<TokenName>,

    /// Check the file, and send nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    // All of it, before anything is imported: a line that cannot be read is better known first.
    let entries = File::new(&args.file, args.plain, args.name.as_ref()).entries()?;
    if args.dry_run {
        return checked(service, args, &entries);
    }
    let client = service.client()?;
    let imported = send::all(&client, args, &entries)?;
    if service.json {
        return print(imported.json());
    }
    note(&imported.told(&args.user));
    warn_of_foreign(&entries);
    Ok(())
}

/// Says that a file can be imported, as far as that is known here.
fn checked(service: &Service, args: &Args, entries: &[Entry]) -> Result<(), Failure> {
    if service.json {
        return print(format!("{}\n", json!({ "dry_run": true, "tokens": entries.len() })));
    }
    let tokens = send::tokens(entries.len());
    note(&format!("{} holds {tokens} for {}; nothing is imported", args.file, args.user));
    warn_of_foreign(entries);
    Ok(())
}

/// Says that some tokens are not looked up by filters as they are set up by default.
fn warn_of_foreign(entries: &[Entry]) {
    let count = entries.iter().filter(|entry| entry.foreign).count();
    if count > 0 {
        let (are, as_they) = if count == 1 { ("is", "it is") } else { ("are", "they are") };
        note(&format!(
            "{} {are} not shaped as Latchkey's own: {as_they} refused by gateways unless their filter has `token_prefix: null`",
            send::tokens(count)
        ));
    }
}
