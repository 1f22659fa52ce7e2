//! Closed: nothing reaches the upstream without a decision, whatever becomes of the filter's VM, its host or its
//! configuration, and whatever the request turns into.

mod panics;
mod reloads;
mod traps;
mod upgrades;
pub mod withheld;
