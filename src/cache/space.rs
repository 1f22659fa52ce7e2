//! A bounded map from token hashes: when it is full, what was asked for longest ago goes first.

use std::hash::RandomState;
use std::time::Duration;

use lru::LruCache;

use crate::token::{HashPrefix, TokenHash};

/// What is kept of a token.
#[derive(Debug)]
pub(super) struct Entry<V> {
    /// The token's hash, of which the map knows the prefix alone.
    pub hash: TokenHash,
    pub value: V,
    /// When its time is over.
    pub until: Duration,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// The map. Its keys are prefixes, for those are what the change feed tells; of two tokens with the same one, which hardly ever are,
/// the later takes the place of the earlier. Nobody chooses where in it a token comes, for its hasher is seeded.
#[derive(Debug)]
pub(super) struct Space<V> {
    max_entries: usize,
    max_bytes: usize,
    entries: LruCache<HashPrefix, Entry<V>, RandomState>,
    bytes: usize,
}

impl<V> Space<V> {
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            max_entries,
            max_bytes,
            entries: LruCache::unbounded_with_hasher(RandomState::new()),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a hash is here; it is not taken for being asked for.
    pub fn contains(&self, hash: &TokenHash) -> bool {
        self.entries.peek(&hash.prefix()).is_some_and(|entry| entry.hash == *hash)
    }

    pub fn get(&mut self, hash: &TokenHash) -> Option<&Entry<V>> {
        self.entries.get(&hash.prefix()).filter(|entry| entry.hash == *hash)
    }

    /// Keeps an entry in the place of the one before, and tells how many others it pushed out. The newest is kept whatever its
    /// size, as long as anything is.
    pub fn insert(&mut self, entry: Entry<V>) -> u64 {
        let prefix = entry.hash.prefix();
        self.remove(prefix);
        if self.max_entries == 0 {
            return 0;
        }
        let mut evicted = 0;
        while self.len() >= self.max_entries || self.bytes.saturating_add(entry.bytes) > self.max_bytes {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            evicted += 1;
        }
        self.bytes += entry.bytes;
        self.entries.put(prefix, entry);
        evicted
    }

    /// Takes out what is kept under a prefix.
    pub fn remove(&mut self, prefix: HashPrefix) -> Option<Entry<V>> {
        let removed = self.entries.pop(&prefix)?;
        self.bytes = self.bytes.saturating_sub(removed.bytes);
        Some(removed)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
