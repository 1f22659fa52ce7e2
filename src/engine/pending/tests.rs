use std::collections::HashSet;
use std::iter;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { waiters: 6, waiters_per_token: 4, tokens: 2, unknown: 1 };
const TIMEOUT: Duration = Duration::from_millis(100);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn hash(token: u8) -> TokenHash {
    TokenHash::of(&[token])
}

fn pending() -> PendingVerifies<&'static str, u8> {
    PendingVerifies::new(LIMITS, TIMEOUT)
}

/// The streams that are released, and with which answer.
fn released<W>(pending: &mut PendingVerifies<W, u8>) -> Vec<(StreamId, Option<u8>)> {
    iter::from_fn(|| pending.release()).map(|release| (release.waiter, release.answer)).collect()
}

#[test]
fn streams_that_present_the_same_token_share_one_callout() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(1), true, ms(1), "b"), Ok(Joined::Follow));
    assert_eq!(pending.join(3, hash(1), true, ms(2), "c"), Ok(Joined::Follow));
    assert_eq!(pending.join(4, hash(2), true, ms(2), "d"), Ok(Joined::Lead));
    assert!(!pending.resolve(hash(1), Outcome::Answer(9), ms(5)));
    assert_eq!(released(&mut pending), [(1, Some(9)), (2, Some(9)), (3, Some(9))]);
    assert!(pending.waits(4) && !pending.waits(3), "the fourth presents another token");
    assert!(!pending.resolve(hash(1), Outcome::Answer(9), ms(6)), "a verification ends once");
    assert!(released(&mut pending).is_empty());
}

#[test]
fn after_an_answer_the_next_stream_leads_anew() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Lead));
    assert!(!pending.resolve(hash(1), Outcome::Answer(1), ms(1)));
    assert_eq!(
        pending.join(2, hash(1), true, ms(1), "b"),
        Ok(Joined::Lead),
        "the first is not even released"
    );
}

#[test]
fn a_failed_callout_leaves_every_stream_without_an_answer() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(1), true, ms(50), "b"), Ok(Joined::Follow));
    assert!(!pending.resolve(hash(1), Outcome::Failed, ms(60)));
    assert_eq!(released(&mut pending), [(1, None), (2, None)]);
    assert_eq!(pending.join(3, hash(1), true, ms(60), "c"), Ok(Joined::Lead));
}

#[test]
fn an_outdated_answer_is_for_no_stream_and_the_token_is_verified_again_while_one_has_time() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "early"), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(1), true, ms(60), "late"), Ok(Joined::Follow));
    assert!(pending.resolve(hash(1), Outcome::Outdated, ms(80)));
    assert_eq!(released(&mut pending), [], "both have time");
    assert!(pending.resolve(hash(1), Outcome::Outdated, ms(120)));
    assert_eq!(released(&mut pending), [(1, None)], "its deadline was over");
    assert!(!pending.resolve(hash(1), Outcome::Answer(7), ms(130)));
    assert_eq!(released(&mut pending), [(2, Some(7))]);
    assert!(pending.is_idle());
}

#[test]
fn after_a_timeout_the_token_is_verified_again_for_streams_that_came_late() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "early"), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(1), true, ms(60), "late"), Ok(Joined::Follow));
    // The host's timer fires a little early by our clock: a stream that was there when the callout was sent is denied all the same.
    assert!(pending.resolve(hash(1), Outcome::Timeout(ms(100)), ms(99)));
    assert_eq!(released(&mut pending), [(1, None)]);
    assert_eq!(pending.join(3, hash(1), true, ms(120), "later"), Ok(Joined::Follow));
    pending.sweep(ms(160));
    assert_eq!(released(&mut pending), [(2, None)], "its own deadline has passed");
    assert!(!pending.resolve(hash(1), Outcome::Answer(5), ms(180)));
    assert!(!pending.is_idle());
    assert_eq!(released(&mut pending), [(3, Some(5))]);
    assert!(pending.is_idle());
}

#[test]
fn a_timeout_that_leaves_no_stream_waiting_asks_for_nothing() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Lead));
    pending.leave(1);
    assert!(!pending.is_idle(), "the callout is in flight");
    assert!(!pending.resolve(hash(1), Outcome::Timeout(ms(100)), ms(100)));
    assert!(pending.is_idle());
    assert!(released(&mut pending).is_empty());
}

#[test]
fn when_the_leader_leaves_the_others_get_their_answer() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(1), true, ms(0), "b"), Ok(Joined::Follow));
    pending.leave(1);
    assert_eq!(
        pending.join(3, hash(1), true, ms(1), "c"),
        Ok(Joined::Follow),
        "the callout is still in flight"
    );
    assert!(!pending.resolve(hash(1), Outcome::Answer(1), ms(2)));
    pending.leave(3);
    assert_eq!(
        released(&mut pending),
        [(2, Some(1))],
        "a stream that leaves before its turn is not released"
    );
}

