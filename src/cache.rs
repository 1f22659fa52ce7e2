//! Verdicts by token hash: bounded in entries and in bytes, good and bad tokens apart, so that made-up tokens take no room
//! from real ones. Every operation takes the same few steps however much is kept. Times are durations since any fixed moment.

use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;
use std::ops::AddAssign;
use std::time::Duration;

use self::space::{Entry, Space};
use crate::gate::{Usable, Verdict};
use crate::token::{HashPrefix, TokenHash};

mod space;
#[cfg(test)]
mod tests;

/// How many bytes are allowed for each entry that is allowed, on average. Most take less than half.
const BYTES_PER_ENTRY: usize = 512;
/// What an entry takes beside what its verdict holds: its place here, in the map, and in the allocator's books.
const OVERHEAD: usize = size_of::<Entry<Verdict>>() + size_of::<HashPrefix>() + 64;

/// What a token takes of which nothing is kept but that it was good.
const BYTES_PER_FAMILIAR: usize = size_of::<Entry<()>>() + size_of::<HashPrefix>() + 64;

/// What bounds a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many good tokens are kept; 0: none.
    pub max_tokens: usize,
    /// How long a good token is kept, give or take a tenth.
    pub ttl: Duration,
    /// How many bad tokens are kept; 0: none.
    pub max_negative: usize,
    /// How long a bad token is kept, give or take a tenth.
    pub negative_ttl: Duration,
}

/// How many entries left the cache, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evictions {
    /// Their time was over.
    pub expired: u64,
    /// Others needed the room.
    pub capacity: u64,
    /// The service told of a change.
    pub changed: u64,
    /// Everything was forgotten.
    pub reset: u64,
}

impl AddAssign for Evictions {
    fn add_assign(&mut self, other: Self) {
        self.expired += other.expired;
        self.capacity += other.capacity;
        self.changed += other.changed;
        self.reset += other.reset;
    }
}

/// Verdicts by token hash.
#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    good: Space<Verdict>,
    bad: Space<Verdict>,
    /// Tokens that were good until their time was over, or something of them changed. Nobody gets in here with a made-up one.
    familiar: Space<()>,
    jitter: RandomState,
    evictions: Evictions,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let space = |entries: usize| Space::new(entries, entries.saturating_mul(BYTES_PER_ENTRY));
        Self {
            limits,
            good: space(limits.max_tokens),
            bad: space(limits.max_negative),
            familiar: Space::new(limits.max_tokens, limits.max_tokens.saturating_mul(BYTES_PER_FAMILIAR)),
            jitter: RandomState::new(),
            evictions: Evictions::default(),
        }
    }

    /// The verdict on a token, if it is kept and its time is not over. Asking does not prolong that time.
    pub fn get(&mut self, hash: &TokenHash, now: Duration) -> Option<Verdict> {
        let entry = match self.good.get(hash) {
            Some(entry) => entry,
            None => self.bad.get(hash)?,
        };
        if entry.until > now {
            return Some(entry.value.clone());
        }
        self.take(hash.prefix());
        self.evictions.expired += 1;
        None
    }

    /// Whether a token was good when it was last heard of: what is asked about it comes before what is asked about strangers.
    #[must_use]
    pub fn is_familiar(&self, hash: &TokenHash) -> bool {
        self.familiar.contains(hash)
    }

    /// Takes out what is kept of a token, and remembers it if it was good. `false`: nothing is.
    fn take(&mut self, prefix: HashPrefix) -> bool {
        let Some(Entry { hash, .. }) = self.good.remove(prefix) else {
            return self.bad.remove(prefix).is_some();
        };
        self.familiar.insert(Entry { hash, value: (), until: Duration::MAX, bytes: BYTES_PER_FAMILIAR });
        true
    }

    /// Keeps a verdict, in the place of what was kept of the token before. Never beyond the token's own expiry.
    pub fn insert(&mut self, hash: TokenHash, verdict: Verdict, now: Duration) {
        self.good.remove(hash.prefix());
        self.bad.remove(hash.prefix());
        self.familiar.remove(hash.prefix());
        let (space, ttl, end) = match &verdict {
            Verdict::Usable(token) => (&mut self.good, self.limits.ttl, token.expires_at()),
            Verdict::Refused(_) => (&mut self.bad, self.limits.negative_ttl, None),
        };
        let until = now.saturating_add(jittered(ttl, self.jitter.hash_one(hash)));
        let until = end.map_or(until, |end| end.min(until));
        let bytes = OVERHEAD + held(&verdict);
        self.evictions.capacity += space.insert(Entry { hash, value: verdict, until, bytes });
    }

    /// Forgets a token on which the verdict may have changed.
    pub fn remove(&mut self, prefix: HashPrefix) {
        if self.take(prefix) {
            self.evictions.changed += 1;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.evictions.reset += self.entries() as u64;
        self.good.clear();
        self.bad.clear();
    }

    /// How many tokens are kept, good and bad.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.good.len() + self.bad.len()
    }

    /// How many bytes the entries take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.good.bytes() + self.bad.bytes()
    }

    /// How many entries have left so far, by cause.
    #[must_use]
    pub fn evictions(&self) -> Evictions {
        self.evictions
    }
}

/// A time to live, at most a tenth more or less, so that what came together does not go together.
fn jittered(ttl: Duration, random: u64) -> Duration {
    let tenth = ttl / 10;
    let share = u32::try_from(random % 2001).unwrap_or(0);
    ttl.saturating_sub(tenth).saturating_add(tenth.saturating_mul(share) / 1000)
}

/// The bytes that a verdict holds outside of its entry.
fn held(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Usable(token) => size_of::<Usable>() + token.heap_bytes(),
        Verdict::Refused(denied) => denied.heap_bytes(),
    }
}
