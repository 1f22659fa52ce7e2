//! `latchkey me`: whose token this is, and what it permits.

use serde_json::Value;

use super::Failure;
use super::remote::{Method, Service};
use super::show::{fields, object, print};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey me
  latchkey me --json | jq -r .name
  latchkey me --json | jq -r .token.expires_at")]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = args.service.client()?;
    let user = client.get("/me")?;
    let token = client.ask(Method::GET, "/tokens/self", &[], None)?;
    // A service of an earlier version does not tell.
    let is_token = token.status.is_success()
        && serde_json::from_str::<Value>(&token.text).is_ok_and(|it| it.get("hint").is_some());
    let token = is_token.then(|| token.text.trim_end());
    let text = user.text.trim_end();
    match (token, text.strip_suffix('}')) {
        (Some(token), Some(open)) if args.service.json => print(format!("{open},\"token\":{token}}}\n")),
        (Some(token), _) => print(format!("{}\nIts token:\n{}", fields(text), fields(token))),
        (None, _) => object(&args.service, &user),
    }
}
