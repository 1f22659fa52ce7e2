//! `latchkey new-epoch`: tells every edge to forget its verdicts, as is needed after a restored backup.

use std::io::Write;

use super::{Failure, block_on};
use crate::clock::Sources;
use crate::config::DatabaseArgs;
use crate::error::chain;
use crate::store::{DatabaseUrl, Store, StoreOptions};

#[derive(clap::Args)]
#[command(after_help = "\
When to use it: after the database was restored from a backup, or replaced by a copy of it that is not the latest. Edges may
then know of revocations that the database does not, and would take later ones for those; with a new epoch they forget every
verdict and ask again, within a second. A running service notices a restored backup by itself unless as much has changed
since as was lost; nothing else notices one that was restored while no service ran.

Examples:
  latchkey new-epoch --database-url sqlite:///var/lib/latchkey/latchkey.db
  latchkey new-epoch --database-url-file /run/secrets/database-url

It works while the service runs, and does no harm but that edges ask once more about each token. The new epoch stands
alone on a line of stdout.")]
pub(super) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let url = args.database.url()?;
    if url.is_missing() {
        // Opening would make an empty database, and whoever restored another would believe that all is done.
        return Err(Failure::Failed(format!(
            "there is no database at {url}; name the one that was restored."
        )));
    }
    block_on(new_epoch(url))
}

async fn new_epoch(url: DatabaseUrl) -> Result<(), Failure> {
    let store = Store::open(&url, StoreOptions::default(), Sources::system()).await?;
    let renamed = store.new_epoch().await;
    store.close().await;
    let now = renamed.map_err(|error| Failure::Failed(format!("{}.", chain(&error))))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", now.epoch).and_then(|()| stdout.flush()).map_err(|error| {
        Failure::Failed(format!(
            "the new epoch {} was made, and could not be written to stdout ({error}).",
            now.epoch
        ))
    })?;
    eprintln!(
        "latchkey: the history goes on from revision {} in a new epoch, and every edge forgets its verdicts.",
        now.revision
    );
    Ok(())
}
