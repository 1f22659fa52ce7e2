//! Following the service's change feed: what to ask next and when, what an answer means, whether the feed is up, and whether
//! a verify answer is older than a change already heard of. A state machine with no clock and no I/O of its own; times are
//! durations since any fixed moment.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::token::HashPrefix;
use crate::wire::{CHANGES_PATH, ChangesResponse, VerifyResponse};

#[cfg(test)]
mod tests;

/// The shortest and the longest time that the service is asked to wait for a change.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long after a failure the next question is asked: doubled with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the back-off is not cut short again by look-ups of which some are answered and some are not.
const HURRY_APART: Duration = Duration::from_secs(1);
/// How many changes are remembered, to tell verify answers that are older.
const REMEMBERED: usize = 4096;

/// A question to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its path, with the position that the feed has reached.
    pub path: String,
    /// How many of the tokens that the next change touched are known already: the value of
    /// [`PREFIX_OFFSET`](crate::wire::PREFIX_OFFSET).
    pub offset: u64,
    /// How long the service may take to answer, beside the time that any callout may take.
    pub wait: Duration,
}

/// What an answer of the feed calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The verdicts on these tokens may have changed.
    Forget(Vec<HashPrefix>),
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
    /// When the back-off was cut short; `None`: it may be.
    hurried: Option<Duration>,
    /// Whether a look-up was answered while a question was under way that followed a failure.
    answered_meanwhile: bool,
    /// Whether there is somebody who asks.
    followed: bool,
}

