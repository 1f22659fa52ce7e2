//! Following the service's change feed: what to ask next and when, what an answer means, whether the feed is up, and whether
//! a verify answer is older than a change already heard of. A state machine with no clock and no I/O of its own; times are
//! durations since any fixed moment.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::token::TokenHash;
use crate::wire::{CHANGES_PATH, ChangesResponse, VerifyResponse};

#[cfg(test)]
mod tests;

/// The shortest and the longest time that the service is asked to wait for a change.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long after a failure the next question is asked: doubled with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many changes are remembered, to tell verify answers that are older.
const REMEMBERED: usize = 4096;

/// What an answer of the feed calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The verdicts on these tokens may have changed.
    Forget(Vec<TokenHash>),
    /// Any verdict may have changed.
    ForgetAll,
}

/// How a verify answer stands to what the feed has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It takes into account whatever the feed has told: it may be kept.
    Current,
    /// It is older than a change of its token: it must not be believed.
    Outdated,
    /// The feed was not heard yet, or tells of another history: it is the service's word for now, and not to be kept.
    Unknown,
}

/// The feed as one VM follows it.
#[derive(Debug)]
pub struct Feed {
    stale_after: Duration,
    position: Option<Position>,
    heard: Option<Duration>,
    /// The question under way: when it was asked, and how long the service may wait with its answer.
    asked: Option<(Duration, Duration)>,
    failures: u32,
    next: Duration,
    /// Whether there is somebody who asks.
    followed: bool,
}

/// Where in which history the feed is.
#[derive(Debug)]
struct Position {
    epoch: String,
    revision: u64,
    /// The revision up to which changes are not remembered.
    floor: u64,
    changed: HashMap<TokenHash, u64>,
    order: VecDeque<(TokenHash, u64)>,
}

impl Feed {
    /// A feed that was not heard yet. It is stale when it was not heard for `stale_after`.
    #[must_use]
    pub fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            position: None,
            heard: None,
            asked: None,
            failures: 0,
            next: Duration::ZERO,
            followed: false,
        }
    }

    /// How long the service is asked to wait at most: short enough that a live feed is heard several times before it is
    /// stale.
    #[must_use]
    pub fn wait(&self) -> Duration {
        (self.stale_after / 3).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// The path of the next question, if it is time to ask; it counts as asked, and ends with [`Feed::heard`] or
    /// [`Feed::failed`]. Where no verdict may serve without the feed being heard this very moment, there is none.
    pub fn ask(&mut self, now: Duration) -> Option<String> {
        if self.asked.is_some() || now < self.next || self.stale_after.is_zero() {
            return None;
        }
        // After a loss the first answer is to come at once: until it does, nobody knows that nothing has changed.
        let after_a_loss = self.position.is_some() && (self.failures > 0 || !self.followed);
        let wait = if after_a_loss { Duration::ZERO } else { self.wait() };
        (self.asked, self.followed) = (Some((now, wait)), true);
        let wait = wait.as_millis();
        Some(match &self.position {
            Some(Position { epoch, revision, .. }) => {
                format!("{CHANGES_PATH}?epoch={epoch}&after={revision}&wait_ms={wait}")
            }
            None => format!("{CHANGES_PATH}?wait_ms={wait}"),
        })
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// [`NotAnAnswer`] for one that no service of ours gives; then nothing was changed.
    pub fn heard(&mut self, answer: ChangesResponse, now: Duration) -> Result<Effect, NotAnAnswer> {
        let follows = self.position.as_ref().is_some_and(|position| position.is_followed_by(&answer));
        if !is_plain(&answer.epoch) || (!answer.reset && !follows) {
            return Err(NotAnAnswer);
        }
        let (asked, wait) = self.asked.take().unwrap_or((now, Duration::ZERO));
        (self.failures, self.heard) = (0, Some(now));
        let too_soon = now.saturating_sub(asked) < wait / 2;
        self.next = if self.is_in_vain(&answer, too_soon) { now + FIRST_PAUSE } else { now };
        if answer.reset {
            self.position = Some(Position::new(answer.epoch, answer.revision));
            return Ok(Effect::ForgetAll);
        }
        if let Some(position) = &mut self.position {
            position.advance(answer.revision, &answer.token_hashes);
        }
        Ok(Effect::Forget(answer.token_hashes))
    }

    /// Whether an answer says that asking again at once would only turn in circles: nothing new, and that too soon, or a
    /// history that is lost again and again.
    fn is_in_vain(&self, answer: &ChangesResponse, too_soon: bool) -> bool {
        let nothing_new = answer.token_hashes.is_empty() && !answer.more;
        if answer.reset { self.position.is_some() } else { nothing_new && too_soon }
    }

    /// The question got no answer: the next one is asked a little later each time.
    pub fn failed(&mut self, now: Duration, random: u64) {
        self.asked = None;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all of it, so that edges which lost the service together do not come back together.
        let share = u32::try_from(random % 1001).unwrap_or(0);
        self.next = now.saturating_add(pause / 2 + (pause / 2).saturating_mul(share) / 1000);
    }

    /// Whoever asked is gone, and its question with it. Nothing is heard until somebody asks again, so no cached verdict
    /// serves until then.
    pub fn abandon(&mut self) {
        (self.asked, self.followed) = (None, false);
    }

    /// Whether cached verdicts may serve: the feed was heard lately enough, and somebody follows it.
    #[must_use]
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.followed && self.age(now).is_some_and(|age| age < self.stale_after)
    }

    /// How long ago the feed was last heard; `None`: never.
    #[must_use]
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_sub(heard))
    }

    /// How a verify answer stands to what the feed has told.
    #[must_use]
    pub fn age_of(&self, answer: &VerifyResponse) -> Age {
        let Some(position) = self.position.as_ref().filter(|position| position.epoch == answer.epoch) else {
            return Age::Unknown;
        };
        let last_change = position.changed.get(&answer.token_hash).copied().unwrap_or(position.floor);
        if answer.revision < last_change { Age::Outdated } else { Age::Current }
    }
}

/// An answer that no service of ours gives: of another history without saying so, or going back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no answer to a question about changes")]
pub struct NotAnAnswer;

impl Position {
    fn new(epoch: String, revision: u64) -> Self {
        Self { epoch, revision, floor: revision, changed: HashMap::new(), order: VecDeque::new() }
    }

    fn is_followed_by(&self, answer: &ChangesResponse) -> bool {
        let tells_nothing = answer.token_hashes.is_empty() && !answer.more;
        self.epoch == answer.epoch
            && (answer.revision > self.revision || (answer.revision == self.revision && tells_nothing))
    }

    /// Remembers that the tokens changed at `revision` or before.
    fn advance(&mut self, revision: u64, hashes: &[TokenHash]) {
        self.revision = revision;
        for hash in hashes {
            self.changed.insert(*hash, revision);
            self.order.push_back((*hash, revision));
        }
        while self.order.len() > REMEMBERED {
            let Some((hash, revision)) = self.order.pop_front() else { break };
            self.floor = revision;
            if self.changed.get(&hash) == Some(&revision) {
                self.changed.remove(&hash);
            }
        }
    }
}

/// Whether a text can stand in a query as it is.
fn is_plain(epoch: &str) -> bool {
    (1..=64).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
