//! How the service is told to end: one signal asks it to finish what it does, a second one ends it at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long requests under way have to finish once the service is told to end. With what else there is to do it
/// keeps within the 10 seconds that supervisors wait.
pub const DRAIN: Duration = Duration::from_secs(8);

/// Asks everything that holds a [`Shutdown`] to end.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Tells when the service is to end. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger, and what it triggers.
#[must_use]
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks everyone to end; repeatable.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits until the service is to end. A trigger that is gone counts as pulled.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    /// Waits for the end, but no longer than `limit`; tells whether it is time.
    pub async fn requested_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.requested()).await.is_ok()
    }

    /// Whether the service is ending.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// The channel itself, for parts that wait for it in their own way.
    #[must_use]
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

/// SIGHUP, by which operators have files read anew.
///
/// # Errors
/// What the operating system says when it cannot be taken over.
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// SIGTERM and SIGINT, whichever comes.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Takes the signals over from the operating system's default, which ends the process at once.
    ///
    /// # Errors
    /// What the operating system says when it cannot.
    pub fn take_over() -> std::io::Result<Self> {
        // It ends nothing from here on, not even before somebody waits for it.
        drop(hangups()?);
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
