use proptest::prelude::*;

use super::*;
use crate::cache::{Cache, Limits};
use crate::gate::Verdict;
use crate::wire::{RefusalReason, Scheme, TokenFacts};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn hash(token: u8) -> TokenHash {
    TokenHash::of(&[token])
}

fn feed() -> Feed {
    Feed::new(ms(30_000))
}

fn changes(epoch: &str, revision: u64, tokens: &[u8]) -> ChangesResponse {
    let token_hashes = tokens.iter().copied().map(hash).collect();
    ChangesResponse { epoch: epoch.to_owned(), revision, reset: false, more: false, token_hashes }
}

fn reset(epoch: &str, revision: u64) -> ChangesResponse {
    ChangesResponse { reset: true, ..changes(epoch, revision, &[]) }
}

fn verify(epoch: &str, revision: u64, token: u8) -> VerifyResponse {
    let reason = Some(RefusalReason::Unknown);
    VerifyResponse { epoch: epoch.to_owned(), revision, token_hash: hash(token), token: None, reason }
}

/// A feed that was told at time 0 that the history `e` is at revision 7.
fn started() -> Feed {
    let mut feed = feed();
    feed.ask(ms(0)).unwrap();
    assert_eq!(feed.heard(reset("e", 7), ms(0)), Ok(Effect::ForgetAll));
    feed
}

#[test]
fn the_first_question_names_no_history_and_each_further_one_where_the_last_answer_ended() {
    let mut feed = feed();
    assert_eq!(feed.ask(ms(0)).unwrap(), "/edge/v1/changes?wait_ms=10000");
    assert_eq!(feed.ask(ms(0)), None, "one is under way");
    feed.heard(reset("e-1", 7), ms(5)).unwrap();
    assert_eq!(feed.ask(ms(5)).unwrap(), "/edge/v1/changes?epoch=e-1&after=7&wait_ms=10000");
    assert_eq!(feed.heard(changes("e-1", 9, &[1, 2]), ms(6)), Ok(Effect::Forget(vec![hash(1), hash(2)])));
    assert_eq!(feed.ask(ms(6)).unwrap(), "/edge/v1/changes?epoch=e-1&after=9&wait_ms=10000");
}

#[test]
fn the_wait_lets_a_live_feed_be_heard_several_times_before_it_is_stale() {
    for (stale, wait) in [(30_000, 10_000), (3_000, 1_000), (86_400_000, 10_000), (5, 100)] {
        assert_eq!(Feed::new(ms(stale)).wait(), ms(wait), "{stale}");
    }
    assert_eq!(Feed::new(ms(0)).ask(ms(0)), None, "where nothing may be stale, nothing is kept");
}

#[test]
fn a_feed_is_fresh_until_it_was_not_heard_for_so_long_and_again_when_it_is_heard() {
    assert!(!feed().is_fresh(ms(0)));
    let mut feed = started();
    assert!(feed.is_fresh(ms(29_999)));
    assert!(!feed.is_fresh(ms(30_000)));
    feed.ask(ms(40_000)).unwrap();
    assert!(!feed.is_fresh(ms(40_000)));
    feed.heard(changes("e", 7, &[]), ms(50_000)).unwrap();
    assert!(feed.is_fresh(ms(50_000)));
    feed.abandon();
    assert!(!feed.is_fresh(ms(50_000)), "nobody follows it");
    assert!(feed.ask(ms(50_000)).is_some());
}

#[test]
fn after_a_failure_the_next_question_waits_longer_each_time_and_never_the_same_for_two() {
    let mut feed = feed();
    let (mut now, mut pauses) = (ms(0), Vec::new());
    for _ in 0..9 {
        feed.ask(now).unwrap();
        feed.failed(now, 1000);
        let pause = (0..).map(|more| now + ms(more)).find(|then| feed.next <= *then).unwrap() - now;
        assert_eq!(feed.ask(now + pause - ms(1)), None);
        now += pause;
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    feed.ask(now).unwrap();
    feed.failed(now, 0);
    assert!(feed.ask(now + ms(2_500)).is_some(), "half of it at least");
    feed.heard(reset("e", 1), now).unwrap();
    feed.ask(now).unwrap();
    feed.failed(now, 1000);
    assert!(feed.ask(now + ms(100)).is_some(), "an answer begins it anew");
}

#[test]
fn a_service_that_answers_too_soon_with_nothing_is_not_asked_in_circles() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.heard(changes("e", 7, &[]), ms(10)).unwrap();
    assert_eq!(feed.ask(ms(109)), None);
    feed.ask(ms(110)).unwrap();
    feed.heard(reset("f", 1), ms(111)).unwrap();
    assert_eq!(feed.ask(ms(210)), None);
    feed.ask(ms(211)).unwrap();
    feed.heard(changes("f", 1, &[]), ms(10_211)).unwrap();
    assert!(feed.ask(ms(10_211)).is_some(), "it waited as it was asked to");
}

