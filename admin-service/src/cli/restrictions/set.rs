//! `latchkey restrictions set`.

use serde_json::{Map, Value};

use super::tighter::is_tighter;
use super::{Limit, PATH, limit};
use crate::cli::Failure;
use crate::cli::confirm::Confirmation;
use crate::cli::remote::{Method, Service};
use crate::cli::show::{fields, note, object};
use crate::domain::period::Period;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey restrictions set --max-lifetime 90d --dry-run         tells what exceeds it
  latchkey restrictions set --max-lifetime 90d
  latchkey restrictions set --max-lifetime 90d --apply-to-existing --dry-run
  latchkey restrictions set --max-lifetime 90d --apply-to-existing
  latchkey restrictions set --max-tokens-per-user none --yes
  latchkey restrictions set --delete-expired on --delete-expired-after 7d

What is not given stays as it is. Limits hold for what is made from now on; existing tokens keep their expiry unless
--apply-to-existing is given.")]
pub(super) struct Args {
    /// The longest lifetime of a token, such as 90d; none: no limit
    #[arg(long, value_name = "PERIOD|none", value_parser = limit::<Period>)]
    max_lifetime: Option<Limit<Period>>,

    /// The most live tokens of one user; 0: none can be made; none: no limit
    #[arg(long, value_name = "N|none", value_parser = limit::<u32>)]
    max_tokens_per_user: Option<Limit<u32>>,

    /// Whether a token may make others that expire later than itself
    #[arg(long, value_name = "on|off", value_parser = switch)]
    outlive_maker: Option<bool>,

    /// Whether expired tokens are deleted without being asked for
    #[arg(long, value_name = "on|off", value_parser = switch)]
    delete_expired: Option<bool>,

    /// How long an expired token is kept, such as 30d
    #[arg(long, value_name = "PERIOD")]
    delete_expired_after: Option<Period>,

    /// How often expired tokens are looked for, such as 1h
    #[arg(long, value_name = "PERIOD")]
    delete_expired_every: Option<Period>,

    /// Also shorten the expiry of active tokens that last longer than the longest lifetime allows from when they were made
    #[arg(long)]
    apply_to_existing: bool,

    /// Only tell what exceeds the limits, and with --apply-to-existing which tokens would expire sooner
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    confirmation: Confirmation,
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

impl Args {
    /// The limits to be: those in force, with what is given. Fields that this program does not know stay.
    fn over(&self, mut limits: Map<String, Value>) -> Map<String, Value> {
        if let Some(Limit(longest)) = self.max_lifetime {
            limits.insert("max_lifetime".to_owned(), longest.map(|period| period.to_string()).into());
        }
        if let Some(Limit(most)) = self.max_tokens_per_user {
            limits.insert("max_tokens_per_user".to_owned(), most.into());
        }
        if let Some(may) = self.outlive_maker {
            limits.insert("outlive_maker".to_owned(), may.into());
        }
        if let Some(delete) = limits.get_mut("delete_expired").and_then(Value::as_object_mut) {
            let given = [
                ("enabled", self.delete_expired.map(Value::from)),
                ("after", self.delete_expired_after.map(|after| after.to_string().into())),
                ("every", self.delete_expired_every.map(|every| every.to_string().into())),
            ];
            delete.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        limits
    }
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let client = service.client()?;
    let before: Map<String, Value> = client.read(PATH)?;
    let after = args.over(before.clone());
    if after == before && !args.dry_run && !args.apply_to_existing {
        return Err(Failure::Usage(
            "nothing to change is given, or all of it is so already; `latchkey restrictions show` tells."
                .to_owned(),
        ));
    }
    let tighter = is_tighter(&before, &after);
    let body = Value::from(after);
    let existing: &[_] = if args.apply_to_existing { &[("apply_to_existing", "true")] } else { &[] };
    let dry_run = || {
        let query = [&[("dry_run", "true")], existing].concat();
        client.call(Method::PUT, PATH, &query, Some(&body))
    };
    if args.dry_run {
        return object(service, &dry_run()?);
    }
    if tighter || args.apply_to_existing {
        args.confirmation.ask(|| {
            eprint!("{}", fields(&dry_run()?.text));
            Ok(args.question().to_owned())
        })?;
    }
    let answer = client.call(Method::PUT, PATH, existing, Some(&body))?;
    note(args.done());
    object(service, &answer)
}

impl Args {
    const fn question(&self) -> &'static str {
        if self.apply_to_existing {
            "Set these limits, and shorten the expiry of these tokens for good?"
        } else {
            "Set these limits, which are tighter than those in force?"
        }
    }

    const fn done(&self) -> &'static str {
        if self.apply_to_existing {
            "the limits are set, and hold for existing tokens too"
        } else {
            "the limits are set, and hold for what is made from now on"
        }
    }
}
