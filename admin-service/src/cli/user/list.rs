//! `latchkey user list`.

use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::{Column, List, text};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user list
  latchkey user list --json | jq -r '.items[] | select(.active) | .name'")]
pub(super) struct Args {
    /// How many at most; without it, all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

const COLUMNS: &[Column] = &[
    Column("NAME", |user| text(&user["name"])),
    Column("DISPLAY NAME", |user| text(&user["displayName"])),
    Column("EMAIL ADDRESS", |user| text(&user["emailAddress"])),
    Column("TIME ZONE", |user| text(&user["timeZone"])),
    Column("STATE", |user| state(user["active"] == true, user["deleted"] == true).to_owned()),
];

fn state(active: bool, deleted: bool) -> &'static str {
    match (active, deleted) {
        (_, true) => "deleted",
        (true, false) => "active",
        (false, false) => "disabled",
    }
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    List { path: "/users", query: &[], most: args.limit, what: "users", columns: COLUMNS }
        .show(service, &service.client()?)
}
