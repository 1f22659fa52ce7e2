//! The database: whether it can be reached, read and written, is migrated and whole, and keeps what it acknowledges.

use super::finding::Findings;
use super::{clock, limits};
use crate::clock::Sources;
use crate::config::ServeArgs;
use crate::domain::changes::Position;
use crate::error::chain;
use crate::store::{DatabaseUrl, Examination, OpenError, Schema, Store, StoreOptions};

const CHECK: &str = "database";

/// Where the history stands, if the database tells.
pub(super) async fn check(serve: &ServeArgs, sources: &Sources, findings: &mut Findings) -> Option<Position> {
    // The configuration's check has told of a URL that is none.
    let url = serve.database.url().ok()?;
    if url.is_missing() {
        findings.problem(
            CHECK,
            format!("there is no database at {url}."),
            "Name the right one by --database-url, or start `latchkey serve`, which makes it.",
        );
        return None;
    }
    match Store::examine(&url, StoreOptions::default(), sources.clone()).await {
        Ok((store, examination)) => {
            tell(&url, &examination, findings);
            clock::check_database(examination.clock_ahead, findings);
            let position = match examination.schema {
                Schema::Current => contents(&store, sources, findings).await,
                _ => None,
            };
            store.close().await;
            position
        }
        Err(error) => {
            let advice = advice(&error);
            findings.problem(CHECK, format!("{url}: {}.", chain(&error)), advice);
            None
        }
    }
}

fn advice(error: &OpenError) -> &'static str {
    match error {
        OpenError::Foreign
        | OpenError::Newer { .. }
        | OpenError::Damaged(_)
        | OpenError::Migration(_)
        | OpenError::TransactionPooler(_) => "Nothing was changed in it.",
        _ => {
            "Check that the server runs and takes this user from here; of a file, that this user may write it and its folder."
        }
    }
}

fn tell(url: &DatabaseUrl, examination: &Examination, findings: &mut Findings) {
    let before = findings.problems();
    match examination.schema {
        Schema::Current => {}
        Schema::Empty => {
            findings.warning(CHECK, format!("{url} is empty."), "Start `latchkey serve`, which migrates it.");
        }
        Schema::Older { found, known } => findings.warning(
            CHECK,
            format!("{url} has schema {found}, and this latchkey knows {known}."),
            "Start this version's `latchkey serve`, which migrates it; make a backup first.",
        ),
    }
    if let Some(reason) = &examination.unwritable {
        findings.problem(
            CHECK,
            format!("{url} cannot be written: {reason}."),
            "Check that this user may write it, that its disk has room, and that nothing holds it locked.",
        );
    }
    if let Some(first) = examination.damage.first() {
        let count = examination.damage.len();
        findings.problem(
            CHECK,
            format!("{url} is damaged, {count} or more times: {first}."),
            "Stop the service, keep a copy of the file, restore a backup, and run `latchkey new-epoch`.",
        );
    }
    for (name, value) in &examination.settings {
        setting(name, value, findings);
    }
    if findings.problems() == before {
        findings.ok(CHECK, format!("{} at {url} can be read and written.", examination.server));
    }
}

/// What a setting of the server means for what is acknowledged.
fn setting(name: &str, value: &str, findings: &mut Findings) {
    let forgets = "what was acknowledged, a revocation too, can be lost with the server";
    let set_on = || format!("Set {name} = on in postgresql.conf, and reload it.");
    match (name, value) {
        ("synchronous_commit" | "fsync", "off") => {
            findings.problem(CHECK, format!("PostgreSQL has {name} = off: {forgets}."), set_on());
        }
        ("full_page_writes", "off") => {
            findings.warning(CHECK, format!("PostgreSQL has {name} = off: {forgets}."), set_on());
        }
        ("in_recovery", "true" | "t") => findings.problem(
            CHECK,
            "the server is a standby, which takes no changes.",
            "Name the primary in the URL, or several servers and target_session_attrs=read-write.",
        ),
        ("ssl", "false" | "f") => findings.warning(
            CHECK,
            "the connection to the server is not encrypted.",
            "Add sslmode=verify-full to the URL where the server is on another machine.",
        ),
        _ => {}
    }
}

/// What a migrated database holds.
async fn contents(store: &Store, sources: &Sources, findings: &mut Findings) -> Option<Position> {
    let looked = async {
        limits::check(store, sources, findings).await?;
        clock::check_history(store, sources, findings).await?;
        store.position().await
    };
    match looked.await {
        Ok(position) => Some(position),
        Err(error) => {
            findings.problem(
                CHECK,
                format!("it cannot be read: {}.", chain(&error)),
                "Restore a backup if it is damaged; else check that this user may read every table.",
            );
            None
        }
    }
}
