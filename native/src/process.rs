//! What all configurations of one Envoy share.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use latchkey::config::Config;
use latchkey::engine::{EdgeState, Metrics, Seed, States};

/// Into how many parts verdicts are divided, each of which one thread at a time can look into.
const SHARDS: usize = 16;

static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(Arc::default);
static STATES: LazyLock<Mutex<States>> =
    LazyLock::new(|| Mutex::new(States::new(Arc::clone(&METRICS), SHARDS)));
#[expect(clippy::disallowed_methods, reason = "this is where the filter's clock is")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static WORKERS: AtomicU32 = AtomicU32::new(0);
static CONFIGURATIONS: AtomicUsize = AtomicUsize::new(0);
/// Panics that were caught and not told yet.
static PANICS: AtomicI64 = AtomicI64::new(0);

/// What a mutex guards. A panic was caught before it could leave it half changed in a way that matters: the engine's own changes are
/// each right by themselves.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time since this was first asked: never goes back, whatever happens to the wall clock.
pub fn now() -> Duration {
    START.elapsed()
}

/// An environment variable of Envoy's.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What a configuration shares with others.
pub fn state_of(config: &Config) -> Arc<EdgeState> {
    // The operating system seeds these.
    let seed = Seed([RandomState::new().hash_one(0), RandomState::new().hash_one(1)]);
    locked(&STATES).of(config, seed)
}

/// What was counted.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

/// A number that no other worker of this process has had, for one that begins now.
pub fn enter() -> u32 {
    CONFIGURATIONS.fetch_add(1, Ordering::Relaxed);
    WORKERS.fetch_add(1, Ordering::Relaxed)
}

/// A configuration has gone. With the last one its metrics have gone at the host's, and what was counted and not told.
pub fn leave() {
    if CONFIGURATIONS.fetch_sub(1, Ordering::Relaxed) == 1 {
        METRICS.take(|_, _| {});
    }
}

/// A panic was caught.
pub fn panicked() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// Whether one was that was not told.
pub fn has_panicked() -> bool {
    PANICS.load(Ordering::Relaxed) != 0
}

/// How many panics were caught since this was last asked.
pub fn take_panics() -> i64 {
    PANICS.swap(0, Ordering::Relaxed)
}
