//! A service of a few tokens that remembers how each of them stood at every revision of every history, so that a test can
//! tell what an edge may still believe.

use std::collections::BTreeMap;
use std::time::Duration;

use super::request::hash;
use crate::refusal::Reason;
use crate::token::TokenHash;
use crate::wire::{
    ChangesResponse, DeniedToken, RefusalReason, Scheme, TokenFacts, UsageReport, VerifyResponse,
};

/// How many tokens there are.
pub const TOKENS: usize = 5;

/// How a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Live { expires_at: Option<Duration> },
    Disabled,
    Revoked,
}

/// A revision of one of the histories; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub history: usize,
    pub revision: usize,
}

/// What becomes of a request.
pub type Judgement = Result<(), Reason>;

/// The service.
pub struct Service {
    histories: Vec<History>,
    /// The last usage report of each edge.
    sequences: BTreeMap<String, u64>,
    /// What was allowed and denied of each token.
    pub counted: [(u64, u64); TOKENS],
}

struct History {
    states: Vec<[State; TOKENS]>,
    /// The tokens that each revision but the first has changed.
    changed: Vec<Vec<usize>>,
    /// The revision up to which changes are not told any more.
    forgotten: usize,
}

pub fn token_id(token: usize) -> String {
    format!("i{token}")
}

impl State {
    fn judgement(self, now: Duration) -> Judgement {
        match self {
            Self::Live { expires_at } if expires_at.is_some_and(|end| end <= now) => Err(Reason::Expired),
            Self::Live { .. } => Ok(()),
            Self::Disabled => Err(Reason::UserDisabled),
            Self::Revoked => Err(Reason::Revoked),
        }
    }
}

impl Service {
    /// With tokens that live for ever.
    pub fn new() -> Self {
        let states = vec![[State::Live { expires_at: None }; TOKENS]];
        let histories = vec![History { states, changed: Vec::new(), forgotten: 0 }];
        Self { histories, sequences: BTreeMap::new(), counted: [(0, 0); TOKENS] }
    }

    /// Where the history stands.
    pub fn now(&self) -> Moment {
        let history = self.histories.len() - 1;
        Moment { history, revision: self.histories[history].changed.len() }
    }

    fn history(&mut self) -> &mut History {
        self.histories.last_mut().unwrap()
    }

    pub fn state(&self, token: usize) -> State {
        self.histories.last().unwrap().states.last().unwrap()[token]
    }

    /// Changes tokens together. What was revoked stays so.
    pub fn change(&mut self, tokens: &[usize], state: State) {
        let tokens: Vec<usize> =
            tokens.iter().copied().filter(|token| self.state(*token) != State::Revoked).collect();
        if !tokens.is_empty() {
            let history = self.history();
            let mut states = *history.states.last().unwrap();
            tokens.iter().for_each(|token| states[*token] = state);
            history.states.push(states);
            history.changed.push(tokens);
        }
    }

    /// The oldest changes are not told any more.
    pub fn forget_changes(&mut self, most: usize) {
        let history = self.history();
        history.forgotten = history.changed.len().min(history.forgotten + most);
    }

    /// A backup is restored and stamped: the latest revisions are gone, and the history has another name.
    pub fn restore(&mut self, lost: usize) {
        let now = self.histories.last().unwrap();
        let kept = now.changed.len().saturating_sub(lost);
        let (states, changed) = (now.states[..=kept].to_vec(), now.changed[..kept].to_vec());
        self.histories.push(History { states, changed, forgotten: kept });
    }

    fn epoch(&self) -> String {
        format!("e{}", self.histories.len() - 1)
    }

