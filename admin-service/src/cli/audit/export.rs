//! `latchkey audit export`.

use std::io::Read;

use super::filter::{Filter, borrowed};
use crate::cli::Failure;
use crate::cli::remote::Service;
use crate::cli::show::{Progress, harmless, note, print};

/// How much is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  latchkey audit export > audit.jsonl
  latchkey audit export --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z | gzip > january.jsonl.gz

One JSON object per line, the oldest first. Where the exit code is not 0, what was written is not all of it.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(service: &Service, args: &Args) -> Result<(), Failure> {
    let mut lines = service.client()?.open("/audit:export", &borrowed(&args.filter.query()))?;
    let progress = Progress::of_reading("entries");
    let mut piece = vec![0; PIECE];
    let mut count = 0;
    loop {
        let read = lines.read(&mut piece).map_err(|error| broken_off(&error))?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
        print(read)?;
        count += read.iter().filter(|byte| **byte == b'\n').count() as u64;
        progress.at(count, None);
    }
    drop(progress);
    note(&match count {
        1 => "1 entry is exported".to_owned(),
        n => format!("{n} entries are exported"),
    });
    Ok(())
}

fn broken_off(error: &std::io::Error) -> Failure {
    let why = harmless(&error.to_string()).into_owned();
    Failure::Failed(format!("the export broke off ({why}): what was written is not all of it; run it again."))
}
