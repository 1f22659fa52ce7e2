//! `latchkey user update`, `disable` and `enable`.

use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::domain::user::{DisplayName, EmailAddress, TimeZoneName, UserName};

/// What a user has beside its name.
#[derive(clap::Args)]
pub(super) struct Fields {
    /// The name that people see
    #[arg(long, value_name = "TEXT")]
    display_name: Option<DisplayName>,

    /// Where the user gets mail
    #[arg(long, value_name = "ADDRESS")]
    email_address: Option<EmailAddress>,

    /// A name of the IANA time zone database, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<TimeZoneName>,
}

impl Fields {
    /// Writes those that are given, by the API's names.
    pub fn write_to(&self, body: &mut Map<String, Value>) {
        let given = [
            ("displayName", self.display_name.as_ref().map(DisplayName::as_str)),
            ("emailAddress", self.email_address.as_ref().map(EmailAddress::as_str)),
            ("timeZone", self.time_zone.as_ref().map(TimeZoneName::as_str)),
        ];
        body.extend(
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))),
        );
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user update bob --display-name 'Bob B. Example'
  latchkey user update bob --no-email-address

What is not given stays as it is.")]
pub(super) struct Args {
    /// The user's name
    name: UserName,

    #[command(flatten)]
    fields: Fields,

    /// Forget where the user gets mail
    #[arg(long, conflicts_with = "email_address")]
    no_email_address: bool,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let mut body = Map::new();
    args.fields.write_to(&mut body);
    if args.no_email_address {
        body.insert("emailAddress".to_owned(), Value::Null);
    }
    if body.is_empty() {
        return Err(Failure::Usage(
            "nothing to change is given; --help lists what can be changed.".to_owned(),
        ));
    }
    super::change(service, Method::PATCH, &super::path(&args.name), &body.into())
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user disable bob
  latchkey user enable bob")]
pub(super) struct Switch {
    /// The user's name
    name: UserName,
}

pub(super) fn switch(service: &Service, args: &Switch, active: bool) -> Result<(), Failure> {
    super::change(service, Method::PATCH, &super::path(&args.name), &json!({"active": active}))
}
