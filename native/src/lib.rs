//! The native shell: Envoy's dynamic modules, mapped to the [engine](latchkey::engine) and nothing else.
//!
//! ```text
//! hooks.rs          what Envoy calls, each hook behind the one guard
//! stream.rs         one request, on its worker thread
//! metrics.rs        what was counted, as Envoy names it
//! configuration.rs  one filter configuration: the engine's worker, which the main thread serves
//! ticker.rs         the thread that wakes the main thread from time to time
//! process.rs        what all configurations of the process share
//! host.rs, abi.rs   Envoy's callbacks, made safe; and as they are
//! ```
//!
//! A request whose verdict is known is decided on its own thread by [`Filter`](latchkey::engine::Filter), with no lock but that of
//! one shard of the cache. One that has to wait goes through its configuration's [`Worker`](latchkey::engine::Worker), behind a mutex;
//! what that wants done is done on the main thread, where callouts can outlive the stream that asked.

mod abi;
mod configuration;
mod guard;
mod hooks;
mod host;
mod metrics;
mod process;
mod stream;
mod ticker;
