//! Rules 4, 5 and 10 by property test: gate, cache, feed and look-ups together, as the shell runs them in one VM, and a
//! service that knows how every token stood at every revision. In whatever order questions, answers, changes, losses and
//! the time come: what serves from the cache is never older than what the feed has told, nor too old, and nobody waits for ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use self::service::{Judgement, Moment, Service, State, TOKENS, hash};
use self::step::Step;
use crate::cache::{self, Cache};
use crate::credential::Credential;
use crate::feed::{Age, Effect, Feed, Question};
use crate::gate::{self, Verdict};
use crate::lookups::{self, CallId, Joined, Lookups, Outcome};
use crate::token::{HashPrefix, TokenHash};
use crate::wire::{ChangesResponse, Scheme, VerifyResponse};

mod service;
mod step;

const STALE: Duration = Duration::from_millis(3000);
const TTL: Duration = Duration::from_millis(8000);
const NEGATIVE_TTL: Duration = Duration::from_millis(2000);
const TIMEOUT: Duration = Duration::from_millis(1000);

/// What a callout brought, and what the service knew when it gave that answer.
#[derive(Clone, Debug)]
struct Answered {
    verdict: Verdict,
    moment: Moment,
    at: Duration,
}

/// A verdict that the cache should have: since when, and until when for certain.
#[derive(Clone, Copy, Debug)]
struct Kept {
    since: Duration,
    until: Duration,
    ttl: Duration,
}

struct World {
    service: Service,
    now: Duration,
    // The edge.
    cache: Cache,
    feed: Feed,
    lookups: Lookups<usize, Answered>,
    names: u32,
    // What is under way.
    questions: Vec<(CallId, usize)>,
    answers: Vec<(CallId, VerifyResponse, Duration)>,
    feed_question: Option<Question>,
    feed_answer: Option<ChangesResponse>,
    // What an honest edge may do.
    told: Option<Moment>,
    /// The changes of single tokens that are known before all is that changed with them.
    told_ahead: [Option<Moment>; TOKENS],
    heard: Option<Duration>,
    followed: bool,
    kept: [Option<Kept>; TOKENS],
    waiting: usize,
    /// What became of the latest request for each token; `None`: unavailable.
    latest: [Option<Judgement>; TOKENS],
    hits: usize,
}

fn new_edge() -> (Cache, Feed, Lookups<usize, Answered>) {
    let limits =
        cache::Limits { max_tokens: TOKENS, ttl: TTL, max_negative: TOKENS, negative_ttl: NEGATIVE_TTL };
    let most = lookups::Limits { waiters: 1000, waiters_per_token: 1000, callouts: 1000, strangers: 1000 };
    (Cache::new(limits), Feed::new(STALE), Lookups::new(most, TIMEOUT))
}

fn judge(verdict: &Verdict, token: usize, now: Duration) -> Judgement {
    let credential = Credential { scheme: Scheme::Bearer, user: None, hash: hash(token) };
    let judged = gate::judge(&credential, &Arc::default(), None, verdict, now);
    judged.map(|_| ()).map_err(|refusal| refusal.reason())
}

fn token_of(hash_of_it: TokenHash) -> usize {
    named(hash_of_it.prefix())
}

fn named(prefix: HashPrefix) -> usize {
    (0..TOKENS).find(|token| hash(*token).prefix() == prefix).unwrap()
}

