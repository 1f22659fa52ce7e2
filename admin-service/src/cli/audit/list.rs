//! `latchkey audit list`.

use crate::cli::Failure;
use crate::cli::moment::Moment;
use crate::cli::remote::Service;
use crate::cli::show::{Column, List, text, time};
use crate::clock::Sources;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey audit list --limit 20
  latchkey audit list --since 24h --action token.created
  latchkey audit list --subject bob --json | jq -r '.items[] | [.at, .actor, .action] | @tsv'")]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,

    /// How many at most; without it, all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Which entries: those that meet all that is given.
#[derive(clap::Args)]
pub(super) struct Filter {
    /// By this user, system:scheduler or system:bootstrap
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,

    /// Of this kind, such as token.created
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,

    /// To this: a user's name, a token's identifier, restrictions or scheduler
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// Not before this time, such as 2026-01-31T00:00:00Z, or so long ago, such as 24h
    #[arg(long, value_name = "TIME|PERIOD")]
    since: Option<Moment>,
}

impl Filter {
    /// The query of those that are given.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let since = self.since.map(|since| since.ago(Sources::system().now()).to_string());
        let given = [
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("subject", self.subject.clone()),
            ("since", since),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

const COLUMNS: &[Column] = &[
    Column("AT", |entry| time(&entry["at"])),
    Column("ACTOR", |entry| text(&entry["actor"])),
    Column("ACTION", |entry| text(&entry["action"])),
    Column("SUBJECT", |entry| text(&entry["subject"])),
    Column("ADDRESS", |entry| text(&entry["address"])),
    Column("DETAILS", |entry| text(&entry["details"])),
];

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let query = args.filter.query();
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let list = List { path: "/audit", query: &query, most: args.limit, what: "entries", columns: COLUMNS };
    list.show(service, &service.client()?)
}