#[test]
fn an_answer_that_no_service_of_ours_gives_changes_nothing() {
    let mut feed = started();
    let mut more_of_nothing = changes("e", 7, &[]);
    more_of_nothing.more = true;
    for (what, answer) in [
        ("another history", changes("f", 8, &[1])),
        ("going back", changes("e", 6, &[1])),
        ("a change without a revision", changes("e", 7, &[1])),
        ("more of nothing", more_of_nothing),
        ("an epoch that would change the question", reset("e&after=99", 1)),
        ("no epoch", reset("", 1)),
    ] {
        feed.asked = None;
        feed.ask(ms(1)).unwrap();
        assert_eq!(feed.heard(answer, ms(1)), Err(NotAnAnswer), "{what}");
        feed.asked = None;
        assert_eq!(feed.ask(ms(1)).unwrap(), "/edge/v1/changes?epoch=e&after=7&wait_ms=10000", "{what}");
        assert_eq!(feed.age(ms(1)), Some(ms(1)), "{what}");
    }
    assert_eq!(Feed::new(ms(1)).heard(changes("e", 7, &[]), ms(0)), Err(NotAnAnswer), "it was not asked so");
}

#[test]
fn a_verify_answer_older_than_a_change_of_its_token_is_outdated() {
    assert_eq!(feed().age_of(&verify("e", 7, 1)), Age::Unknown);
    let mut feed = started();
    assert_eq!(feed.age_of(&verify("e", 6, 1)), Age::Outdated, "what was before is not known");
    assert_eq!(feed.age_of(&verify("e", 7, 1)), Age::Current);
    assert_eq!(feed.age_of(&verify("f", 99, 1)), Age::Unknown);
    feed.ask(ms(0)).unwrap();
    feed.heard(changes("e", 9, &[1]), ms(0)).unwrap();
    assert_eq!(feed.age_of(&verify("e", 8, 1)), Age::Outdated);
    assert_eq!(feed.age_of(&verify("e", 9, 1)), Age::Current);
    assert_eq!(feed.age_of(&verify("e", 8, 2)), Age::Current, "others changed, not this one");
}

#[test]
fn so_many_changes_that_not_all_are_remembered_make_older_answers_outdated() {
    let mut feed = started();
    let many: Vec<TokenHash> = (0..5_000_u32).map(|token| TokenHash::of(&token.to_be_bytes())).collect();
    for (revision, hashes) in (8..).zip(many.chunks(100)) {
        feed.ask(ms(0)).unwrap();
        let answer = ChangesResponse { token_hashes: hashes.to_vec(), ..changes("e", revision, &[]) };
        feed.heard(answer, ms(0)).unwrap();
    }
    let position = feed.position.as_ref().unwrap();
    assert_eq!(
        (position.revision, position.order.len(), position.changed.len()),
        (57, REMEMBERED, REMEMBERED)
    );
    assert_eq!(feed.age_of(&verify("e", 16, 9)), Age::Outdated, "it may have changed at 17");
    assert_eq!(feed.age_of(&verify("e", 17, 9)), Age::Current);
}

/// A service with a few tokens, which knows what it said of each at every revision; and an edge that asks it.
struct World {
    epoch: u32,
    /// Whether each token was live, by revision.
    history: Vec<[bool; TOKENS]>,
    changed: Vec<u8>,
    cache: Cache,
    feed: Feed,
    now: Duration,
    questions: Vec<u8>,
    answers: Vec<VerifyResponse>,
    feed_question: Option<u64>,
    feed_answer: Option<ChangesResponse>,
}

const TOKENS: usize = 3;

impl World {
    fn new() -> Self {
        let limits = Limits { max_tokens: 9, ttl: ms(60_000), max_negative: 9, negative_ttl: ms(60_000) };
        Self {
            epoch: 1,
            history: vec![[true; TOKENS]],
            changed: Vec::new(),
            cache: Cache::new(limits),
            feed: feed(),
            now: ms(0),
            questions: Vec::new(),
            answers: Vec::new(),
            feed_question: None,
            feed_answer: None,
        }
    }

    fn epoch(&self) -> String {
        format!("e{}", self.epoch)
    }

    fn revision(&self) -> u64 {
        self.history.len() as u64 - 1
    }

    fn change(&mut self, token: u8) {
        let mut state = *self.history.last().unwrap();
        state[usize::from(token)] ^= true;
        self.history.push(state);
        self.changed.push(token);
    }

    /// A backup is restored, and stamped: some revisions are lost, and the history has another name.
    fn restore(&mut self, lost: usize) {
        let kept = self.history.len().saturating_sub(lost).max(1);
        self.history.truncate(kept);
        self.changed.truncate(kept - 1);
        self.epoch += 1;
    }

