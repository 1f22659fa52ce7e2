//! `latchkey token update`.

use serde_json::{Map, Value};

use super::given::Given;
use super::reference::TokenRef;
use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::cli::show::object;
use crate::domain::token::TokenName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey token update 019a2b3c-… --name deploy --description 'of the build server'
  latchkey token update 019a2b3c-… --scope read --allowed-cidr 10.0.0.0/8
  latchkey token update 019a2b3c-… --expires-at 2030-12-31T00:00:00Z

What is not given stays as it is; scopes and networks take the place of those there were. The secret stays the same.")]
pub(super) struct Args {
    /// The token's identifier, or its first characters, 8 at least
    id: TokenRef,

    /// What its owner knows it by
    #[arg(long, value_name = "TEXT")]
    name: Option<TokenName>,

    #[command(flatten)]
    given: Given,

    /// It permits nothing but what needs no scope
    #[arg(long, conflicts_with = "scopes")]
    no_scopes: bool,

    /// Remove the note
    #[arg(long, conflicts_with = "description")]
    no_description: bool,

    /// It expires as late as the restrictions allow, counted from when it was made
    #[arg(long, conflicts_with = "expires_at")]
    expires_latest: bool,
}

impl Args {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(name) = &self.name {
            body.insert("name".to_owned(), name.as_str().into());
        }
        self.given.write_to(&mut body);
        let emptied = [
            ("scopes", self.no_scopes, Value::Array(Vec::new())),
            ("description", self.no_description, Value::Null),
            ("expires_at", self.expires_latest, Value::Null),
        ];
        body.extend(
            emptied
                .into_iter()
                .filter(|(_, emptied, _)| *emptied)
                .map(|(name, _, value)| (name.to_owned(), value)),
        );
        body
    }
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let body = args.body();
    if body.is_empty() {
        return Err(Failure::Usage(
            "nothing to change is given; --help lists what can be changed.".to_owned(),
        ));
    }
    let client = service.client()?;
    let path = super::path(args.id.resolve(&client)?);
    object(service, &client.call(Method::PATCH, &path, &[], Some(&body.into()))?)
}
