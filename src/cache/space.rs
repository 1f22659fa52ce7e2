//! A bounded map from token hashes: when it is full, what was asked for longest ago goes first.

use std::hash::RandomState;
use std::time::Duration;

use lru::LruCache;

use crate::token::TokenHash;

/// What is kept under a hash.
#[derive(Debug)]
pub(super) struct Entry<V> {
    pub value: V,
    /// When its time is over.
    pub until: Duration,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// The map. Nobody chooses where in it a token comes, for its hasher is seeded.
#[derive(Debug)]
pub(super) struct Space<V> {
    max_entries: usize,
    max_bytes: usize,
    entries: LruCache<TokenHash, Entry<V>, RandomState>,
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
        self.entries.contains(hash)
    }

    pub fn get(&mut self, hash: &TokenHash) -> Option<&Entry<V>> {
        self.entries.get(hash)
    }

    /// Keeps an entry in the place of the one before, and tells how many others it pushed out. The newest is kept whatever its
    /// size, as long as anything is.
    pub fn insert(&mut self, hash: TokenHash, entry: Entry<V>) -> u64 {
        self.remove(&hash);
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
        self.entries.put(hash, entry);
        evicted
    }

    pub fn remove(&mut self, hash: &TokenHash) -> bool {
        let removed = self.entries.pop(hash);
        if let Some(entry) = &removed {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
        removed.is_some()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
