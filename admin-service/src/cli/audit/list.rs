//! `latchkey audit list`.

use std::io::{IsTerminal, stdout};

use super::changes::changes;
use super::filter::Filter;
use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::{Column, List, text, time};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey audit list --limit 20
  latchkey audit list --since 24h --action token.created
  latchkey audit list --subject bob --json | jq -r '.items[] | [.at, .actor, .action] | @tsv'")]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,

    /// How many at most; without it, 50 on a terminal and else all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// How many entries a terminal gets where nothing is said.
const ON_TERMINAL: u64 = 50;

const COLUMNS: &[Column] = &[
    Column("AT", |entry| time(&entry["at"])),
    Column("ACTOR", |entry| text(&entry["actor"])),
    Column("ACTION", |entry| text(&entry["action"])),
    Column("SUBJECT", |entry| text(&entry["subject"])),
    Column("ADDRESS", |entry| text(&entry["address"])),
    Column("CHANGES", |entry| changes(&entry["details"])),
];

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let list = List {
        path: "/audit",
        query: &args.filter.query(),
        most: args.limit.or_else(|| stdout().is_terminal().then_some(ON_TERMINAL)),
        what: "entries",
        columns: COLUMNS,
    };
    list.show(service, &service.client()?)
}
