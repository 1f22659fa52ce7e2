//! The book of a run: each request that changes something, by the identifier that it carries into the audit log, what the
//! service answered, and what is known of each token since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::support::random::Random;
use crate::support::wait;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    CreateUser {
        name: String,
    },
    /// One that expires within seconds is the scheduler's to delete; no other is.
    CreateToken {
        short: bool,
    },
    Revoke {
        id: String,
    },
    /// With no overlap: the token ends.
    Rotate {
        id: String,
    },
    Import {
        user: String,
        secrets: Vec<String>,
    },
    RunScheduler,
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub change: Change,
    /// The `x-request-id` of each time that it was sent: again where no answer came.
    pub tickets: Vec<String>,
    /// Whether the service has said that it is done.
    pub acknowledged: bool,
    /// The tokens that it made, by the answer.
    pub made: Vec<String>,
}

/// What is known of a token that is not short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Live,
    /// Its end was asked for, and not acknowledged.
    Ending,
    /// Its end was acknowledged at this time.
    Ended(Instant),
}

/// A token by its secret.
#[derive(Clone, Debug)]
pub struct Known {
    pub secret: String,
    pub id: String,
    pub state: State,
}

/// What all clients of a run write.
#[derive(Debug, Default)]
pub struct Book {
    requests: Mutex<Vec<Request>>,
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    all: Vec<Known>,
    by_id: BTreeMap<String, usize>,
}

impl Book {
    fn requests_mut(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().expect("the requests")
    }

    fn tokens_mut(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().expect("the tokens")
    }

    /// Notes a request before it is sent. Its number is for what becomes of it.
    pub fn asks(&self, change: Change, ticket: &str) -> usize {
        if let Change::Revoke { id } | Change::Rotate { id } = &change {
            self.set_state(id, State::Ending);
        }
        let mut requests = self.requests_mut();
        requests.push(Request {
            change,
            tickets: vec![ticket.to_owned()],
            acknowledged: false,
            made: Vec::new(),
        });
        requests.len() - 1
    }

    /// Notes that it is sent once more.
    pub fn asks_again(&self, number: usize, ticket: &str) {
        self.requests_mut()[number].tickets.push(ticket.to_owned());
    }

    /// Notes that it was acknowledged, with what it made.
    pub fn acknowledged(&self, number: usize, made: Vec<Known>) {
        let mut requests = self.requests_mut();
        let request = &mut requests[number];
        request.acknowledged = true;
        request.made = made.iter().map(|token| token.id.clone()).collect();
        let change = request.change.clone();
        drop(requests);
        if let Change::Revoke { id } | Change::Rotate { id } = &change {
            self.set_state(id, State::Ended(wait::now()));
        }
        // Those that expire by themselves are looked at in the database alone.
        if change != (Change::CreateToken { short: true }) {
            made.into_iter().for_each(|token| self.tokens_mut().add(token));
        }
    }

    fn set_state(&self, id: &str, state: State) {
        let mut tokens = self.tokens_mut();
        if let Some(place) = tokens.by_id.get(id).copied() {
            tokens.all[place].state = state;
        }
    }

    /// Those that nobody has answered, by their numbers, from one of them on.
    pub fn unanswered(&self, from: usize) -> Vec<(usize, Request)> {
        let requests = self.requests_mut();
        let of_interest = requests.iter().cloned().enumerate().skip(from);
        of_interest.filter(|(_, request)| !request.acknowledged).collect()
    }

    /// How many requests and tokens there are.
    pub fn sizes(&self) -> (usize, usize) {
        (self.requests_mut().len(), self.tokens_mut().all.len())
    }

    /// Every request.
    pub fn requests(&self) -> Vec<Request> {
        self.requests_mut().clone()
    }

    /// The tokens from one of them on.
    pub fn tokens(&self, from: usize) -> Vec<Known> {
        self.tokens_mut().all[from..].to_vec()
    }

    /// The tokens of a state.
    pub fn ids(&self, is: impl Fn(State) -> bool) -> BTreeSet<String> {
        let tokens = self.tokens_mut();
        tokens.all.iter().filter(|token| is(token.state)).map(|token| token.id.clone()).collect()
    }

    /// One of the latest tokens.
    pub fn pick(&self, random: &mut Random, latest: usize) -> Option<Known> {
        let tokens = self.tokens_mut();
        let from = tokens.all.len().saturating_sub(latest);
        let some = &tokens.all[from..];
        if some.is_empty() { None } else { Some(some[random.below(some.len())].clone()) }
    }

    /// What is known of a token now.
    pub fn state(&self, id: &str) -> Option<State> {
        let tokens = self.tokens_mut();
        tokens.by_id.get(id).map(|place| tokens.all[*place].state)
    }
}

impl Tokens {
    fn add(&mut self, token: Known) {
        self.by_id.insert(token.id.clone(), self.all.len());
        self.all.push(token);
    }
}
