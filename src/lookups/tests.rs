use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { waiters: 6, waiters_per_token: 4, callouts: 2, strangers: 1 };
const TIMEOUT: Duration = Duration::from_millis(100);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn hash(token: u8) -> TokenHash {
    TokenHash::of(&[token])
}

fn lookups() -> Lookups<&'static str, u8> {
    Lookups::new(LIMITS, TIMEOUT)
}

/// The waiters that are released, and with which answer.
fn released(lookups: &mut Lookups<&'static str, u8>) -> Vec<(WaiterId, Option<u8>)> {
    lookups.release(usize::MAX).into_iter().map(|release| (release.waiter, release.answer)).collect()
}

#[test]
fn streams_that_ask_for_the_same_token_share_one_callout() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    assert_eq!(lookups.join(2, hash(1), true, ms(1), "b"), Ok(Joined::Wait));
    lookups.sent(hash(1), 70);
    assert_eq!(lookups.join(3, hash(1), true, ms(2), "c"), Ok(Joined::Wait));
    assert_eq!(lookups.join(4, hash(2), true, ms(2), "d"), Ok(Joined::Ask));
    lookups.sent(hash(2), 71);
    assert_eq!(lookups.asked(70), Some(hash(1)));
    assert_eq!(lookups.ended(70, Outcome::Answer(9), ms(5)), None);
    assert_eq!(released(&mut lookups), [(1, Some(9)), (2, Some(9)), (3, Some(9))]);
    assert!(lookups.waits(4) && !lookups.waits(3), "the fourth asks about another token");
    assert_eq!(lookups.ended(70, Outcome::Answer(9), ms(6)), None, "a callout ends once");
    assert!(released(&mut lookups).is_empty());
}

#[test]
fn after_an_answer_the_next_stream_asks_anew() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    lookups.ended(70, Outcome::Answer(1), ms(1));
    assert_eq!(lookups.join(2, hash(1), true, ms(1), "b"), Ok(Joined::Ask), "the first is not even released");
}

#[test]
fn a_failed_callout_leaves_everyone_without_an_answer() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    assert_eq!(lookups.join(2, hash(1), true, ms(50), "b"), Ok(Joined::Wait));
    assert_eq!(lookups.ended(70, Outcome::Failed, ms(60)), None);
    assert_eq!(released(&mut lookups), [(1, None), (2, None)]);
}

#[test]
fn a_callout_that_cannot_be_sent_leaves_everyone_without_an_answer() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.not_sent(hash(1));
    assert_eq!(released(&mut lookups), [(1, None)]);
    assert_eq!(lookups.join(2, hash(1), true, ms(0), "b"), Ok(Joined::Ask));
}

#[test]
fn an_outdated_answer_is_nobodys_and_is_asked_for_again_while_anyone_has_time() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "early"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    assert_eq!(lookups.join(2, hash(1), true, ms(60), "late"), Ok(Joined::Wait));
    assert_eq!(lookups.ended(70, Outcome::Outdated, ms(80)), Some(hash(1)));
    assert_eq!(released(&mut lookups), [], "both have time");
    lookups.sent(hash(1), 71);
    assert_eq!(lookups.ended(71, Outcome::Outdated, ms(120)), Some(hash(1)));
    assert_eq!(released(&mut lookups), [(1, None)], "its time was over");
    lookups.sent(hash(1), 72);
    assert_eq!(lookups.ended(72, Outcome::Answer(7), ms(130)), None);
    assert_eq!(released(&mut lookups), [(2, Some(7))]);
    assert!(lookups.is_idle());
}

#[test]
fn after_a_timeout_those_who_came_late_are_asked_for_again() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "early"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    assert_eq!(lookups.join(2, hash(1), true, ms(60), "late"), Ok(Joined::Wait));
    // The host's timer fires a little early by our clock: who was there when the callout was sent is refused all the same.
    assert_eq!(lookups.ended(70, Outcome::Timeout, ms(99)), Some(hash(1)));
    lookups.sent(hash(1), 71);
    assert_eq!(released(&mut lookups), [(1, None)]);
    assert_eq!(lookups.join(3, hash(1), true, ms(120), "later"), Ok(Joined::Wait));
    lookups.sweep(ms(160));
    assert_eq!(released(&mut lookups), [(2, None)], "its own deadline has passed");
    assert_eq!(lookups.ended(71, Outcome::Answer(5), ms(180)), None);
    assert!(!lookups.is_idle());
    assert_eq!(released(&mut lookups), [(3, Some(5))]);
    assert!(lookups.is_idle());
}

