//! Tokens that are asked for together: while enough callouts are in flight, further tokens are gathered for the next one.

use std::time::Duration;

use crate::token::TokenHash;
use crate::wire::{MAX_TOKEN_HASHES, TokenHashes};

/// How many callouts for verdicts are in flight when further tokens are gathered.
const ENOUGH: usize = 2;
/// How long tokens are gathered at most, give or take a tick: a slow service keeps none waiting twice.
const LONGEST: Duration = Duration::from_millis(10);

/// Tokens to be verified that are in no callout yet.
#[derive(Debug)]
pub(super) struct Gatherer {
    tokens: Vec<TokenHash>,
    /// When the first of them came.
    since: Duration,
    /// How many tokens the service takes in one request, as far as is known.
    most: usize,
}

impl Default for Gatherer {
    fn default() -> Self {
        Self { tokens: Vec::new(), since: Duration::ZERO, most: MAX_TOKEN_HASHES }
    }
}

impl Gatherer {
    /// One token more.
    pub fn add(&mut self, hash: TokenHash, now: Duration) {
        if self.tokens.is_empty() {
            self.since = now;
        }
        self.tokens.push(hash);
    }

    /// Whether the token that was added last is the only one.
    pub fn is_alone(&self) -> bool {
        self.tokens.len() == 1
    }

    /// The service takes one token in a request: from now on each is asked for by itself, and at once.
    pub fn ask_singly(&mut self) {
        self.most = 1;
    }

    /// What the next callout is to ask for, if it is time to send one beside those that are in flight.
    pub fn take(&mut self, in_flight: usize, now: Duration) -> Option<TokenHashes> {
        let is_time = in_flight < ENOUGH || now.saturating_sub(self.since) >= LONGEST;
        if !is_time && self.tokens.len() < self.most {
            return None;
        }
        let rest = self.tokens.split_off(self.tokens.len().min(self.most));
        self.since = now;
        TokenHashes::try_from(std::mem::replace(&mut self.tokens, rest)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(5);

    fn gathered(tokens: usize) -> Gatherer {
        let mut gatherer = Gatherer::default();
        (0..tokens).for_each(|token| gatherer.add(TokenHash::of(&token.to_be_bytes()), AT));
        gatherer
    }

    fn taken(gatherer: &mut Gatherer, in_flight: usize, now: Duration) -> usize {
        gatherer.take(in_flight, now).map_or(0, |hashes| hashes.as_slice().len())
    }

    #[test]
    fn a_lone_token_is_asked_for_at_once_and_others_wait_while_two_callouts_are_in_flight() {
        let mut gatherer = gathered(1);
        assert_eq!(taken(&mut gatherer, 1, AT), 1);
        assert_eq!(taken(&mut gatherer, 0, AT), 0, "there are no more");
        let mut gatherer = gathered(3);
        assert_eq!(taken(&mut gatherer, 2, AT), 0);
        assert_eq!(taken(&mut gatherer, 1, AT), 3, "one of the two has ended");
    }

    #[test]
    fn nothing_is_gathered_for_longer_than_a_moment_nor_beyond_what_a_request_takes() {
        let mut gatherer = gathered(3);
        assert_eq!(taken(&mut gatherer, 9, AT + LONGEST - Duration::from_millis(1)), 0);
        assert_eq!(taken(&mut gatherer, 9, AT + LONGEST), 3);
        let mut gatherer = gathered(MAX_TOKEN_HASHES + 1);
        assert_eq!(taken(&mut gatherer, 9, AT), MAX_TOKEN_HASHES);
        assert_eq!(taken(&mut gatherer, 9, AT), 0, "what is left is gathered anew");
        assert_eq!(taken(&mut gatherer, 9, AT + LONGEST), 1);
    }

    #[test]
    fn a_service_that_takes_one_token_in_a_request_is_asked_for_each_by_itself_and_at_once() {
        let mut gatherer = gathered(2);
        gatherer.ask_singly();
        assert_eq!([0; 3].map(|_| taken(&mut gatherer, 9, AT)), [1, 1, 0]);
    }
}