impl World {
    fn new() -> Self {
        let (cache, feed, lookups) = new_edge();
        Self {
            service: Service::new(),
            now: Duration::ZERO,
            cache,
            feed,
            lookups,
            names: 0,
            questions: Vec::new(),
            answers: Vec::new(),
            feed_question: None,
            feed_answer: None,
            told: None,
            told_ahead: [None; TOKENS],
            heard: None,
            followed: false,
            kept: [None; TOKENS],
            waiting: 0,
            latest: [None; TOKENS],
            hits: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Request(token) => self.request(token),
            Step::TakeUp(which) => self.take_up(which),
            Step::Arrive(which) => self.arrive(which),
            Step::Lose(which, late) => self.lose(which, late),
            Step::AskFeed => self.ask_feed(),
            Step::TakeFeedUp(page) => {
                let asked = self.feed_question.take();
                self.feed_answer =
                    asked.map(|asked| self.service.changes(&asked, page)).or(self.feed_answer.take());
            }
            Step::FeedArrives => self.feed_arrives(),
            Step::FeedBreaks => {
                if self.feed_question.take().is_some() | self.feed_answer.take().is_some() {
                    self.feed.failed(self.now, 0);
                }
            }
            Step::Change(token, state) => self.service.change(&[token], state),
            Step::ChangeAll(state) => self.service.change(&[0, 1, 2], state),
            Step::ExpireIn(token, left) => {
                let end = self.now + Duration::from_millis(left);
                self.service.change(&[token], State::Live { expires_at: Some(end) });
            }
            Step::ForgetChanges(most) => self.service.forget_changes(most),
            Step::Restore(lost) => self.service.restore(lost),
            Step::Abandon => {
                (self.feed_question, self.feed_answer, self.followed) = (None, None, false);
                self.feed.abandon();
            }
            Step::Die => self.die(),
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.lookups.sweep(self.now);
                self.release();
            }
        }
    }

    /// A client comes with a token.
    fn request(&mut self, token: usize) {
        let now = self.now;
        let fresh = self.feed.is_fresh(now);
        let cached = if fresh { self.cache.get(&hash(token), now) } else { None };
        let honest = self.followed && self.heard.is_some_and(|heard| now - heard < STALE);
        if let Some(verdict) = cached {
            assert!(honest, "a verdict serves, and the feed was heard at {:?} of {now:?}", self.heard);
            self.assert_lately_kept(token);
            let judged = judge(&verdict, token, now);
            let possible = self.service.judgements(token, self.told_of(token).unwrap(), now);
            assert!(possible.contains(&judged), "token {token}: {judged:?} from the cache, not {possible:?}");
            self.latest[token] = Some(judged);
            self.hits += 1;
            return;
        }
        let known = self.kept[token].is_some_and(|kept| now < kept.until);
        assert!(!(honest && known), "a known token is not served: {:?}", self.kept[token]);
        self.names += 1;
        self.waiting += 1;
        if self.lookups.join(self.names, hash(token), true, now, token) == Ok(Joined::Ask) {
            self.send(token);
        }
    }

    /// The moment since which the edge knows how a token stands.
    fn told_of(&self, token: usize) -> Option<Moment> {
        self.told.max(self.told_ahead[token])
    }

    fn assert_lately_kept(&self, token: usize) {
        let Kept { since, ttl, .. } = self.kept[token].unwrap();
        assert!(self.now - since <= ttl + ttl / 10, "token {token} was kept at {since:?}");
    }

    fn send(&mut self, token: usize) {
        self.names += 1;
        self.lookups.sent(hash(token), self.names);
        self.questions.push((self.names, token));
    }

    /// The service takes one question up, and its answer is under way.
    fn take_up(&mut self, which: usize) {
        if !self.questions.is_empty() {
            let (call, token) = self.questions.remove(which % self.questions.len());
            self.answers.push((call, self.service.verify(token, self.now), self.now));
        }
    }

    /// An answer arrives, and is believed and kept as the shell does it.
    fn arrive(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        let (call, answer, at) = self.answers.remove(which % self.answers.len());
        let (token, now) = (token_of(answer.token_hash), self.now);
        self.feed.lookup_answered(now, u64::from(call));
        let asked = self.lookups.asked_at(call).unwrap();
        let verdict = Verdict::of(&answer, answer.token_hash, now).unwrap();
        let outcome = match self.feed.age_of(&answer) {
            Age::Outdated => Outcome::Outdated,
            age => {
                if age == Age::Current {
                    let kept = Verdict::of(&answer, answer.token_hash, asked).unwrap();
                    self.cache.insert(answer.token_hash, kept, now);
                    self.kept[token] = Some(Kept::of(&answer, now, asked));
                }
                let moment = Service::moment(&answer.epoch, answer.revision);
                Outcome::Answer(Answered { verdict, moment, at })
            }
        };
        self.end(call, outcome);
    }

    /// A question, or the answer to it, is lost.
    fn lose(&mut self, which: usize, late: bool) {
        let calls: VecDeque<CallId> =
            self.questions.iter().map(|it| it.0).chain(self.answers.iter().map(|it| it.0)).collect();
        if !calls.is_empty() {
            let call = calls[which % calls.len()];
            self.questions.retain(|it| it.0 != call);
            self.answers.retain(|it| it.0 != call);
            self.feed.lookup_failed(self.now);
            self.end(call, if late { Outcome::Timeout } else { Outcome::Failed });
        }
    }

    fn end(&mut self, call: CallId, outcome: Outcome<Answered>) {
        if let Some(again) = self.lookups.ended(call, outcome, self.now) {
            self.send(token_of(again));
        }
        self.release();
    }

    fn release(&mut self) {
        for release in self.lookups.release(usize::MAX) {
            let token = release.request;
            self.waiting -= 1;
            self.latest[token] = release.answer.map(|answered| self.judge_answer(token, &answered));
        }
    }

    /// Whoever waited is judged by what the service said, which is no older than what the feed has told.
    fn judge_answer(&self, token: usize, Answered { verdict, moment, at }: &Answered) -> Judgement {
        let judged = judge(verdict, token, self.now);
        let told = self.told_of(token).filter(|told| told.history == moment.history);
        let possible = match told {
            Some(told) => self.service.judgements(token, told, *at),
            None => self.service.judgements(token, *moment, *at).drain(..1).collect(),
        };
        assert!(possible.contains(&judged), "token {token}: {judged:?} from the service, not {possible:?}");
        judged
    }

    fn ask_feed(&mut self) {
        if let Some(question) = self.feed.ask(self.now) {
            (self.feed_question, self.followed) = (Some(question), true);
        }
    }

    fn feed_arrives(&mut self) {
        let Some(answer) = self.feed_answer.take() else { return };
        let (told, ahead) = (Service::moment(&answer.epoch, answer.revision), answer.next_offset.is_some());
        self.told = Some(told);
        self.heard = Some(self.now);
        match self.feed.heard(answer, self.now).unwrap() {
            Effect::Forget(prefixes) => {
                for prefix in prefixes {
                    self.cache.remove(prefix);
                    self.kept[named(prefix)] = None;
                    if ahead {
                        let next = Moment { revision: told.revision + 1, ..told };
                        self.told_ahead[named(prefix)] = Some(next);
                    }
                }
            }
            Effect::ForgetAll => {
                self.cache.clear();
                self.kept = [None; TOKENS];
            }
        }
    }

    /// The VM dies with whoever waits in it, and another takes its place.
    fn die(&mut self) {
        let (service, now, names, hits) =
            (std::mem::replace(&mut self.service, Service::new()), self.now, self.names, self.hits);
        *self = Self { service, now, names, hits, ..Self::new() };
    }

    /// All that is under way arrives, and the feed catches up.
    fn settle(&mut self) {
        for round in 0..100 {
            let quiet = self.waiting + self.questions.len() + self.answers.len() == 0;
            if quiet && self.told == Some(self.service.now()) && self.feed.is_fresh(self.now) {
                return;
            }
            self.take(Step::Wait(100));
            self.ask_feed();
            for step in [Step::TakeUp(round), Step::Arrive(round), Step::TakeFeedUp(4), Step::FeedArrives] {
                self.take(step);
            }
        }
    }
}

impl Kept {
    fn of(answer: &VerifyResponse, now: Duration, asked: Duration) -> Self {
        let ttl = if answer.token.is_some() { TTL } else { NEGATIVE_TTL };
        let end = answer.token.as_ref().and_then(|token| token.expires_in_ms);
        let end = end.map_or(Duration::MAX, |left| asked + Duration::from_millis(left));
        Self { since: now, until: end.min(now + ttl - ttl / 10), ttl }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn prompt_and_steady_whatever_overtakes_what(
        steps in prop::collection::vec(any::<u32>().prop_map(Step::from), 1..150),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.settle();
        prop_assert_eq!(world.told, Some(world.service.now()));
        prop_assert!(world.feed.is_fresh(world.now));
        prop_assert_eq!(world.waiting, 0, "somebody waits for ever");
        let before = world.hits;
        for token in 0..TOKENS {
            for _ in 0..2 {
                world.request(token);
                world.take_up(0);
                world.arrive(0);
                let judged = world.service.judgements(token, world.service.now(), world.now);
                prop_assert_eq!(world.latest[token], Some(judged[0]), "when all is told, what serves is what is");
            }
        }
        prop_assert!(world.hits >= before + TOKENS, "what is known is served without asking");
    }
}