#[test]
fn at_a_limit_a_stream_is_turned_away_and_nothing_changes() {
    let mut pending = pending();
    for waiter in 1..=4 {
        assert!(pending.join(waiter, hash(1), true, ms(0), "").is_ok());
    }
    assert_eq!(
        pending.join(5, hash(1), true, ms(0), "too many for one token"),
        Err("too many for one token")
    );
    assert_eq!(pending.join(5, hash(2), true, ms(0), ""), Ok(Joined::Lead));
    assert_eq!(pending.join(6, hash(3), true, ms(0), "too many tokens"), Err("too many tokens"));
    assert_eq!(pending.join(6, hash(2), true, ms(0), ""), Ok(Joined::Follow));
    assert_eq!(pending.join(7, hash(2), true, ms(0), "too many"), Err("too many"));
    pending.leave(6);
    assert_eq!(pending.join(7, hash(2), true, ms(0), ""), Ok(Joined::Follow), "a place is free again");
}

#[test]
fn contained_a_flood_of_unknown_tokens_leaves_room_for_previously_valid_ones() {
    let mut pending = pending();
    assert_eq!(pending.join(1, hash(1), false, ms(0), ""), Ok(Joined::Lead));
    assert_eq!(pending.join(2, hash(2), false, ms(0), "one unknown too many"), Err("one unknown too many"));
    assert_eq!(pending.join(2, hash(1), false, ms(0), ""), Ok(Joined::Follow), "it costs no callout");
    assert_eq!(pending.join(3, hash(3), true, ms(0), ""), Ok(Joined::Lead));
    assert_eq!(pending.join(4, hash(4), true, ms(0), "too many"), Err("too many"));
}

/// One step of a random history. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Leave(usize),
    Resolve(usize, Outcome<u8>),
    Pass(u64),
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        Just(Outcome::Answer(1)),
        Just(Outcome::Timeout(ms(0))),
        Just(Outcome::Outdated),
        Just(Outcome::Failed)
    ];
    let step = prop_oneof![
        6 => (0_u8..4).prop_map(Step::Join),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Resolve(which, outcome)),
        3 => (0_u64..60).prop_map(Step::Pass),
        3 => (1_usize..4).prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..120)
}

/// A history, and what must hold of it: which streams wait, which tokens are verified, which streams had an outcome.
struct History {
    pending: PendingVerifies<StreamId, u8>,
    now: Duration,
    next: u32,
    waiting: Vec<StreamId>,
    finished: HashSet<StreamId>,
    verifying: Vec<TokenHash>,
}

impl History {
    fn new() -> Self {
        Self {
            pending: PendingVerifies::new(LIMITS, TIMEOUT),
            now: ms(0),
            next: 0,
            waiting: Vec::new(),
            finished: HashSet::new(),
            verifying: Vec::new(),
        }
    }

    fn resolve(&mut self, which: usize, outcome: Outcome<u8>) {
        if self.verifying.is_empty() {
            return;
        }
        let hash = self.verifying.swap_remove(which % self.verifying.len());
        let undecided = matches!(outcome, Outcome::Timeout(_) | Outcome::Outdated);
        if self.pending.resolve(hash, outcome, self.now) {
            assert!(undecided, "an answer and a failure are no reason to verify again");
            self.verifying.push(hash);
        }
    }

    fn release(&mut self, most: usize) {
        for _ in 0..most {
            let Some(release) = self.pending.release() else { break };
            assert_eq!(release.waiter, release.request, "each gets back what it left");
            assert!(self.finished.insert(release.waiter), "two outcomes for {}", release.waiter);
            let place = self.waiting.iter().position(|waiter| *waiter == release.waiter);
            self.waiting.remove(place.expect("only a stream that waits is released"));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.pending.sweep(self.now);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(token) => {
                self.next += 1;
                let waiter = self.next;
                match self.pending.join(waiter, hash(token), true, self.now, waiter) {
                    Ok(joined) => {
                        self.waiting.push(waiter);
                        let verified = self.verifying.contains(&hash(token));
                        assert_eq!(joined == Joined::Follow, verified, "one callout for each token");
                        if !verified {
                            self.verifying.push(hash(token));
                        }
                    }
                    Err(request) => assert_eq!(request, waiter),
                }
            }
            Step::Leave(which) if !self.waiting.is_empty() => {
                let waiter = self.waiting.swap_remove(which % self.waiting.len());
                self.pending.leave(waiter);
                self.finished.insert(waiter);
            }
            Step::Leave(_) => {}
            Step::Resolve(which, outcome) => self.resolve(which, outcome),
            Step::Pass(milliseconds) => self.pass(ms(milliseconds)),
            Step::Release(most) => self.release(most),
        }
        assert!(self.waiting.len() <= LIMITS.waiters);
        assert!(self.verifying.len() <= LIMITS.tokens);
        assert!(self.waiting.iter().all(|waiter| self.pending.waits(*waiter)));
        assert!(self.finished.iter().all(|waiter| !self.pending.waits(*waiter)));
        assert_eq!(self.pending.is_idle(), self.waiting.is_empty() && self.verifying.is_empty());
    }
}

proptest! {
    #[test]
    fn each_stream_gets_exactly_one_outcome_and_no_bound_is_passed(steps in steps()) {
        let mut history = History::new();
        for step in steps {
            history.step(step);
        }
        // Once every deadline has passed, no stream waits any longer, whatever became of the callouts.
        history.pass(TIMEOUT);
        history.release(usize::MAX);
        prop_assert!(history.waiting.is_empty());
        while !history.verifying.is_empty() {
            history.resolve(0, Outcome::Timeout(history.now));
        }
        let left = &history.pending;
        prop_assert!(left.tokens.is_empty() && left.waiters.is_empty() && !left.has_ready());
    }
}
