//! `latchkey token search`.

use super::{EXPIRES, HINT, ID, LAST_USED, NAME, SCOPES, STATUS};
use crate::cli::Failure;
use crate::cli::moment::Moment;
use crate::cli::remote::Service;
use crate::cli::show::{Column, List, text};
use crate::clock::Sources;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token search deploy
  latchkey token search --status active --expires-before 7d
  latchkey token search --last-used-before 90d --json | jq -r '.items[].id' | xargs latchkey token revoke --yes

For administrators. Those that expire first come first where --expires-before is given, else the oldest.")]
pub(super) struct Args {
    /// With this text in their name, note or hint, or in the name of their user
    text: Option<String>,

    /// Of this user
    #[arg(long, value_name = "NAME")]
    user: Option<UserName>,

    /// With this status
    #[arg(long, value_name = "STATUS", value_parser = ["active", "expired", "revoked"])]
    status: Option<String>,

    /// That expire before this time, or within so long, such as 7d
    #[arg(long, value_name = "TIME|PERIOD")]
    expires_before: Option<Moment>,

    /// That were last used before this time, or not for so long, such as 90d
    #[arg(long, value_name = "TIME|PERIOD")]
    last_used_before: Option<Moment>,

    /// How many at most; without it, all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Args {
    fn query(&self) -> Vec<(&'static str, String)> {
        let now = Sources::system().now();
        let given = [
            ("q", self.text.clone()),
            ("user", self.user.as_ref().map(ToString::to_string)),
            ("status", self.status.clone()),
            ("expires_before", self.expires_before.map(|moment| moment.ahead(now).to_string())),
            ("last_used_before", self.last_used_before.map(|moment| moment.ago(now).to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

const COLUMNS: &[Column] =
    &[ID, Column("USER", |token| text(&token["user"])), NAME, HINT, STATUS, EXPIRES, LAST_USED, SCOPES];

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let list = List {
        path: "/tokens",
        query: &args.query(),
        most: args.limit,
        what: "such tokens",
        columns: COLUMNS,
    };
    list.show(service, &service.client()?)
}
