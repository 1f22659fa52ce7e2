//! `latchkey token rotate`.

use serde_json::{Map, Value};

use super::made::Made;
use super::reference::TokenRef;
use super::{described, path};
use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Method, Service};
use crate::domain::period::Period;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  TOKEN=$(latchkey token rotate 019a2b3c-… --overlap 1h)
  latchkey token rotate 019a2b3c-… --expires-in 90d --yes > token

The new token stands alone on a line of stdout, and is never shown again; in all but its secret and its expiry it is as the old
one. If it was lost on its way, rotate the old one again: while nobody has presented the new one, another takes its place.")]
pub(super) struct Args {
    /// The old token's identifier, or its first characters, 8 at least
    id: TokenRef,

    /// How long the old token goes on working, such as 1h; without it, not at all
    #[arg(long, value_name = "PERIOD")]
    overlap: Option<Period>,

    /// How long the new token lives, such as 90d; without it, as long as the old one was made for
    #[arg(long, value_name = "PERIOD")]
    expires_in: Option<Period>,

    #[command(flatten)]
    confirmation: Confirmation,
}

impl Args {
    fn body(&self) -> Value {
        let given = [("overlap", self.overlap), ("expires_in", self.expires_in)];
        let given = given
            .into_iter()
            .filter_map(|(name, period)| Some((name.to_owned(), period?.to_string().into())));
        given.collect::<Map<_, _>>().into()
    }
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    let id = args.id.resolve(&client)?;
    if args.overlap.is_none_or(Period::is_zero) {
        args.confirmation.ask(|| {
            let old: Value = client.read(&path(id))?;
            Ok(format!("Rotate {}, so that the old one is refused from now on?", described(&old)))
        })?;
    }
    let answer = client.call(Method::POST, &format!("{}/rotate", path(id)), &[], Some(&args.body()))?;
    Made::of(&client, &answer)?.hand_over(service, &answer).map_err(|error| {
        Failure::Failed(format!(
            "the new token could not be written to stdout ({error}): rotate {id} again, and another takes its place."
        ))
    })
}
