//! One request's stream: its headers are read and cleaned once, then it passes, is refused, or waits for a verdict.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::edge::{Edge, Waiting};
use super::host;
use crate::config::Mode;
use crate::credential;
use crate::gate::{self, Decision};
use crate::headers::{self, RequestHeaders};
use crate::refusal::{Reason, Refusal};
use crate::rules::Requirement;

/// One request.
pub struct Stream {
    id: u32,
    edge: Rc<Edge>,
    /// Whether it asked for a verdict, and may still wait.
    asked: bool,
}

impl Stream {
    /// The stream of context `id`.
    pub fn new(id: u32, edge: Rc<Edge>) -> Self {
        Self { id, edge, asked: false }
    }

    fn decide(&mut self) -> Action {
        let map = host::request_headers();
        let Some(pairs) = map.as_deref().and_then(headers::parse_pairs) else {
            return self.close(false);
        };
        let edge = Rc::clone(&self.edge);
        let config = &edge.config;
        let request = RequestHeaders::read(pairs, &config.identity_headers);
        let requirement = config.rules.requirement(&request.target);
        let decision = gate::decide(requirement, &config.accepted, request.authorization.iter().copied());
        if !self.clean(&request, &decision) {
            return self.close(request.grpc);
        }
        match decision {
            Decision::Pass(identity) => self.act(edge.settle(Ok(identity), request.grpc)),
            Decision::Refuse(refusal) => self.settle_refusal(refusal, request.grpc),
            Decision::Ask(credential) => self.wait(credential, requirement, request.grpc),
        }
    }

    /// Removes what no upstream may take from a client: identity headers, and our credentials. `false`: the host did not.
    fn clean(&self, request: &RequestHeaders<'_>, decision: &Decision) -> bool {
        let cleaned = request.spoofed.iter().all(|name| host::remove_request_header(name));
        let config = &self.edge.config;
        let passes_anyway = matches!(decision, Decision::Pass(_)) || config.mode == Mode::Shadow;
        let prefix = config.accepted.prefix.as_ref();
        let keep = match request.authorization.as_slice() {
            [] => true,
            _ if config.forward_authorization => true,
            // Another system's credential is the upstream's to judge.
            [value] => passes_anyway && credential::is_foreign(value, prefix),
            _ => false,
        };
        cleaned && (keep || host::remove_request_header(headers::AUTHORIZATION.as_bytes()))
    }

    /// Refuses a request that could not be read or cleaned, in shadow mode too: it could carry another's identity.
    fn close(&self, grpc: bool) -> Action {
        self.edge.refuse(&Refusal::new(Reason::Unavailable, None), grpc);
        Action::Pause
    }

    fn wait(&mut self, credential: credential::Credential, requirement: &Requirement, grpc: bool) -> Action {
        let scheme = credential.scheme;
        let waiting = Waiting { credential, scopes: requirement.scopes.clone(), grpc };
        if self.edge.ask(self.id, waiting) {
            self.asked = true;
            Action::Pause
        } else {
            self.settle_refusal(Refusal::new(Reason::Overloaded, Some(scheme)), grpc)
        }
    }

    fn settle_refusal(&self, refusal: Refusal, grpc: bool) -> Action {
        self.act(self.edge.settle(Err(refusal), grpc))
    }

    fn act(&self, passes: bool) -> Action {
        if passes { Action::Continue } else { Action::Pause }
    }

    /// While a verdict is pending nothing of the request goes on, however the host is set up.
    fn act_while_waiting(&self) -> Action {
        self.act(!(self.asked && self.edge.waits(self.id)))
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.decide()
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.act_while_waiting()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let config = &self.edge.config;
        let map = host::request_trailers().unwrap_or_default();
        for (name, _) in headers::parse_pairs(&map).unwrap_or_default() {
            let credential = name == headers::AUTHORIZATION.as_bytes() && !config.forward_authorization;
            let unwanted = credential || config.identity_headers.is_spoof(name);
            if unwanted && !host::remove_request_trailer(name) {
                return self.close(false);
            }
        }
        self.act_while_waiting()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.asked {
            self.edge.leave(self.id);
        }
    }
}
