//! `latchkey bootstrap`: makes the first administrator, beside the database and not over the network.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use latchkey::token::Secret;

use super::remote::DEFAULT_URL;
use super::{Failure, block_on};
use crate::clock::Sources;
use crate::config::{DatabaseArgs, PrefixArgs};
use crate::domain::audit::Origin;
use crate::domain::scope::{ADMIN, Scopes};
use crate::domain::token::{NewToken, Token, TokenName, TokenSpec};
use crate::domain::user::UserName;
use crate::error::chain;
use crate::store::files::create_private;
use crate::store::{DatabaseUrl, Store, StoreError, StoreOptions};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey bootstrap --out admin-token
  latchkey bootstrap --user carol --database-url sqlite:///var/lib/latchkey/latchkey.db

It works while the service runs. The token stands alone on a line of stdout, or of a new file that only you may read, and is
never shown again; where a token
with the scope latchkey:admin is live already, nothing is made.")]
pub(super) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    prefix: PrefixArgs,

    /// The administrator's user name; the user is made where there is none of this name
    #[arg(long, env = "LATCHKEY_USER", value_name = "NAME", default_value = "admin")]
    user: UserName,

    /// Write the token to this new file, which only its owner may read, in place of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    block_on(bootstrap(args))
}

async fn bootstrap(args: Args) -> Result<(), Failure> {
    let url = args.database.url()?;
    // Made before the token is, so that a file that cannot be made leaves no token behind.
    let out = args.out.as_deref().map(make_file).transpose()?;
    let made = bootstrap_into(&args, &url, out).await;
    if made.is_err() {
        // Nothing is in it: a token that was not written down was revoked.
        let _ = args.out.as_deref().map(std::fs::remove_file);
    }
    made
}

/// Makes the token and shows it in a file, or else on stdout.
async fn bootstrap_into(args: &Args, url: &DatabaseUrl, out: Option<File>) -> Result<(), Failure> {
    let sources = Sources::system();
    let store = Store::open(url, StoreOptions::default(), sources.clone()).await?;
    let secret = Secret::generate(&args.prefix.token_prefix, |buffer| sources.fill(buffer))
        .map_err(|error| Failure::Failed(format!("{error}.")))?;
    let outcome = make(&store, &args.user, &secret).await;
    let shown = match &outcome {
        Ok(token) => show(&store, token, &secret, out).await,
        Err(_) => Ok(()),
    };
    store.close().await;
    outcome?;
    shown
}

/// Makes the user and the token, unless there is an administrator.
async fn make(store: &Store, user: &UserName, secret: &Secret) -> Result<Token, Failure> {
    let name: TokenName = "bootstrap".parse().map_err(|error| Failure::Failed(format!("{error}.")))?;
    let spec = TokenSpec { scopes: Scopes::admin(), ..TokenSpec::named(name) };
    store.bootstrap(user, &NewToken::new(spec, secret)).await.map_err(|error| match error {
        StoreError::AdminExists => Failure::Failed(format!(
            "there is an administrator already: a token with the scope {ADMIN} is live, and it can make others."
        )),
        error => Failure::Failed(format!("{}.", chain(&error))),
    })
}

/// Makes the file for the token.
fn make_file(path: &Path) -> Result<File, Failure> {
    create_private(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Failed(format!(
            "--out: {} is there already, and nothing is overwritten; name another file.",
            path.display()
        )),
        _ => Failure::Failed(format!("--out: {} cannot be made: {error}.", path.display())),
    })
}

/// Where the service is, as far as this machine's settings tell: `bootstrap` works beside the database.
fn service_url() -> String {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    let url = set("LATCHKEY_URL").or_else(|| set("LATCHKEY_PUBLIC_URL"));
    let listen = || set("LATCHKEY_LISTEN").and_then(|address| address.parse::<SocketAddr>().ok());
    let from_listen = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("http://{address}")
    };
    let url = url.or_else(|| listen().map(from_listen)).unwrap_or_else(|| DEFAULT_URL.to_owned());
    url.trim_end_matches('/').to_owned()
}

/// Shows the token. One that nobody could see is revoked, so that this command can be run again.
async fn show(store: &Store, token: &Token, secret: &Secret, out: Option<File>) -> Result<(), Failure> {
    let (written, place) = match out {
        Some(mut file) => (writeln!(file, "{}", secret.expose()).and_then(|()| file.sync_all()), "the file"),
        None => {
            let mut stdout = std::io::stdout();
            (writeln!(stdout, "{}", secret.expose()).and_then(|()| stdout.flush()), "stdout")
        }
    };
    if let Err(error) = written {
        let revoked = store.revoke_token(&Origin::bootstrap(), token.id).await;
        let undone =
            if revoked.is_ok() { "it was revoked; run this again" } else { "and it could not be revoked" };
        return Err(Failure::Failed(format!(
            "the token could not be written to {place} ({error}): {undone}."
        )));
    }
    let end = token.expires_at.map_or_else(|| "for ever".to_owned(), |end| format!("until {end}"));
    eprintln!(
        "latchkey: the user {} has a token with the scope {ADMIN}, valid {end}; it is not shown again.",
        token.user
    );
    eprintln!("latchkey: try  curl -H \"Authorization: Bearer $TOKEN\" {}/api/v1/me", service_url());
    Ok(())
}
