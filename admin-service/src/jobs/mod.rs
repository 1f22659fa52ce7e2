//! What the service does by itself.
//!
//! Every job keeps one contract. It runs by time and on demand. Running it twice does no harm. It works in batches, each
//! a short transaction, so that others need not wait. Among all replicas one runs it at a time: the holder of its lease,
//! a row that each batch renews and checks in its own transaction, and that another replica takes over when it ends.
//! What the last run did is in the database, for operators to read.

pub mod delete_expired;
pub mod forget;
mod runner;
mod shrink_log;

use crate::clock::{NoEntropy, Sources};
use crate::store::Holder;

pub use runner::{Run, RunError, Runner, RunnerHandle};
pub use shrink_log::keep_log_small;

/// A name for this process that no other has: host, process and a random part.
///
/// # Errors
/// [`NoEntropy`] when the generator fails.
pub fn holder(sources: &Sources) -> Result<Holder, NoEntropy> {
    let mut random = [0; 4];
    sources.fill(&mut random)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "latchkey".to_owned());
    Ok(Holder(format!("{}:{}:{}", host.trim(), std::process::id(), hex::encode(random))))
}
