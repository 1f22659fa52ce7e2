//! What all workers share that ask the same service: the verdicts, the change feed that keeps them honest, and what tokens were
//! used for. One of the workers follows the feed and reports for all of them.
//!
//! A VM has a thread of its own; in one process several threads share this. A decision takes the lock of one shard, for the few
//! steps of a look into it. All that may alter verdicts happens under the lock of `upkeep`, so that no verdict is kept that is older
//! than a change which was applied already.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use self::upkeep::Upkeep;
use super::locked;
use super::metrics::{Metric, Metrics};
use crate::cache::{Cache, Limits};
use crate::config::{Config, Service};
use crate::feed::Age;
use crate::gate::Verdict;
use crate::token::{HashPrefix, TokenHash};
use crate::usage::Counts;
use crate::wire::VerifyResponse;

pub(super) use self::upkeep::{Follow, WorkerId};

mod upkeep;

/// How many tokens a part has room for at least, where there are several.
const TOKENS_PER_SHARD: usize = 256;

/// What workers must have in common to share verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    service: Service,
    limits: Limits,
    stale_after: Duration,
    flush: Duration,
}

impl Key {
    fn of(config: &Config) -> Self {
        Self {
            service: config.service.clone(),
            limits: config.cache,
            stale_after: config.stale_max,
            flush: config.usage_flush,
        }
    }
}

/// How the states of one VM, or of one process, are made.
#[derive(Debug)]
pub struct States {
    all: Vec<(Key, Weak<EdgeState>)>,
    metrics: Arc<Metrics>,
    shards: usize,
}

impl States {
    /// None yet. Each is divided into at most so many `shards`, which as many threads can look into at a time.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, shards: usize) -> Self {
        Self { all: Vec::new(), metrics, shards: shards.max(1) }
    }

    /// What a worker with this configuration shares with others. `seed` is random.
    pub fn of(&mut self, config: &Config, seed: Seed) -> Arc<EdgeState> {
        let key = Key::of(config);
        self.all.retain(|(_, state)| state.strong_count() > 0);
        let found = self.all.iter().find(|(other, _)| *other == key).and_then(|(_, state)| state.upgrade());
        found.unwrap_or_else(|| {
            let state = Arc::new(EdgeState::new(&key, self.shards, seed, Arc::clone(&self.metrics)));
            self.all.push((key, Arc::downgrade(&state)));
            state
        })
    }
}

/// Random numbers that no other VM or process has.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u64; 2]);

impl Seed {
    /// A name that no other edge has.
    fn edge_name(self) -> String {
        let [first, second] = self.0;
        format!("{first:016x}{second:016x}")
    }

    /// A number that other edges do not have at the same time.
    fn jitter(self, now: Duration) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.0, now))
    }
}

/// What workers share.
#[derive(Debug)]
pub struct EdgeState {
    service: Service,
    shards: Box<[Mutex<Shard>]>,
    /// Until when verdicts serve, in nanoseconds; 0: they do not.
    fresh_until: AtomicU64,
    upkeep: Mutex<Upkeep>,
    seed: Seed,
    metrics: Arc<Metrics>,
}

/// The tokens of one part of all hashes.
#[derive(Debug)]
struct Shard {
    cache: Cache,
    uses: Counts,
}

impl EdgeState {
    fn new(key: &Key, most_shards: usize, seed: Seed, metrics: Arc<Metrics>) -> Self {
        let shards = shards(key.limits, most_shards);
        let part = |all: usize| all.div_ceil(shards);
        let limits = Limits {
            max_tokens: part(key.limits.max_tokens),
            max_negative: part(key.limits.max_negative),
            ..key.limits
        };
        let shard = || Mutex::new(Shard { cache: Cache::new(limits), uses: Counts::default() });
        Self {
            service: key.service.clone(),
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            fresh_until: AtomicU64::new(0),
            upkeep: Mutex::new(Upkeep::new(key.stale_after, seed.edge_name(), key.flush)),
            seed,
            metrics,
        }
    }

    /// What is counted of all states.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Does something with the shard of a token. There is one in any case.
    fn shard<R>(&self, prefix: HashPrefix, act: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        let [first, ..] = prefix.to_bytes();
        let place = usize::from(first) % self.shards.len().max(1);
        self.shards.get(place).map(|shard| act(&mut locked(shard)))
    }

    /// The verdict on a token that serves without asking.
    pub(super) fn verdict(&self, hash: &TokenHash, now: Duration) -> Option<Verdict> {
        if nanoseconds(now) >= self.fresh_until.load(Ordering::Acquire) {
            return None;
        }
        self.shard(hash.prefix(), |shard| shard.cache.get(hash, now)).flatten()
    }

    /// Whether a token was valid when it was last heard of.
    pub(super) fn was_valid(&self, hash: &TokenHash) -> bool {
        self.shard(hash.prefix(), |shard| shard.cache.is_familiar(hash)).unwrap_or_default()
    }

    /// Counts the use of a token that exists, or the attempt.
    pub(super) fn count(&self, hash: &TokenHash, verdict: &Verdict, allowed: bool, now: Duration) {
        let Some(owner) = verdict.owner() else { return };
        let count = |shard: &mut Shard| shard.uses.count(owner.token_id, allowed, now);
        if self.shard(hash.prefix(), count) == Some(false) {
            self.metrics.increment(Metric::USAGE_DROPPED);
        }
    }

    /// Keeps what the service has said, unless it may be older than a change. `false`: it is, and must not be believed.
    pub(super) fn keep(&self, response: &VerifyResponse, verdict: Verdict, now: Duration) -> bool {
        let hash = response.token_hash;
        let upkeep = locked(&self.upkeep);
        let age = upkeep.age_of(response);
        if age == Age::Current {
            self.shard(hash.prefix(), |shard| shard.cache.insert(hash, verdict, now));
        }
        age != Age::Outdated
    }
}

impl Drop for EdgeState {
    fn drop(&mut self) {
        self.withdraw_metrics();
    }
}

/// Into how many parts so many tokens are divided: not so many that chance fills some and leaves others empty.
fn shards(limits: Limits, most: usize) -> usize {
    let kept = [limits.max_tokens, limits.max_negative].into_iter().filter(|kept| *kept > 0);
    kept.min().map_or(1, |fewest| (fewest / TOKENS_PER_SHARD).clamp(1, most))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
