//! The ten guarantees by property test: the engine itself behind a host that records, and a service that knows how every token stood at
//! every revision. In whatever order requests, ends of streams, callouts, changes, losses, reloads and the time come: what passes may
//! pass, what is denied has to be, no verdict serves that is older than what the feed has told, and no stream waits for ever.

use std::time::Duration;

use proptest::prelude::*;

use self::edge::Edge;
use self::request::{Kind, Path, Request};
use self::service::{Service, State, TOKENS};
use self::step::Step;

mod callouts;
mod checks;
mod decisions;
mod edge;
mod knowledge;
mod request;
mod service;
mod step;
mod upstream;

const STALE: Duration = Duration::from_millis(3000);
const TTL: Duration = Duration::from_millis(8000);
const NEGATIVE_TTL: Duration = Duration::from_millis(2000);
const TIMEOUT: Duration = Duration::from_millis(1000);
/// How long after a callout's time the engine may still wait for the word of its end, and for the tick that looks.
const GIVEN_UP: Duration = Duration::from_millis(2100);

/// An edge, its service, and the time.
struct Simulation {
    service: Service,
    edge: Edge,
    now: Duration,
}

impl Simulation {
    fn new() -> Self {
        Self { service: Service::new(), edge: Edge::new(0), now: Duration::ZERO }
    }

    fn take(&mut self, step: Step) {
        let (service, edge, now) = (&mut self.service, &mut self.edge, self.now);
        match step {
            Step::Request(worker, request) => edge.request(worker, request, service, now),
            Step::EndStream(which) => edge.end_stream(which),
            Step::Serve(which, page) => edge.serve(which, page, service, now),
            Step::Deliver(which) => edge.deliver(which, service, now),
            Step::Fail(which, failure) => edge.fail(which, failure, service, now),
            Step::Change(token, state) => service.change(&[token], state),
            Step::ChangeAll(state) => service.change(&[0, 1, 2], state),
            Step::ExpireIn(token, left) => {
                let end = now + Duration::from_millis(left);
                service.change(&[token], State::Live { expires_at: Some(end) });
            }
            Step::ForgetChanges(most) => service.forget_changes(most),
            Step::Restore(lost) => service.restore(lost),
            Step::Block(dispatches) => edge.blocked = dispatches,
            Step::Stubborn => edge.stubborn = true,
            Step::Reload(worker) => edge.reload(worker, now, service),
            Step::Die => edge.die(service),
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.edge.tick(&self.service, self.now);
            }
        }
        self.edge.check(self.now);
    }

    /// All that is in flight arrives, and the feed catches up.
    fn settle(&mut self) {
        // An edge without requests follows nothing.
        self.take(Step::Block(0));
        self.edge.stubborn = false;
        let request = Request { kind: Kind::Token(0), path: Path::Required };
        self.take(Step::Request(0, request));
        for round in 0..200 {
            if self.edge.is_quiet(&self.service, self.now) {
                return;
            }
            self.take(Step::Wait(100));
            for which in 0..4 {
                self.take(Step::Serve(which + round, 4));
                self.take(Step::Deliver(which + round));
            }
        }
    }

    fn ask(&mut self, token: usize) -> Option<Result<(), crate::refusal::Reason>> {
        let request = Request { kind: Kind::Token(token), path: Path::Required };
        self.take(Step::Request(0, request));
        for _ in 0..2 {
            self.take(Step::Serve(usize::MAX, 4));
            self.take(Step::Deliver(usize::MAX));
        }
        self.edge.latest()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_guarantees_hold_whatever_overtakes_what(
        steps in prop::collection::vec(any::<u32>().prop_map(Step::from), 1..150),
    ) {
        let mut simulation = Simulation::new();
        for step in steps {
            simulation.take(step);
        }
        simulation.settle();
        // Steady: all recovers by itself, and what is cached serves again.
        prop_assert!(simulation.edge.is_quiet(&simulation.service, simulation.now), "it does not come to rest");
        let before = simulation.edge.hits;
        for token in 0..TOKENS {
            for _ in 0..2 {
                let possible = simulation.service.judgements(token, simulation.service.now(), simulation.now);
                prop_assert_eq!(simulation.ask(token), Some(possible[0]), "when all is told, what serves is what is");
            }
        }
        prop_assert!(simulation.edge.hits >= before + TOKENS, "what is known is served without asking");
        // Accountable: each use that a living worker has counted is reported once.
        for _ in 0..40 {
            simulation.take(Step::Wait(500));
            for which in 0..4 {
                simulation.take(Step::Serve(which, 4));
                simulation.take(Step::Deliver(which));
            }
        }
        simulation.edge.check_usage(&simulation.service);
        simulation.edge.check_metrics();
    }
}

/// How many histories are tried: more with `LATCHKEY_TEST_CASES`.
fn cases() -> u32 {
    let cases = std::env::var("LATCHKEY_TEST_CASES").ok();
    cases.map_or(4_000, |cases| cases.parse().expect("LATCHKEY_TEST_CASES is a number"))
}