/// Where in which history the feed is.
#[derive(Debug)]
struct Position {
    epoch: String,
    revision: u64,
    /// How many of the tokens are known that the change after `revision` touched.
    offset: u64,
    /// The revision up to which changes are not remembered.
    floor: u64,
    changed: HashMap<HashPrefix, u64>,
    order: VecDeque<(HashPrefix, u64)>,
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
            hurried: None,
            answered_meanwhile: false,
            followed: false,
        }
    }

    /// How long the service is asked to wait at most: short enough that a live feed is heard several times before it is
    /// stale.
    #[must_use]
    pub fn wait(&self) -> Duration {
        (self.stale_after / 3).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// The next question, if it is time to ask; it counts as asked, and ends with [`Feed::heard`] or
    /// [`Feed::failed`]. Where no verdict may serve without the feed being heard this very moment, there is none.
    pub fn ask(&mut self, now: Duration) -> Option<Question> {
        if self.asked.is_some() || now < self.next || self.stale_after.is_zero() {
            return None;
        }
        // After a loss the first answer is to come at once: until it does, nobody knows that nothing has changed.
        let after_a_loss = self.position.is_some() && (self.failures > 0 || !self.followed);
        let wait = if after_a_loss { Duration::ZERO } else { self.wait() };
        (self.asked, self.followed) = (Some((now, wait)), true);
        let wait_ms = wait.as_millis();
        Some(match &self.position {
            Some(Position { epoch, revision, offset, .. }) => Question {
                path: format!("{CHANGES_PATH}?epoch={epoch}&after={revision}&wait_ms={wait_ms}"),
                offset: *offset,
                wait,
            },
            None => Question { path: format!("{CHANGES_PATH}?wait_ms={wait_ms}"), offset: 0, wait },
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
        (self.hurried, self.answered_meanwhile) = (None, false);
        let too_soon = now.saturating_sub(asked) < wait / 2;
        self.next = if self.is_in_vain(&answer, too_soon) { now + FIRST_PAUSE } else { now };
        if answer.reset {
            self.position = Some(Position::new(answer.epoch, answer.revision));
            return Ok(Effect::ForgetAll);
        }
        let touched: Vec<HashPrefix> = answer.touched().collect();
        if let Some(position) = &mut self.position {
            position.advance(answer.revision, answer.next_offset, &touched);
        }
        Ok(Effect::Forget(touched))
    }

    /// Whether an answer says that asking again at once would only turn in circles: nothing new, and that too soon, or a
    /// history that is lost again and again.
    fn is_in_vain(&self, answer: &ChangesResponse, too_soon: bool) -> bool {
        if answer.reset { self.position.is_some() } else { answer.is_empty() && too_soon }
    }

    /// The question got no answer: the next one is asked a little later each time.
    pub fn failed(&mut self, now: Duration, random: u64) {
        self.asked = None;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all of it, so that edges which lost the service together do not come back together.
        self.next = now.saturating_add(pause / 2 + share_of(pause / 2, random));
        if std::mem::take(&mut self.answered_meanwhile) {
            self.hurry(now, random);
        }
    }

    /// The service has answered a look-up, so it is there, whatever became of the questions before: a back-off of seconds, in which
    /// a revoked token would pass, is cut short.
    ///
    /// Once in an outage, where look-ups go on being answered, as when the feed alone is out of reach; at most once a
    /// second where some of them fail ([`Feed::lookup_failed`]).
    pub fn lookup_answered(&mut self, now: Duration, random: u64) {
        if self.failures > 0 && self.asked.is_some() {
            self.answered_meanwhile = true;
        } else if self.failures > 0 {
            self.hurry(now, random);
        }
    }

    /// A look-up got no answer: if the service comes back, it is worth asking again.
    pub fn lookup_failed(&mut self, now: Duration) {
        self.answered_meanwhile = false;
        if self.hurried.is_some_and(|hurried| now.saturating_sub(hurried) >= HURRY_APART) {
            self.hurried = None;
        }
    }

    /// Asks within the shortest pause, at any time in it: all workers of all edges notice together that the service is back.
    fn hurry(&mut self, now: Duration, random: u64) {
        if self.hurried.is_none() && self.next > now.saturating_add(FIRST_PAUSE) {
            self.hurried = Some(now);
            self.next = now.saturating_add(share_of(FIRST_PAUSE, random));
        }
    }

    /// Whether the next question is to be asked within the shortest pause, so that somebody should look soon.
    #[must_use]
    pub fn asks_soon(&self, now: Duration) -> bool {
        self.asked.is_none() && self.next > now && self.next - now <= FIRST_PAUSE
    }

    /// Whoever asked is gone, and its question with it. Nothing is heard until somebody asks again, so no cached verdict
    /// serves until then.
    pub fn abandon(&mut self) {
        (self.asked, self.followed, self.answered_meanwhile) = (None, false, false);
    }

    /// Whether cached verdicts may serve: the feed was heard lately enough, and somebody follows it.
    #[must_use]
    pub fn is_fresh(&self, now: Duration) -> bool {
        now < self.fresh_until()
    }

    /// Until when cached verdicts may serve, if nothing more is heard; zero: they may not. See [`Feed::is_fresh`].
    #[must_use]
    pub fn fresh_until(&self) -> Duration {
        let heard = self.heard.filter(|_| self.followed);
        heard.map_or(Duration::ZERO, |heard| heard.saturating_add(self.stale_after))
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
        let last_change =
            position.changed.get(&answer.token_hash.prefix()).copied().unwrap_or(position.floor);
        if answer.revision < last_change { Age::Outdated } else { Age::Current }
    }
}

/// An answer that no service of ours gives: of another history without saying so, or going back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no answer to a question about changes")]
pub struct NotAnAnswer;

impl Position {
    fn new(epoch: String, revision: u64) -> Self {
        Self { epoch, revision, offset: 0, floor: revision, changed: HashMap::new(), order: VecDeque::new() }
    }

    fn is_followed_by(&self, answer: &ChangesResponse) -> bool {
        let goes_on = match answer.next_offset {
            // A part of the change after this revision, which is not all of it.
            Some(offset) if answer.revision == self.revision => offset > self.offset && answer.more,
            Some(_) => answer.revision > self.revision && answer.more,
            None => {
                answer.revision > self.revision || (answer.revision == self.revision && answer.is_empty())
            }
        };
        self.epoch == answer.epoch && goes_on
    }

    /// Remembers that the tokens changed at `revision` or before, or where there is an `offset`, at the one after it or before.
    fn advance(&mut self, revision: u64, offset: Option<u64>, touched: &[HashPrefix]) {
        (self.revision, self.offset) = (revision, offset.unwrap_or(0));
        // Revisions have no gaps, so the one after it is known before all of it is.
        let changed_at = revision.saturating_add(u64::from(offset.is_some()));
        for prefix in touched {
            self.changed.insert(*prefix, changed_at);
            self.order.push_back((*prefix, changed_at));
        }
        while self.order.len() > REMEMBERED {
            let Some((prefix, revision)) = self.order.pop_front() else { break };
            self.floor = revision;
            if self.changed.get(&prefix) == Some(&revision) {
                self.changed.remove(&prefix);
            }
        }
    }
}

/// A part of a time, by chance.
fn share_of(time: Duration, random: u64) -> Duration {
    time.saturating_mul(u32::try_from(random % 1001).unwrap_or(0)) / 1000
}

/// Whether a text can stand in a query as it is.
fn is_plain(epoch: &str) -> bool {
    (1..=64).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
