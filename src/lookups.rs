//! Callouts under way, and who waits for which: streams that ask for the same token share one callout. A state machine
//! with no clock and no I/O of its own.
//!
//! Whoever joins gets exactly one outcome through [`Lookups::release`], unless it leaves first. Times are durations since
//! any fixed moment.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::token::TokenHash;

#[cfg(test)]
mod tests;

/// How long after its time a callout's end may still be reported; then it is given up.
const GRACE: Duration = Duration::from_secs(1);

/// What bounds the memory and the callouts of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many streams may wait at once.
    pub waiters: usize,
    /// How many streams may wait for the same token.
    pub waiters_per_token: usize,
    /// How many callouts may be under way.
    pub callouts: usize,
    /// How many of them while a stranger asks for one more: the rest is for tokens that were good before.
    pub strangers: usize,
}

/// Names a waiting stream.
pub type WaiterId = u32;
/// Names a callout, as the host does.
pub type CallId = u32;

/// What a stream that joined has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Send a callout, and report it with [`Lookups::sent`] or [`Lookups::not_sent`].
    Ask,
    /// Nothing: a callout for its token is under way.
    Wait,
}

/// How a callout ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// With an answer.
    Answer(A),
    /// With an answer that is older than what is known already: the token is to be asked about again.
    Outdated,
    /// It took too long.
    Timeout,
    /// In any other way.
    Failed,
}

/// A stream whose waiting is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release<W, A> {
    /// The stream.
    pub waiter: WaiterId,
    /// What it left when it joined.
    pub request: W,
    /// The answer; `None`: there was none in time.
    pub answer: Option<A>,
}

/// Who waits for what. `W` is kept for each waiting stream; `A` is an answer, cheap to clone.
#[derive(Debug)]
pub struct Lookups<W, A> {
    limits: Limits,
    /// How long a stream waits, and a callout takes, at most.
    timeout: Duration,
    waiters: HashMap<WaiterId, Waiter<W>>,
    tokens: HashMap<TokenHash, Lookup>,
    calls: HashMap<CallId, TokenHash>,
    ready: VecDeque<(WaiterId, Option<A>)>,
}

#[derive(Debug)]
struct Waiter<W> {
    hash: TokenHash,
    deadline: Duration,
    request: W,
}

#[derive(Debug)]
struct Lookup {
    /// When its callout ends at the latest.
    deadline: Duration,
    waiters: BTreeSet<WaiterId>,
}

