//! How a decision is carried out on the current stream, and who is told of it: the upstream by headers, access logs by filter
//! state, operators by metrics, and in shadow mode by the log.

use std::sync::Arc;

use super::{Edge, IDLE_TICK, host, peer};
use crate::config::Mode;
use crate::gate::{Identity, TokenOwner, Verdict};
use crate::headers::{self, Pairs};
use crate::refusal::{Reason, Refusal};

/// The filter state that says who a request acts for, or would have if it were not denied.
const USER: &str = "latchkey_user";
const TOKEN_ID: &str = "latchkey_token_id";
const SCOPES: &str = "latchkey_scopes";
/// The filter state that says what was decided.
pub const DECISION: &str = "latchkey_decision";

/// How much of a path, and of a request's identifier, is logged, in bytes.
const MAX_PATH: usize = 256;
const MAX_REQUEST_ID: usize = 64;

impl Edge {
    /// Carries a decision out on the current stream, whose headers are still there. Returns whether it may go on.
    pub fn settle(&self, verdict: Result<Option<Arc<Identity>>, Refusal>, grpc: bool) -> bool {
        let shadow = self.config.mode == Mode::Shadow;
        let verdict = verdict.and_then(|identity| match identity {
            Some(identity) if !self.tell_upstream(&identity) => Err(Refusal::new(Reason::Unavailable, None)),
            _ => Ok(()),
        });
        match verdict {
            Ok(()) => {
                host::set_filter_state(DECISION, "allowed");
                self.count_passed();
            }
            Err(refusal) if shadow => self.allow_in_shadow_mode(refusal.reason()),
            Err(refusal) => {
                self.refuse(&refusal, grpc);
                return false;
            }
        }
        true
    }

    /// The metrics are told at the next tick, which somebody has to have asked for.
    fn count_passed(&self) {
        self.metrics.passed();
        if self.tick.get().is_zero() {
            self.tick_every(IDLE_TICK);
        }
    }

    /// Sets the identity headers and the filter state, in which a token without scopes has none: each costs a host call at every
    /// request. `false`: the host did not.
    fn tell_upstream(&self, identity: &Identity) -> bool {
        let mut headers = self.config.identity_headers.of(identity);
        headers.all(|(name, value)| host::add_request_header(name, value))
            && host::set_filter_state(USER, identity.user())
            && host::set_filter_state(TOKEN_ID, identity.token_id())
            && (identity.scope_list().is_empty() || host::set_filter_state(SCOPES, identity.scope_list()))
    }

    /// Answers the current stream in the upstream's place.
    pub fn refuse(&self, refusal: &Refusal, grpc: bool) {
        self.metrics.refused(refusal.reason());
        self.answers.to(refusal, &self.config, grpc).send();
    }

    fn allow_in_shadow_mode(&self, reason: Reason) {
        self.metrics.shadow_refused(reason);
        host::set_filter_state(DECISION, &format!("shadow_denied:{}", reason.name()));
        let mut lines = self.shadow_lines.get();
        let admitted = lines.admit(host::now());
        self.shadow_lines.set(lines);
        if let Some(left_out) = admitted {
            let request = describe_request();
            let reason = reason.name();
            let left_out =
                if left_out == 0 { String::new() } else { format!("; {left_out} more were not logged") };
            log::info!(
                "latchkey: shadow mode allowed what would be denied: reason={reason} {request}{left_out}"
            );
        }
    }
}

/// In the filter state of the current stream: who is denied, if that is known. For logs and no upstream, so that it is no harm
/// where the host does not.
pub fn name_denied(verdict: &Verdict) {
    if let Some(TokenOwner { token_id, user }) = verdict.owner() {
        host::set_filter_state(USER, user);
        host::set_filter_state(TOKEN_ID, token_id);
    }
}

/// The current stream's request for a line of the log: no credential is in it, and no query, where some clients put one.
fn describe_request() -> String {
    let map = host::request_headers().unwrap_or_default();
    let find = |wanted: &[u8]| Pairs::of(&map)?.find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let path = find(b":path").map(headers::without_query);
    let path = headers::loggable(path.unwrap_or_default(), MAX_PATH);
    let request_id = headers::loggable(find(b"x-request-id").unwrap_or_default(), MAX_REQUEST_ID);
    let client = peer().unwrap_or_default();
    format!("path={path} client={client} request_id={request_id}")
}