    /// The service takes one question up, and its answer is under way.
    fn take_up(&mut self, which: usize) {
        if self.questions.is_empty() {
            return;
        }
        let token = self.questions.remove(which % self.questions.len());
        let live = self.history.last().unwrap()[usize::from(token)];
        let facts = live.then(|| TokenFacts {
            id: "i".to_owned(),
            name: "ci".to_owned(),
            user: "alice".to_owned(),
            schemes: vec![Scheme::Bearer],
            scopes: Vec::new(),
            allowed_cidrs: Vec::new(),
            expires_in_ms: None,
        });
        let reason = (!live).then_some(RefusalReason::Revoked);
        let refused = verify(&self.epoch(), self.revision(), token);
        self.answers.push(VerifyResponse { token: facts, reason, ..refused });
    }

    /// An answer arrives, and is believed and kept as the shell does it.
    fn arrive(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        let answer = self.answers.remove(which % self.answers.len());
        let verdict = Verdict::of(&answer, answer.token_hash, self.now).unwrap();
        let token =
            (0..TOKENS).find(|token| hash(u8::try_from(*token).unwrap()) == answer.token_hash).unwrap();
        match self.feed.age_of(&answer) {
            Age::Outdated => {}
            Age::Unknown => {}
            Age::Current => {
                self.assert_not_older_than_the_feed(token, &verdict);
                self.cache.insert(answer.token_hash, verdict, self.now);
            }
        }
    }

    fn ask_feed(&mut self) {
        if self.feed.ask(self.now).is_some() {
            self.feed_question =
                Some(self.feed.position.as_ref().map_or(u64::MAX, |position| position.revision));
        }
    }

    /// The service takes the feed's question up.
    fn take_feed_up(&mut self, page: u64) {
        let Some(after) = self.feed_question.take() else { return };
        let asked_epoch = self.feed.position.as_ref().map(|position| position.epoch.clone());
        let known = asked_epoch.is_some_and(|epoch| epoch == self.epoch()) && after <= self.revision();
        let to = self.revision().min(after.saturating_add(page));
        self.feed_answer = Some(if known {
            let range = usize::try_from(after).unwrap()..usize::try_from(to).unwrap();
            let mut answer = changes(&self.epoch(), to, &self.changed[range]);
            answer.more = to < self.revision();
            answer
        } else {
            reset(&self.epoch(), self.revision())
        });
    }

    fn feed_arrives(&mut self) {
        let Some(answer) = self.feed_answer.take() else { return };
        match self.feed.heard(answer, self.now).unwrap() {
            Effect::Forget(hashes) => hashes.iter().for_each(|hash| self.cache.remove(hash)),
            Effect::ForgetAll => self.cache.clear(),
        }
    }

    fn feed_breaks(&mut self) {
        if self.feed_question.take().is_some() || self.feed_answer.take().is_some() {
            self.feed.failed(self.now, 0);
        }
    }

    /// Nothing that serves is older than what the feed has told.
    fn assert_honest(&mut self) {
        if !self.feed.is_fresh(self.now) {
            return;
        }
        for token in 0..TOKENS {
            let found = self.cache.get(&hash(u8::try_from(token).unwrap()), self.now);
            if let Some(verdict) = found {
                self.assert_not_older_than_the_feed(token, &verdict);
            }
        }
    }

    fn assert_not_older_than_the_feed(&self, token: usize, verdict: &Verdict) {
        let position = self.feed.position.as_ref().unwrap();
        if position.epoch != self.epoch() {
            return;
        }
        let live = matches!(verdict, Verdict::Usable(_));
        let heard = usize::try_from(position.revision).unwrap();
        assert!(
            self.history[heard..].iter().any(|state| state[token] == live),
            "token {token} is {live}, which it was not at revision {heard} or later"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn prompt_no_interleaving_of_answers_changes_and_losses_leaves_an_older_verdict_than_the_feed_has_told(
        steps in prop::collection::vec((0_u8..10, 0_u8..8), 1..120),
    ) {
        let mut world = World::new();
        for (step, number) in steps {
            let token = number % u8::try_from(TOKENS).unwrap();
            match step {
                0 => world.change(token),
                1 => world.questions.push(token),
                2 => world.take_up(usize::from(number)),
                3 => world.arrive(usize::from(number)),
                4 => world.ask_feed(),
                5 => world.take_feed_up(u64::from(number) + 1),
                6 => world.feed_arrives(),
                7 if number == 0 => world.restore(2),
                7 => world.feed_breaks(),
                _ => world.now += ms(u64::from(number) * 700),
            }
            world.assert_honest();
        }
        // When all has arrived that was under way, and the feed has caught up, what serves is what is.
        for which in 0..200 {
            world.take_up(which);
            world.arrive(which);
            world.now += ms(6_000);
            world.ask_feed();
            world.take_feed_up(5);
            world.feed_arrives();
            world.assert_honest();
        }
        prop_assert!(world.feed.is_fresh(world.now));
        prop_assert_eq!(world.feed.position.as_ref().unwrap().revision, world.revision());
    }
}