impl<W, A: Clone> Lookups<W, A> {
    /// No one waits.
    #[must_use]
    pub fn new(limits: Limits, timeout: Duration) -> Self {
        Self {
            limits,
            timeout,
            waiters: HashMap::new(),
            tokens: HashMap::new(),
            calls: HashMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// Lets a stream wait for the verdict on a token, of which may be known that it was good before.
    ///
    /// # Errors
    /// Gives `request` back when a limit is reached; then nothing was changed.
    pub fn join(
        &mut self,
        waiter: WaiterId,
        hash: TokenHash,
        familiar: bool,
        now: Duration,
        request: W,
    ) -> Result<Joined, W> {
        let deadline = now.saturating_add(self.timeout);
        let most = if familiar { self.limits.callouts } else { self.limits.strangers };
        let may_ask = self.tokens.len() < most;
        let full = self.waiters.len() >= self.limits.waiters || self.waiters.contains_key(&waiter);
        let joined = match self.tokens.get_mut(&hash) {
            Some(lookup) if !full && lookup.waiters.len() < self.limits.waiters_per_token => {
                lookup.waiters.insert(waiter);
                Joined::Wait
            }
            None if !full && may_ask => {
                self.tokens.insert(hash, Lookup { deadline, waiters: BTreeSet::from([waiter]) });
                Joined::Ask
            }
            _ => return Err(request),
        };
        self.waiters.insert(waiter, Waiter { hash, deadline, request });
        Ok(joined)
    }

    /// The callout for `hash` was sent.
    pub fn sent(&mut self, hash: TokenHash, call: CallId) {
        self.calls.insert(call, hash);
    }

    /// The callout for `hash` could not be sent: whoever waits for it goes without an answer.
    pub fn not_sent(&mut self, hash: TokenHash) {
        if let Some(lookup) = self.tokens.remove(&hash) {
            self.ready.extend(lookup.waiters.into_iter().map(|waiter| (waiter, None)));
        }
    }

    /// The token that a callout under way asks about.
    #[must_use]
    pub fn asked(&self, call: CallId) -> Option<TokenHash> {
        self.calls.get(&call).copied()
    }

    /// When a callout under way was sent.
    #[must_use]
    pub fn asked_at(&self, call: CallId) -> Option<Duration> {
        let lookup = self.tokens.get(self.calls.get(&call)?)?;
        Some(lookup.deadline.saturating_sub(self.timeout))
    }

    /// A callout ended. When it took too long, or its answer is outdated, some of those who wait still have time: then the
    /// token to ask about again is returned, and its callout is to be reported as in [`Joined::Ask`].
    pub fn ended(&mut self, call: CallId, outcome: Outcome<A>, now: Duration) -> Option<TokenHash> {
        let hash = self.calls.remove(&call)?;
        let mut lookup = self.tokens.remove(&hash)?;
        let (answer, asked_until) = match outcome {
            Outcome::Answer(answer) => (Some(answer), None),
            Outcome::Failed => (None, None),
            Outcome::Outdated => (None, Some(now)),
            Outcome::Timeout => (None, Some(lookup.deadline.max(now))),
        };
        if let Some(until) = asked_until {
            let waiters = &self.waiters;
            let late = |waiter: &WaiterId| waiters.get(waiter).is_some_and(|it| it.deadline > until);
            let still_waiting = lookup.waiters.extract_if(.., |waiter| late(waiter)).collect();
            self.ask_again(hash, still_waiting, now);
        }
        self.ready.extend(lookup.waiters.into_iter().map(|waiter| (waiter, answer.clone())));
        self.tokens.contains_key(&hash).then_some(hash)
    }

    fn ask_again(&mut self, hash: TokenHash, waiters: BTreeSet<WaiterId>, now: Duration) {
        if !waiters.is_empty() {
            let deadline = now.saturating_add(self.timeout);
            self.tokens.insert(hash, Lookup { deadline, waiters });
        }
    }

    /// Ends the waiting of everyone whose time is over.
    pub fn sweep(&mut self, now: Duration) {
        for lookup in self.tokens.values_mut() {
            let waiters = &self.waiters;
            let over = |waiter: &WaiterId| waiters.get(waiter).is_none_or(|it| it.deadline <= now);
            let out_of_time = lookup.waiters.extract_if(.., |waiter| over(waiter));
            self.ready.extend(out_of_time.map(|waiter| (waiter, None)));
        }
    }

    /// The callouts whose end should have been reported by now, and was not. Each is to be ended with [`Lookups::ended`] as
    /// timed out, or the streams that still come for its token would wait for nothing. Should an end be reported all the
    /// same, it changes nothing any more.
    #[must_use]
    pub fn lost(&self, now: Duration) -> Vec<CallId> {
        let is_lost = |hash: &TokenHash| {
            self.tokens.get(hash).is_none_or(|lookup| lookup.deadline.saturating_add(GRACE) <= now)
        };
        self.calls.iter().filter(|(_, hash)| is_lost(hash)).map(|(call, _)| *call).collect()
    }

    /// A stream is gone. Its callout goes on: others wait for it, or may come to.
    pub fn leave(&mut self, waiter: WaiterId) {
        let Some(Waiter { hash, .. }) = self.waiters.remove(&waiter) else { return };
        if let Some(lookup) = self.tokens.get_mut(&hash) {
            lookup.waiters.remove(&waiter);
        }
    }

    /// Hands out at most `most` streams whose waiting is over.
    pub fn release(&mut self, most: usize) -> Vec<Release<W, A>> {
        let mut released = Vec::new();
        while released.len() < most {
            let Some((waiter, answer)) = self.ready.pop_front() else { break };
            // Whoever left since is not here any more.
            if let Some(Waiter { request, .. }) = self.waiters.remove(&waiter) {
                released.push(Release { waiter, request, answer });
            }
        }
        released
    }

    /// Whether [`Lookups::release`] has more to hand out.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a stream waits, and was not released yet.
    #[cfg(test)]
    fn waits(&self, waiter: WaiterId) -> bool {
        self.waiters.contains_key(&waiter)
    }

    /// How many callouts were sent whose end was not reported yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.calls.len()
    }

    /// Whether nobody waits and no callout is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiters.is_empty() && self.tokens.is_empty()
    }
}
