//! `latchkey serve`: runs the service until it is told to end.

use std::path::Path;

use super::{Failure, block_on};
use crate::app::App;
use crate::clock::Sources;
use crate::config::ServeArgs;
use crate::edge::secret::{cover, exposure};
use crate::lifecycle::{EndSignals, shutdown};
use crate::server::{self, Listeners, hide_memory, keep_to_small_pages, raise_open_files};
use crate::telemetry;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey serve --database-url sqlite:///var/lib/latchkey/latchkey.db
  latchkey serve --database-url-file /run/secrets/database-url --edge-listen 0.0.0.0:8101 \\
                 --edge-secret-file /run/secrets/edge --listen 0.0.0.0:8100 --public-url https://tokens.example.com

SIGTERM and SIGINT end it within 10 seconds, requests under way first; a second one ends it at once.
SIGHUP reads the edge secrets anew.")]
pub(super) struct Args {
    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    telemetry::log(&args.serve.log)?;
    keep_to_small_pages();
    if !args.serve.allow_core_dumps {
        hide_memory();
    }
    block_on(serve(args.serve))
}

async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let no_signals = |error| Failure::Failed(format!("signals cannot be handled: {error}."));
    let mut signals = EndSignals::take_over().map_err(no_signals)?;
    let files = [args.edge_secret_file.clone(), args.database.database_url_file.clone()];
    let config = args.check()?;
    files.into_iter().flatten().for_each(|path| warn_if_exposed(&path));
    raise_open_files();
    let listeners = Listeners::bind(&config)?;
    let (app, tasks) = tokio::select! {
        opened = App::open(&config, listeners.addresses().api, Sources::system()) => opened?,
        signal = signals.next() => {
            tracing::info!(signal, "ended before it began to serve");
            return Ok(());
        }
    };
    for other in app.store.announce() {
        tracing::warn!(
            database = %config.database_url,
            "{other} runs on this SQLite file too: that works, as during an upgrade; if it is not meant, stop one of them"
        );
    }
    let (trigger, ending) = shutdown();
    let server = server::run(app, tasks, listeners, ending);
    tokio::pin!(server);
    tokio::select! {
        () = &mut server => return Ok(()),
        signal = signals.next() => tracing::info!(signal, "ending: requests under way are finished first"),
    }
    trigger.pull();
    tokio::select! {
        () = &mut server => Ok(()),
        signal = signals.next() => Err(Failure::Failed(format!("ended at once by a second signal ({signal})."))),
    }
}

/// Warns of a file of secrets that others can read.
fn warn_if_exposed(path: &Path) {
    if let Some(exposed) = exposure(path) {
        tracing::warn!(advice = cover(path), "{exposed}");
    }
}
