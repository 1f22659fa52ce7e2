//! Envoy has no timer for HTTP filters: a thread that calls from time to time.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::process::locked;

/// The thread, until it is dropped: by then it has ended.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The time between ticks; `None`: it is over.
    period: Mutex<Option<Duration>>,
    changed: Condvar,
}

impl Ticker {
    /// Calls `tick` every `period`, on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(period: Duration, tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { period: Mutex::new(Some(period)), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("latchkey".to_owned()).spawn(move || of_thread.run(&tick))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Calls every `period` from now on.
    pub fn every(&self, period: Duration) {
        self.shared.set(Some(period));
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.set(None);
        if let Some(thread) = self.thread.take() {
            // It panics in `tick` if anywhere, and has ended in any case.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn set(&self, period: Option<Duration>) {
        *locked(&self.period) = period;
        self.changed.notify_all();
    }

    fn run(&self, tick: &impl Fn()) {
        let mut period = locked(&self.period);
        while let Some(time) = *period {
            let unchanged = |now: &mut Option<Duration>| *now == Some(time);
            let waited = self.changed.wait_timeout_while(period, time, unchanged);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            period = guard;
            if timeout.timed_out() {
                drop(period);
                tick();
                period = locked(&self.period);
            }
        }
    }
}
