//! One request's stream: its headers are read and cleaned once, then it passes, is refused, or waits for a verdict.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::edge::{Edge, Waiting};
use super::host;
use super::refusals::Answer;
use crate::config::Mode;
use crate::credential::{self, Credential, Values};
use crate::gate::{self, Decision, Identity};
use crate::headers::{self, Pairs, RequestHeaders};
use crate::refusal::{Reason, Refusal};
use crate::rules::Requirement;
use crate::trace::Traceparent;

/// What Envoy does with what it asked about, as the ABI numbers it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Continue = 0,
    /// It is held.
    Pause = 1,
}

/// One request.
pub struct Stream {
    id: u32,
    edge: Rc<Edge>,
    progress: Progress,
    grpc: bool,
}

/// How far a request has come.
enum Progress {
    /// It was not decided yet, or refused: nothing of it goes on, should the host ask.
    Stopped,
    /// It asked for a verdict; whoever hears it says here whether the request passes.
    Asked(Rc<Cell<bool>>),
    /// It passed.
    Passed,
}

impl Stream {
    /// The stream of context `id`.
    pub fn new(id: u32, edge: Rc<Edge>) -> Self {
        Self { id, edge, progress: Progress::Stopped, grpc: false }
    }

    /// In the callback of its headers: decides on the request.
    pub fn decide(&mut self) -> Action {
        let map = host::request_headers();
        let Some(pairs) = map.as_deref().and_then(Pairs::of) else {
            return self.close();
        };
        let edge = Rc::clone(&self.edge);
        let config = &edge.config;
        let request = RequestHeaders::read(pairs, &config.identity_headers);
        self.grpc = request.grpc;
        let requirement = config.rules.requirement(&request.target);
        let decision = gate::decide(&requirement, &config.accepted, request.authorization);
        if !self.clean(&request, &decision) {
            return self.close();
        }
        match decision {
            Decision::Pass => self.settle(Ok(None)),
            Decision::Refuse(refusal) => self.settle(Err(refusal)),
            Decision::Ask(credential) => match edge.judge(self.id, &credential, &requirement.scopes) {
                Some(judgement) => self.settle(judgement.map(Some)),
                None => self.ask(credential, &requirement, request.trace),
            },
        }
    }

    /// Removes what no upstream may take from a client: identity headers, and our credentials. `false`: the host did not.
    fn clean(&self, request: &RequestHeaders<'_>, decision: &Decision) -> bool {
        let cleaned = request.spoofed.iter().all(|name| host::remove_request_header(name));
        let config = &self.edge.config;
        let passes_anyway = matches!(decision, Decision::Pass) || config.mode == Mode::Shadow;
        let prefix = config.accepted.prefix.as_ref();
        let keep = match request.authorization {
            Values::None => true,
            _ if config.forward_authorization => true,
            // Another system's credential is the upstream's to judge.
            Values::One(value) => passes_anyway && credential::is_foreign(value, prefix),
            Values::Several => false,
        };
        cleaned && (keep || host::remove_request_header(headers::AUTHORIZATION.as_bytes()))
    }

    /// Refuses a request that could not be read or cleaned, in shadow mode too: it could carry another's identity.
    fn close(&self) -> Action {
        self.edge.refuse(&Refusal::new(Reason::Unavailable, None), self.grpc);
        Action::Pause
    }

    fn ask(
        &mut self,
        credential: Credential,
        requirement: &Requirement,
        trace: Option<Traceparent<'_>>,
    ) -> Action {
        let (scheme, passed) = (credential.scheme, Rc::<Cell<bool>>::default());
        let scopes = requirement.scopes.clone();
        let waiting = Waiting { credential, scopes, grpc: self.grpc, passed: Rc::clone(&passed) };
        if self.edge.ask(self.id, waiting, trace) {
            self.progress = Progress::Asked(passed);
            Action::Pause
        } else {
            self.settle(Err(Refusal::new(Reason::Overloaded, Some(scheme))))
        }
    }

    fn settle(&mut self, verdict: Result<Option<Arc<Identity>>, Refusal>) -> Action {
        if self.edge.settle(verdict, self.grpc) {
            self.progress = Progress::Passed;
        }
        self.act()
    }

    /// In the callback of its trailers, which can carry identity headers and credentials too: removes them.
    pub fn clean_trailers(&self) -> Action {
        let config = &self.edge.config;
        let map = host::request_trailers();
        let Some(pairs) = map.as_deref().and_then(Pairs::of) else {
            return self.close();
        };
        for (name, _) in pairs {
            let credential = name == headers::AUTHORIZATION.as_bytes() && !config.forward_authorization;
            let unwanted = credential || config.identity_headers.is_spoof(name);
            if unwanted && !host::remove_request_trailer(name) {
                return self.close();
            }
        }
        self.act()
    }

    /// Only what has passed goes on, however the host is set up.
    pub fn act(&self) -> Action {
        let passed = match &self.progress {
            Progress::Stopped => false,
            Progress::Asked(passed) => passed.get(),
            Progress::Passed => true,
        };
        if passed { Action::Continue } else { Action::Pause }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if matches!(self.progress, Progress::Asked(_)) {
            self.edge.leave(self.id);
        }
    }
}

/// Refuses a request of which nothing can be known.
pub fn closed() -> Action {
    Answer::closed().send();
    Action::Pause
}
