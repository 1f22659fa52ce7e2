//! Verifies in flight, and which streams wait for them: streams that present the same token share one callout. A state machine
//! with no clock and no I/O of its own.
//!
//! Each stream that joins gets exactly one outcome through [`PendingVerifies::release`], unless it leaves first. Times are
//! durations since any fixed moment.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::StreamId;
use crate::token::TokenHash;

#[cfg(test)]
mod tests;

/// What bounds the memory and the callouts of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// How many streams may wait at once.
    pub waiters: usize,
    /// How many streams may wait for the same token.
    pub waiters_per_token: usize,
    /// How many tokens may be pending.
    pub tokens: usize,
    /// How many of them while an unknown token asks for one more: the rest is for previously valid tokens.
    pub unknown: usize,
}

/// What a stream that joined is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// The first for its token, which is to be verified; the end goes to [`PendingVerifies::resolve`].
    Lead,
    /// One more for a token that is being verified.
    Follow,
}

/// How the verification of a token ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<A> {
    /// With an answer.
    Answer(A),
    /// With an answer that is older than what is known already: the token is to be verified again.
    Outdated,
    /// Its callout took too long, until then.
    Timeout(Duration),
    /// In any other way.
    Failed,
}

/// A stream that waits no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release<W, A> {
    /// The stream.
    pub waiter: StreamId,
    /// What it left when it joined.
    pub request: W,
    /// The answer; `None`: there was none in time.
    pub answer: Option<A>,
}

/// Who waits for what. `W` is kept for each waiting stream; `A` is an answer, cheap to clone.
#[derive(Debug)]
pub(super) struct PendingVerifies<W, A> {
    limits: Limits,
    /// How long a stream waits at most.
    timeout: Duration,
    waiters: HashMap<StreamId, Waiter<W>>,
    tokens: HashMap<TokenHash, BTreeSet<StreamId>>,
    ready: VecDeque<(StreamId, Option<A>)>,
}

#[derive(Debug)]
struct Waiter<W> {
    hash: TokenHash,
    deadline: Duration,
    request: W,
}

impl<W, A: Clone> PendingVerifies<W, A> {
    /// No stream waits.
    pub fn new(limits: Limits, timeout: Duration) -> Self {
        Self { limits, timeout, waiters: HashMap::new(), tokens: HashMap::new(), ready: VecDeque::new() }
    }

    /// Lets a stream wait for the verdict on a token, which may be known to have been valid before.
    ///
    /// # Errors
    /// Gives `request` back when a limit is reached; then nothing was changed.
    pub fn join(
        &mut self,
        waiter: StreamId,
        hash: TokenHash,
        previously_valid: bool,
        now: Duration,
        request: W,
    ) -> Result<Joined, W> {
        let deadline = now.saturating_add(self.timeout);
        let most = if previously_valid { self.limits.tokens } else { self.limits.unknown };
        let has_room = self.tokens.len() < most;
        let full = self.waiters.len() >= self.limits.waiters || self.waiters.contains_key(&waiter);
        let joined = match self.tokens.get_mut(&hash) {
            Some(waiters) if !full && waiters.len() < self.limits.waiters_per_token => {
                waiters.insert(waiter);
                Joined::Follow
            }
            None if !full && has_room => {
                self.tokens.insert(hash, BTreeSet::from([waiter]));
                Joined::Lead
            }
            _ => return Err(request),
        };
        self.waiters.insert(waiter, Waiter { hash, deadline, request });
        Ok(joined)
    }

    /// The verification of a token ended. When it took too long, or its answer is outdated, some of its streams may still have
    /// time: then `true`, and the token is to be verified again.
    #[must_use]
    pub fn resolve(&mut self, hash: TokenHash, outcome: Outcome<A>, now: Duration) -> bool {
        let Some(mut over) = self.tokens.remove(&hash) else { return false };
        let (answer, wait_until) = match outcome {
            Outcome::Answer(answer) => (Some(answer), None),
            Outcome::Failed => (None, None),
            Outcome::Outdated => (None, Some(now)),
            Outcome::Timeout(until) => (None, Some(until.max(now))),
        };
        let mut again = false;
        if let Some(until) = wait_until {
            let waiters = &self.waiters;
            let late = |waiter: &StreamId| waiters.get(waiter).is_some_and(|it| it.deadline > until);
            let still_waiting: BTreeSet<StreamId> = over.extract_if(.., |waiter| late(waiter)).collect();
            again = !still_waiting.is_empty();
            if again {
                self.tokens.insert(hash, still_waiting);
            }
        }
        self.ready.extend(over.into_iter().map(|waiter| (waiter, answer.clone())));
        again
    }

    /// Whether a stream waits for a token that still has time.
    pub fn is_awaited(&self, hash: &TokenHash, now: Duration) -> bool {
        let has_time = |waiter: &StreamId| self.waiters.get(waiter).is_some_and(|it| it.deadline > now);
        self.tokens.get(hash).is_some_and(|waiters| waiters.iter().any(has_time))
    }

    /// The time that every one of these tokens has a stream waiting for it.
    pub fn awaited_until<'a>(&self, hashes: impl IntoIterator<Item = &'a TokenHash>) -> Option<Duration> {
        let last = |hash: &TokenHash| {
            let waiters = self.tokens.get(hash)?.iter();
            waiters.filter_map(|waiter| Some(self.waiters.get(waiter)?.deadline)).max()
        };
        hashes.into_iter().filter_map(last).min()
    }

    /// Ends the waiting of each stream whose deadline is over.
    pub fn sweep(&mut self, now: Duration) {
        for streams in self.tokens.values_mut() {
            let waiters = &self.waiters;
            let over = |waiter: &StreamId| waiters.get(waiter).is_none_or(|it| it.deadline <= now);
            let out_of_time = streams.extract_if(.., |waiter| over(waiter));
            self.ready.extend(out_of_time.map(|waiter| (waiter, None)));
        }
    }

    /// A stream is gone. Its verification goes on: others wait for it, or may come to.
    pub fn leave(&mut self, waiter: StreamId) {
        let Some(Waiter { hash, .. }) = self.waiters.remove(&waiter) else { return };
        if let Some(waiters) = self.tokens.get_mut(&hash) {
            waiters.remove(&waiter);
        }
    }

    /// A stream that waits no longer, if there is one.
    pub fn release(&mut self) -> Option<Release<W, A>> {
        loop {
            let (waiter, answer) = self.ready.pop_front()?;
            // A stream that has left since is not here any more.
            if let Some(Waiter { request, .. }) = self.waiters.remove(&waiter) {
                return Some(Release { waiter, request, answer });
            }
        }
    }

    /// Whether [`PendingVerifies::release`] may have a stream to give.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a stream waits, and was not released yet.
    #[cfg(test)]
    fn waits(&self, waiter: StreamId) -> bool {
        self.waiters.contains_key(&waiter)
    }

    /// Whether no stream waits and no token is being verified.
    pub fn is_idle(&self) -> bool {
        self.waiters.is_empty() && self.tokens.is_empty()
    }
}
