//! How far long work has come, on stderr while that is a terminal.

use std::io::{IsTerminal, Write, stderr};

/// A line that tells how far the work has come. It is gone when the work is done.
pub(in crate::cli) struct Progress {
    what: &'static str,
    shown: bool,
}

impl Progress {
    /// Of work on so many of `what`, such as "tokens".
    pub(in crate::cli) fn of(what: &'static str) -> Self {
        Self { what, shown: stderr().is_terminal() }
    }

    /// Of work that only reads, whose answer is progress enough where it goes to the terminal. `what` is read, such as
    /// "tokens".
    pub(in crate::cli) fn of_reading(what: &'static str) -> Self {
        Self { what, shown: stderr().is_terminal() && !std::io::stdout().is_terminal() }
    }

    /// Says that so many are done, of so many in all if that is known.
    pub(in crate::cli) fn at(&self, done: u64, all: Option<u64>) {
        if self.shown {
            let all = all.map(|all| format!(" of {all}")).unwrap_or_default();
            // Fails only where nobody looks.
            let _ = write!(stderr(), "\r{done}{all} {}\x1b[K", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
