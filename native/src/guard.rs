//! The one guard that every hook is behind: a panic must not leave it, as it would end Envoy.

use std::panic::{AssertUnwindSafe, catch_unwind};

use latchkey::engine::{Level, LocalReply};

use crate::host::{self, StreamHost};
use crate::process;
use crate::stream::Stream;

/// Runs a hook of this name. A panic is counted, logged, and answered with `otherwise`.
pub fn hook<R>(name: &str, run: impl FnOnce() -> R, otherwise: impl FnOnce() -> R) -> R {
    let guarded = || {
        #[cfg(feature = "panics")]
        on_purpose::panic_in(name);
        run()
    };
    catch_unwind(AssertUnwindSafe(guarded)).unwrap_or_else(|_| {
        process::panicked();
        let after = || {
            host::log(Level::Error, &format!("latchkey: a panic in {name} was caught; this is a bug"));
            otherwise()
        };
        // A panic here would be the second one, with memory or Envoy in a bad way: it must not unwind into Envoy.
        catch_unwind(AssertUnwindSafe(after)).unwrap_or_else(|_| std::process::abort())
    })
}

/// Runs a hook of a stream. A panic denies its request with 503; Envoy is told `panicked`.
pub fn stream_hook<R>(
    name: &str,
    stream: &Stream,
    host: impl Fn() -> StreamHost,
    panicked: R,
    run: impl FnOnce(StreamHost) -> R,
) -> R {
    hook(
        name,
        || run(host()),
        || {
            stream.reply(host(), &LocalReply::closed());
            panicked
        },
    )
}

/// For tests of what a panic does: a build with the feature `panics` has one in the hook that `LATCHKEY_PANIC_IN` names, once.
#[cfg(feature = "panics")]
mod on_purpose {
    use std::sync::atomic::{AtomicBool, Ordering};

    static WAS: AtomicBool = AtomicBool::new(false);

    #[expect(clippy::panic, reason = "this is what it is for")]
    pub fn panic_in(name: &str) {
        let is_named = std::env::var("LATCHKEY_PANIC_IN").is_ok_and(|named| named == name);
        if is_named && !WAS.swap(true, Ordering::Relaxed) {
            panic!("LATCHKEY_PANIC_IN says so");
        }
    }
}
