//! The filter's whole behaviour, sans I/O: a shell tells what happened and when, and does what it is given back. Everything that
//! decides is in here: which credential counts and what reaches the upstream, shadow mode, what the end of a callout means, whether a
//! verdict is believed, kept or outdated, who waits and who is released, what is counted.
//!
//! ```text
//! States::of(config)  ->  EdgeState        verdicts, change feed and usage of all workers that ask one service
//! Filter::new(config, state)               one configuration: decides by what is known, from any thread
//! Worker::new(filter)                      beside it, streams that wait and callouts in flight
//!
//! Where one thread has all of a worker:
//! Worker::on_request(stream, view, now)    -> Outcome: Allow(Mutations) | Deny(Denial) | Wait
//! Where threads share a worker, which only requests without a known verdict need:
//! Filter::on_request(view, now)            -> Immediate: Allow(Mutations) | Deny(Denial) | Undecided
//! Worker::wait(stream, undecided, now)     -> None | Deny(Denial)
//!
//! Worker::on_callout(call, result, now)    Worker::on_stream_end(stream)   Worker::on_tick(now)   Worker::on_detach(now)
//! Worker::next_command()                   -> Dispatch | SetTick | Log
//! Worker::next_resume()                    -> Held, for Filter::resume(held, now) -> Decided: Allow(Mutations) | Deny(Denial)
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::callout::{CallId, CalloutEnd, CalloutResponse, CalloutResult, Dispatch, MAX_RESPONSE_BODY};
pub use self::command::{Command, Level};
pub use self::filter::{Filter, Held, Immediate, RequestView, Undecided};
pub use self::local_reply::LocalReply;
pub use self::metrics::{Definition, Kind, Metrics};
pub use self::outcome::{Decided, Denial, ExpiryNotice, Mutations, Outcome};
pub use self::state::{EdgeState, Seed, States};
pub use self::worker::Worker;

mod callout;
mod command;
mod filter;
mod gather;
mod local_reply;
mod metrics;
mod outcome;
mod pending;
#[cfg(test)]
mod simulation;
mod state;
mod verdicts;
mod worker;

/// Names a stream of one worker.
pub type StreamId = u32;

/// What a mutex guards. A panic of another thread leaves nothing half done that matters: each change of what is guarded here is
/// right by itself.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
