//! `latchkey backup`: a consistent copy of a SQLite database, while services run on it.

use std::path::PathBuf;

use super::{Failure, block_on};
use crate::config::DatabaseArgs;
use crate::error::chain;
use crate::store::{BackupError, DatabaseUrl, Store};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey backup latchkey-2026-11-28.db
  latchkey backup /backup/latchkey.db --database-url sqlite:///var/lib/latchkey/latchkey.db

It works while the service runs, and takes the database as it is at one moment. The copy is read through before it gets its name,
only its owner may read it, and nothing is overwritten. `cp` of a database under a running service is no backup.")]
pub(super) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The copy, which must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let url = args.database.url()?;
    block_on(async {
        let made = Store::back_up(&url, &args.file).await.map_err(|error| failure(&error, &url))?;
        eprintln!(
            "latchkey: {} holds the database as of revision {}: {} users, {} tokens.",
            args.file.display(),
            made.revision,
            made.users,
            made.tokens
        );
        Ok(())
    })
}

/// The sentence for what went wrong. PostgreSQL has programs of its own for this.
pub(super) fn failure(error: &BackupError, url: &DatabaseUrl) -> Failure {
    match error {
        BackupError::NotSqlite => Failure::Usage(format!(
            "{url} is on PostgreSQL: back it up with `pg_dump --format=custom --file=FILE`, restore it with \
             `pg_restore` while no service runs, and then run `latchkey new-epoch`."
        )),
        error => Failure::Failed(format!("{}.", chain(error))),
    }
}
