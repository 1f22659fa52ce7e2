//! `latchkey user create`.

use serde_json::{Map, Value};

use super::update::Fields;
use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user create bob
  latchkey user create carol --display-name 'Carol Example' --email-address carol@example.com --time-zone Europe/Berlin")]
pub(super) struct Args {
    /// The unique name: 1 to 64 of a-z 0-9 . _ @ -, the first a letter or digit. It cannot be changed
    name: UserName,

    #[command(flatten)]
    fields: Fields,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let mut body = Map::from_iter([("name".to_owned(), Value::from(args.name.as_str()))]);
    args.fields.write_to(&mut body);
    super::change(service, Method::POST, "/users", &body.into())
}
