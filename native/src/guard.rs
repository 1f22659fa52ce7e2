//! The one guard that every hook is behind: a panic must not leave it, as it would end Envoy.

use std::panic::{AssertUnwindSafe, catch_unwind};

use latchkey::engine::LocalReply;

use crate::host::StreamHost;
use crate::process;
use crate::stream::Stream;

/// Runs a hook. A panic is counted, and answered with `otherwise`.
pub fn hook<R>(run: impl FnOnce() -> R, otherwise: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => {
            process::panicked();
            // What is done then could panic too, if memory is in a bad way.
            catch_unwind(AssertUnwindSafe(otherwise)).unwrap_or_else(|_| std::process::abort())
        }
    }
}

/// Runs a hook of a stream. A panic denies its request with 503; Envoy is told `panicked`.
pub fn stream_hook<R>(
    stream: &Stream,
    host: impl Fn() -> StreamHost,
    panicked: R,
    run: impl FnOnce(StreamHost) -> R,
) -> R {
    hook(
        || run(host()),
        || {
            stream.reply(host(), &LocalReply::closed());
            panicked
        },
    )
}
