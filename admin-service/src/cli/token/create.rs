//! `latchkey token create`.

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::Owner;
use super::given::Given;
use super::made::Made;
use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::domain::period::Period;
use crate::domain::token::TokenName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  TOKEN=$(latchkey token create ci --expires-in 30d)
  latchkey token create deploy --user bob --scope read --scope write --allowed-cidr 10.0.0.0/8 > bob-token
  latchkey token create ci --json | jq -r .authorization.basic

The token stands alone on a line of stdout, and is never shown again; what is told of it goes to stderr.")]
pub(super) struct Args {
    /// What its owner knows it by; need not be unique
    name: TokenName,

    #[command(flatten)]
    owner: Owner,

    /// How long it lives, such as 30d; without it, as long as the restrictions allow
    #[arg(long, value_name = "PERIOD", conflicts_with = "expires_at")]
    expires_in: Option<Period>,

    /// A scheme that it may be presented with; without it, both
    #[arg(long = "scheme", visible_alias = "schemes", value_name = "SCHEME", value_delimiter = ',')]
    schemes: Vec<Scheme>,

    #[command(flatten)]
    given: Given,
}

/// The schemes by the API's names.
#[derive(Clone, Copy, ValueEnum)]
enum Scheme {
    Bearer,
    Basic,
}

impl Args {
    fn body(&self) -> Value {
        let scheme = |scheme: &Scheme| match scheme {
            Scheme::Bearer => "bearer",
            Scheme::Basic => "basic",
        };
        let mut body = Map::from_iter([("name".to_owned(), Value::from(self.name.as_str()))]);
        self.given.write_to(&mut body);
        if let Some(period) = self.expires_in {
            body.insert("expires_in".to_owned(), period.to_string().into());
        }
        if !self.schemes.is_empty() {
            body.insert("schemes".to_owned(), self.schemes.iter().map(scheme).collect());
        }
        body.into()
    }
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    let path = super::path_of_all(&args.owner.name(&client)?);
    let answer = client.call(Method::POST, &path, &[], Some(&args.body()))?;
    let made = Made::of(&client, &answer)?;
    made.hand_over(service, &answer).map_err(|error| {
        // One that nobody saw is of no use to anybody, and counts against the limit.
        let undone = match client.call(Method::DELETE, &super::path(made.id), &[], None) {
            Ok(_) => "it was revoked; run this again".to_owned(),
            Err(_) => format!("and it could not be revoked: revoke {}", made.id),
        };
        Failure::Failed(format!("the token could not be written to stdout ({error}): {undone}."))
    })
}
