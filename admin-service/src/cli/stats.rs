//! `latchkey stats`: how the service is used. For administrators.

use super::Failure;
use super::remote::{Method, Service};
use super::show::object;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey stats
  latchkey stats --hours 168
  latchkey stats --json | jq .expiring_in_7_days")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,

    /// How many hours of requests to list; the last one is not over yet
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(u16).range(1..))]
    hours: u16,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let hours = args.hours.to_string();
    object(&args.service, &args.service.client()?.call(Method::GET, "/stats", &[("hours", &hours)], None)?)
}