#[test]
fn a_callout_whose_end_is_never_reported_is_given_up_and_its_token_is_asked_about_anew() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    lookups.sweep(ms(100));
    assert_eq!(released(&mut lookups), [(1, None)]);
    let given_up = TIMEOUT + GRACE;
    assert_eq!(
        lookups.join(2, hash(1), true, given_up - ms(1), "b"),
        Ok(Joined::Wait),
        "its end may still be reported"
    );
    assert!(lookups.lost(given_up - ms(1)).is_empty());
    assert_eq!(lookups.lost(given_up), [70]);
    assert_eq!(lookups.ended(70, Outcome::Timeout, given_up), Some(hash(1)), "for the one who has time left");
    lookups.sent(hash(1), 71);
    assert!(lookups.lost(given_up).is_empty());
    assert_eq!((lookups.asked(70), lookups.asked(71)), (None, Some(hash(1))));
    assert_eq!(
        lookups.ended(70, Outcome::Answer(6), given_up),
        None,
        "an end that comes too late changes nothing"
    );
    assert!(released(&mut lookups).is_empty());
    assert_eq!(lookups.ended(71, Outcome::Answer(7), given_up), None);
    assert_eq!(released(&mut lookups), [(2, Some(7))]);
    assert!(lookups.is_idle());
}

#[test]
fn a_timeout_that_leaves_nobody_waiting_asks_nothing() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    lookups.leave(1);
    assert!(!lookups.is_idle(), "the callout is under way");
    assert_eq!(lookups.ended(70, Outcome::Timeout, ms(100)), None);
    assert!(lookups.is_idle());
    assert!(released(&mut lookups).is_empty());
}

#[test]
fn when_the_first_leaves_the_others_get_their_answer() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), true, ms(0), "a"), Ok(Joined::Ask));
    lookups.sent(hash(1), 70);
    assert_eq!(lookups.join(2, hash(1), true, ms(0), "b"), Ok(Joined::Wait));
    lookups.leave(1);
    assert_eq!(
        lookups.join(3, hash(1), true, ms(1), "c"),
        Ok(Joined::Wait),
        "the callout is still under way"
    );
    assert_eq!(lookups.ended(70, Outcome::Answer(1), ms(2)), None);
    lookups.leave(3);
    assert_eq!(released(&mut lookups), [(2, Some(1))], "who leaves before its turn is not released");
}

#[test]
fn at_a_limit_a_stream_is_turned_away_and_nothing_changes() {
    let mut lookups = lookups();
    for waiter in 1..=4 {
        assert!(lookups.join(waiter, hash(1), true, ms(0), "").is_ok());
    }
    assert_eq!(
        lookups.join(5, hash(1), true, ms(0), "too many for one token"),
        Err("too many for one token")
    );
    assert_eq!(lookups.join(5, hash(2), true, ms(0), ""), Ok(Joined::Ask));
    assert_eq!(lookups.join(6, hash(3), true, ms(0), "too many callouts"), Err("too many callouts"));
    assert_eq!(lookups.join(6, hash(2), true, ms(0), ""), Ok(Joined::Wait));
    assert_eq!(lookups.join(7, hash(2), true, ms(0), "too many"), Err("too many"));
    lookups.leave(6);
    assert_eq!(lookups.join(7, hash(2), true, ms(0), ""), Ok(Joined::Wait), "a place is free again");
}

#[test]
fn contained_a_flood_of_strangers_leaves_room_for_tokens_that_were_good_before() {
    let mut lookups = lookups();
    assert_eq!(lookups.join(1, hash(1), false, ms(0), ""), Ok(Joined::Ask));
    assert_eq!(lookups.join(2, hash(2), false, ms(0), "one stranger too many"), Err("one stranger too many"));
    assert_eq!(lookups.join(2, hash(1), false, ms(0), ""), Ok(Joined::Wait), "it costs no callout");
    assert_eq!(lookups.join(3, hash(3), true, ms(0), ""), Ok(Joined::Ask));
    assert_eq!(lookups.join(4, hash(4), true, ms(0), "too many"), Err("too many"));
}

#[test]
fn releases_come_in_batches() {
    let mut lookups = lookups();
    for waiter in 1..=4 {
        assert!(lookups.join(waiter, hash(1), true, ms(0), "").is_ok());
    }
    lookups.not_sent(hash(1));
    assert_eq!(lookups.release(3).len(), 3);
    assert!(lookups.has_ready());
    assert_eq!(lookups.release(3).len(), 1);
    assert!(!lookups.has_ready());
}

/// One step of a random history. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Step {
    Join {
        token: u8,
        sends: bool,
    },
    Leave(usize),
    End(usize, Outcome<u8>, bool),
    /// The end of a callout that was given up is reported after all.
    EndLate(usize),
    Pass(u64),
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        Just(Outcome::Answer(1)),
        Just(Outcome::Timeout),
        Just(Outcome::Outdated),
        Just(Outcome::Failed)
    ];
    let step = prop_oneof![
        6 => (0_u8..4, prop::bool::weighted(0.9)).prop_map(|(token, sends)| Step::Join { token, sends }),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => (any::<usize>(), outcome, any::<bool>()).prop_map(|(call, outcome, sends)| Step::End(call, outcome, sends)),
        1 => any::<usize>().prop_map(Step::EndLate),
        3 => (0_u64..60).prop_map(Step::Pass),
        1 => Just(Step::Pass(u64::try_from(GRACE.as_millis()).unwrap())),
        3 => (1_usize..4).prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..120)
}

