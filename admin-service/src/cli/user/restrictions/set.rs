//! `latchkey user restrictions set`.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::cli::Failure;
use crate::cli::remote::{Method, Service};
use crate::cli::restrictions::{Limit, limit};
use crate::domain::period::Period;
use crate::domain::user::UserName;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey user restrictions set bob --max-tokens-per-user 50
  latchkey user restrictions set bob --max-lifetime none --max-tokens-per-user everyone

What is not given stays as it is. Limits hold for what is made from now on; a token that there is stays as it is.")]
pub(super) struct Args {
    /// The user's name
    name: UserName,

    /// The longest lifetime of its tokens, such as 30d; none: no limit; everyone: that of everyone
    #[arg(long, value_name = "PERIOD|none|everyone", value_parser = own_limit::<Period>)]
    max_lifetime: Option<OwnLimit<Period>>,

    /// The most live tokens that it may have; 0: it makes none; none: no limit; everyone: as many as everyone
    #[arg(long, value_name = "N|none|everyone", value_parser = own_limit::<u32>)]
    max_tokens_per_user: Option<OwnLimit<u32>>,
}

/// A limit of a user's own.
#[derive(Clone, Copy)]
enum OwnLimit<T> {
    /// It has none: that of everyone holds.
    Everyones,
    Own(Limit<T>),
}

fn own_limit<T: FromStr<Err: Display>>(text: &str) -> Result<OwnLimit<T>, String> {
    match text {
        "everyone" => Ok(OwnLimit::Everyones),
        text => limit(text).map(OwnLimit::Own).map_err(|problem| format!("{problem}, or everyone")),
    }
}

/// Writes a limit into the user's own, if it is given.
fn write<T>(own: &mut Map<String, Value>, name: &str, given: Option<OwnLimit<T>>, value: fn(T) -> Value) {
    match given {
        None => {}
        Some(OwnLimit::Everyones) => drop(own.remove(name)),
        Some(OwnLimit::Own(Limit(most))) => drop(own.insert(name.to_owned(), most.map(value).into())),
    }
}

#[derive(serde::Deserialize)]
struct Limits {
    own: Map<String, Value>,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let path = super::path(&args.name);
    let Limits { own: before } = service.client()?.read(&path)?;
    let mut own = before.clone();
    write(&mut own, "max_lifetime", args.max_lifetime, |period| period.to_string().into());
    write(&mut own, "max_tokens_per_user", args.max_tokens_per_user, Value::from);
    if own == before {
        return Err(Failure::Usage(
            "nothing to change is given, or all of it is so already; `latchkey user restrictions show` tells."
                .to_owned(),
        ));
    }
    crate::cli::user::change(service, Method::PUT, &path, &own.into())
}