    /// Answers a question about a token.
    pub fn verify(&self, token: usize, now: Duration) -> VerifyResponse {
        let reason = match self.state(token).judgement(now) {
            Ok(()) => None,
            Err(Reason::Expired) => Some(RefusalReason::Expired),
            Err(Reason::Revoked) => Some(RefusalReason::Revoked),
            Err(_) => Some(RefusalReason::UserDisabled),
        };
        let left = match self.state(token) {
            State::Live { expires_at: Some(end) } => {
                Some(u64::try_from(end.saturating_sub(now).as_millis()).unwrap())
            }
            _ => None,
        };
        let facts = TokenFacts {
            id: token_id(token),
            name: "ci".to_owned(),
            user: "alice".to_owned(),
            schemes: vec![Scheme::Bearer, Scheme::Basic],
            scopes: Vec::new(),
            allowed_cidrs: Vec::new(),
            expires_in_ms: left,
        };
        VerifyResponse {
            epoch: self.epoch(),
            revision: self.now().revision as u64,
            token_hash: hash(token),
            token: reason.is_none().then_some(facts),
            reason,
            denied_token: reason.map(|_| DeniedToken { id: token_id(token), user: "alice".to_owned() }),
        }
    }

    /// Counts a usage report, once.
    pub fn count(&mut self, report: &UsageReport) {
        let last = self.sequences.entry(report.edge.clone()).or_default();
        if report.sequence > *last {
            *last = report.sequence;
            for usage in &report.usage {
                let token = (0..TOKENS).find(|token| token_id(*token) == usage.token_id).unwrap();
                let (allowed, denied) = &mut self.counted[token];
                (*allowed, *denied) = (*allowed + usage.allowed, *denied + usage.denied);
            }
        }
    }

    /// Whether a usage report was counted.
    pub fn has_counted(&self, report: &UsageReport) -> bool {
        self.sequences.get(&report.edge).is_some_and(|last| *last >= report.sequence)
    }

    /// Answers a question about changes, in pages of so many tokens.
    pub fn changes(&self, path: &str, offset: u64, page: usize) -> ChangesResponse {
        let parameter = |name: &str| {
            let parts = path.split(['?', '&']);
            parts.into_iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let (epoch, after) =
            (parameter("epoch"), parameter("after").map(|after| after.parse::<usize>().unwrap()));
        let now = self.now().revision;
        let history = self.histories.last().unwrap();
        let known = |after: &usize| epoch == Some(&self.epoch()) && (history.forgotten..=now).contains(after);
        let nothing = ChangesResponse {
            epoch: self.epoch(),
            revision: now as u64,
            reset: true,
            more: false,
            token_hashes: Vec::new(),
            hash_prefixes: Vec::new(),
            next_offset: None,
        };
        let Some(after) = after.filter(known) else { return nothing };
        // What is told: the revision of each token, and its place in it.
        let changed = history.changed.iter().enumerate().skip(after);
        let changed = changed.flat_map(|(before, tokens)| {
            tokens.iter().enumerate().map(move |(place, token)| (before as u64, place as u64, hash(*token)))
        });
        let mut changed = changed.skip(usize::try_from(offset).unwrap());
        let hashes: Vec<TokenHash> = changed.by_ref().take(page).map(|(.., hash)| hash).collect();
        let answer = match changed.next() {
            Some((revision, place, _)) => {
                let next_offset = (place > 0).then_some(place);
                ChangesResponse { revision, next_offset, more: true, reset: false, ..nothing }
            }
            None => ChangesResponse { reset: false, ..nothing },
        };
        // An earlier version tells whole hashes, and each change as a whole.
        if answer.next_offset.is_none() && offset == 0 && page.is_multiple_of(2) {
            ChangesResponse { token_hashes: hashes, ..answer }
        } else {
            ChangesResponse { hash_prefixes: hashes.iter().map(TokenHash::prefix).collect(), ..answer }
        }
    }

    /// The moment that an answer speaks of.
    pub fn moment(epoch: &str, revision: u64) -> Moment {
        let history = epoch.strip_prefix('e').unwrap().parse().unwrap();
        Moment { history, revision: usize::try_from(revision).unwrap() }
    }

    /// How a token may be judged at `now` by somebody who knows nothing older than `since`.
    pub fn judgements(&self, token: usize, since: Moment, now: Duration) -> Vec<Judgement> {
        let states = &self.histories[since.history].states[since.revision..];
        states.iter().map(|states| states[token].judgement(now)).collect()
    }
}
