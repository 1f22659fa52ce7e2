//! Decisions, carried out as the host would, and what they must be.

use std::sync::Arc;

use super::edge::Edge;
use super::request::{Kind, Path, Request};
use super::service::Judgement;
use super::upstream::AtHost;
use crate::engine::{Decided, StreamId};
use crate::refusal::Reason;

/// What became of a request: allowed, for a user or for nobody, or denied, in earnest or not.
pub type Judged = Result<Option<String>, Reason>;

impl Edge {
    /// Closed: a request that the host has not cleaned goes on in no mode, and is counted as denied alone.
    pub(super) fn deny_uncleaned(
        &mut self,
        number: usize,
        stream: StreamId,
        at: AtHost,
        decided: Option<Decided>,
    ) {
        let filter = Arc::clone(self.workers[number].filter());
        let token = at.request.token().filter(|_| at.request.path != Path::None);
        let denial = match decided {
            Some(decided) => {
                if let Some(token) = token {
                    self.hits += 1;
                    self.count("cache_hits");
                    let allowed = matches!(&decided, Decided::Allow(it) if it.headers(&filter.config.identity_headers).count() > 0);
                    let (uses, denied) = &mut self.uses[token];
                    *if allowed { uses } else { denied } += 1;
                }
                decided.uncleaned(&filter)
            }
            None => {
                self.count("cache_misses");
                self.workers[number].on_stream_end(stream);
                filter.close(false)
            }
        };
        self.count(&format!("refused.{}", denial.reply.reason.name()));
        at.deny(&denial);
    }

    /// Closed, Unspoofable, Secret: a decision is carried out as the host would, and looked at from both sides.
    pub(super) fn carry_out(&mut self, number: usize, at: AtHost, decided: Decided) -> Judged {
        let filter = Arc::clone(self.workers[number].filter());
        match decided {
            Decided::Allow(mutations) => {
                let decision = mutations
                    .filter_state()
                    .find(|(key, _)| *key == "latchkey_decision")
                    .unwrap()
                    .1
                    .to_owned();
                let user = at.allow(&mutations, &filter.config);
                if decision == "allowed" {
                    self.count("passed");
                    return Ok(user);
                }
                let reason = decision.strip_prefix("shadow_denied:").expect("the other decision");
                let reason = *Reason::ALL.iter().find(|it| it.name() == reason).unwrap();
                assert!(
                    number == 1 && user.is_none(),
                    "only shadow mode lets pass what is denied, and as nobody"
                );
                self.count(&format!("shadow_refused.{}", reason.name()));
                Err(reason)
            }
            Decided::Deny(denial) => {
                assert_eq!(number, 0, "shadow mode denies nothing");
                at.deny(&denial);
                self.count(&format!("refused.{}", denial.reply.reason.name()));
                Err(denial.reply.reason)
            }
        }
    }

    /// Prompt, and Outage is not refusal: what was decided follows from how the token may stand.
    pub(super) fn assert_possible(&self, request: Request, decided: &Judged, possible: &[Judgement]) {
        let token = request.token().unwrap();
        let expected = |judgement: &Judgement| match (judgement, request.kind, request.path) {
            (Err(reason), ..) => Err(*reason),
            (Ok(()), Kind::WrongUser(_), _) => Err(Reason::WrongUser),
            (Ok(()), _, Path::Admin) => Err(Reason::InsufficientScope),
            (Ok(()), ..) => Ok(Some("alice".to_owned())),
        };
        let expected: Vec<Judged> = possible.iter().map(expected).collect();
        assert!(expected.contains(decided), "token {token}: {decided:?}, not {expected:?}");
    }

    pub(super) fn note(&mut self, token: usize, decided: &Judged) {
        let (allowed, denied) = &mut self.uses[token];
        *if decided.is_ok() { allowed } else { denied } += 1;
        self.latest = Some(decided.as_ref().map(|_| ()).map_err(|reason| *reason));
    }
}