/// A history, and what must hold of it: who waits, which callouts are under way, who had an outcome.
struct History {
    lookups: Lookups<WaiterId, u8>,
    now: Duration,
    next: u32,
    waiting: Vec<WaiterId>,
    finished: HashSet<WaiterId>,
    under_way: Vec<(CallId, TokenHash)>,
    given_up: Vec<CallId>,
}

impl History {
    fn new() -> Self {
        Self {
            lookups: Lookups::new(LIMITS, TIMEOUT),
            now: ms(0),
            next: 0,
            waiting: Vec::new(),
            finished: HashSet::new(),
            under_way: Vec::new(),
            given_up: Vec::new(),
        }
    }

    fn send(&mut self, hash: TokenHash, succeeds: bool) {
        assert!(!self.under_way.iter().any(|(_, other)| *other == hash), "two callouts for one token");
        if succeeds {
            self.next += 1;
            self.lookups.sent(hash, self.next);
            self.under_way.push((self.next, hash));
        } else {
            self.lookups.not_sent(hash);
        }
    }

    fn end(&mut self, call: usize, outcome: Outcome<u8>, sends: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let (call, hash) = self.under_way.swap_remove(call % self.under_way.len());
        assert_eq!(self.lookups.asked(call), Some(hash));
        let undecided = matches!(outcome, Outcome::Timeout | Outcome::Outdated);
        if let Some(again) = self.lookups.ended(call, outcome, self.now) {
            assert!(undecided && again == hash, "an answer and a failure are no reason to ask again");
            self.send(again, sends);
        }
    }

    fn end_late(&mut self, call: usize) {
        if let Some(call) = self.given_up.get(call % self.given_up.len().max(1)).copied() {
            assert_eq!(self.lookups.asked(call), None);
            assert_eq!(self.lookups.ended(call, Outcome::Answer(1), self.now), None);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.lookups.sweep(self.now);
        for call in self.lookups.lost(self.now) {
            let place = self.under_way.iter().position(|(other, _)| *other == call);
            self.end(place.expect("only what is under way is lost"), Outcome::Timeout, true);
            self.given_up.push(call);
        }
    }

    fn release(&mut self, most: usize) {
        let released = self.lookups.release(most);
        assert!(released.len() <= most);
        for release in released {
            assert_eq!(release.waiter, release.request, "each gets back what it left");
            assert!(self.finished.insert(release.waiter), "two outcomes for {}", release.waiter);
            let place = self.waiting.iter().position(|waiter| *waiter == release.waiter);
            self.waiting.remove(place.expect("only who waits is released"));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { token, sends } => {
                self.next += 1;
                let waiter = self.next;
                match self.lookups.join(waiter, hash(token), true, self.now, waiter) {
                    Ok(joined) => {
                        self.waiting.push(waiter);
                        if joined == Joined::Ask {
                            self.send(hash(token), sends);
                        }
                    }
                    Err(request) => assert_eq!(request, waiter),
                }
            }
            Step::Leave(which) if !self.waiting.is_empty() => {
                let waiter = self.waiting.swap_remove(which % self.waiting.len());
                self.lookups.leave(waiter);
                self.finished.insert(waiter);
            }
            Step::Leave(_) => {}
            Step::End(call, outcome, sends) => self.end(call, outcome, sends),
            Step::EndLate(call) => self.end_late(call),
            Step::Pass(milliseconds) => self.pass(ms(milliseconds)),
            Step::Release(most) => self.release(most),
        }
        assert!(self.waiting.len() <= LIMITS.waiters);
        assert!(self.under_way.len() <= LIMITS.callouts);
        assert!(self.waiting.iter().all(|waiter| self.lookups.waits(*waiter)));
        assert!(self.finished.iter().all(|waiter| !self.lookups.waits(*waiter)));
        assert_eq!(self.lookups.is_idle(), self.waiting.is_empty() && self.under_way.is_empty());
    }
}

proptest! {
    #[test]
    fn everyone_gets_exactly_one_outcome_and_no_bound_is_passed(steps in steps()) {
        let mut history = History::new();
        for step in steps {
            history.step(step);
        }
        // Once every deadline has passed, nobody waits any longer, whatever became of the callouts.
        history.pass(TIMEOUT);
        history.release(usize::MAX);
        prop_assert!(history.waiting.is_empty());
        // And what is never reported is forgotten.
        history.pass(TIMEOUT + GRACE);
        prop_assert!(history.under_way.is_empty());
        let left = &history.lookups;
        prop_assert!(left.tokens.is_empty() && left.calls.is_empty() && left.waiters.is_empty());
        prop_assert!(!left.has_ready());
    }
}
