//! `latchkey restore`: puts a backup in the place of a SQLite database, while no service runs on it.

use std::path::PathBuf;

use super::backup::failure;
use super::{Failure, block_on};
use crate::clock::Sources;
use crate::config::DatabaseArgs;
use crate::store::{Lost, Restored, Store};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey restore latchkey-2026-11-28.db
  latchkey restore /backup/latchkey.db --database-url sqlite:///var/lib/latchkey/latchkey.db

It refuses while a service runs on the database. The backup is checked and migrated before it takes the database's place; the
database of before is kept beside it. Edges forget every verdict, as after `latchkey new-epoch`. What was revoked or
disabled since the backup works again: where the database of before can be read, it is named, and is for you to revoke anew.")]
pub(super) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,

    /// The backup, which stays as it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let url = args.database.url()?;
    block_on(async {
        let restored = Store::restore(&url, &args.file, &Sources::system()).await;
        let restored = restored.map_err(|error| failure(&error, &url))?;
        eprintln!(
            "latchkey: {url} is what {} holds, at revision {} in the new epoch {}; start the service.",
            args.file.display(),
            restored.position.revision,
            restored.position.epoch
        );
        tell(&restored);
        Ok(())
    })
}

/// Says what the restored database no longer knows.
fn tell(restored: &Restored) {
    let Some(kept) = &restored.kept else { return };
    eprintln!("latchkey: the database of before is kept as {}.", kept.display());
    match &restored.lost {
        Some(lost) => tell_lost(lost),
        None => eprintln!(
            "latchkey: it cannot be read: whatever was revoked or disabled since the backup works again; revoke it anew."
        ),
    }
}

fn tell_lost(lost: &Lost) {
    if lost.revived > 0 {
        eprintln!(
            "latchkey: tokens that were revoked since the backup work again: {}. Revoke them anew:",
            lost.revived
        );
        for (id, user) in &lost.tokens {
            eprintln!("  latchkey token revoke {id} --yes    # of {user}");
        }
    }
    if !lost.users.is_empty() {
        eprintln!(
            "latchkey: users that were disabled or deleted since the backup are active again: {}.",
            lost.users.join(", ")
        );
    }
    if lost.unknown > 0 {
        eprintln!("latchkey: tokens that were made since the backup are unknown now: {}.", lost.unknown);
    }
}
