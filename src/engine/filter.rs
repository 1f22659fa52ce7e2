//! One configuration of the filter: what it decides by what is known. It takes no `&mut`, so that several threads can decide by it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::StreamId;
use super::local_reply::LocalReplies;
use super::locked;
use super::metrics::{Metric, Metrics};
use super::outcome::{Decided, Denial, ExpiryNotice, Mutations};
use super::state::EdgeState;
use crate::config::{Config, Mode};
use crate::credential::{self, Credential, Values};
use crate::gate::{self, Decision, Identity, Verdict};
use crate::headers::{self, AUTHORIZATION, RequestHeaders};
use crate::refusal::{Reason, Refusal};
use crate::throttle::Throttle;

/// How many requests are logged that pass in shadow mode alone: so many in each such time.
const SHADOW_LINES: Throttle = Throttle::new(10, Duration::from_secs(1));
/// How much of a path, and of a request's identifier, is logged, in bytes.
const MAX_PATH: usize = 256;
const MAX_REQUEST_ID: usize = 64;

/// A request, as far as it has come when it is decided on.
pub struct RequestView<'a> {
    /// What its headers say.
    pub headers: RequestHeaders<'a>,
    /// Where it comes from, as Envoy sees it. Asked only where it matters, as it costs a host call.
    pub client: &'a dyn Fn() -> Option<SocketAddr>,
}

/// A request that needs the verdict on its token, for [`Worker::wait`](super::Worker::wait).
#[derive(Debug, PartialEq, Eq)]
pub struct Undecided {
    pub(super) credential: Credential,
    pub(super) scopes: Arc<[String]>,
    pub(super) grpc: bool,
    pub(super) client: Option<SocketAddr>,
    /// The trace that it belongs to.
    pub(super) traceparent: Option<String>,
    /// What a log would say of it, where one may.
    pub(super) described: Option<String>,
}

/// What becomes of a request by what is known already.
#[derive(Debug)]
pub struct Immediate {
    /// Whether the credential is removed. Where it is not, it is another system's, or the operator wants it forwarded.
    pub removes_authorization: bool,
    /// What becomes of it, or that it has to wait for a verdict.
    pub decided: Result<Decided, Box<Undecided>>,
}

/// A stream that waits no longer.
#[derive(Debug)]
pub struct Held {
    /// The stream.
    pub stream: StreamId,
    pub(super) request: Undecided,
    /// `None`: there was none in time.
    pub(super) verdict: Option<Verdict>,
}

/// One configuration, and what it decides by.
#[derive(Debug)]
pub struct Filter {
    /// The configuration.
    pub config: Config,
    pub(super) state: Arc<EdgeState>,
    replies: LocalReplies,
    shadow_lines: Mutex<Throttle>,
}

impl Filter {
    /// Decides under `config` by what `state` knows.
    #[must_use]
    pub fn new(config: Config, state: Arc<EdgeState>) -> Self {
        Self { config, state, replies: LocalReplies::default(), shadow_lines: Mutex::new(SHADOW_LINES) }
    }

    /// Reads a request's headers: name and value pairs, names in lower case.
    pub fn read<'a>(&self, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> RequestHeaders<'a> {
        RequestHeaders::read(pairs, &self.config.identity_headers)
    }

    /// Whether a trailer of this name is removed: these can carry identity headers and credentials too.
    #[must_use]
    pub fn removes_trailer(&self, name: &[u8]) -> bool {
        let credential = name == AUTHORIZATION.as_bytes() && !self.config.forward_authorization;
        credential || self.config.identity_headers.is_spoof(name)
    }

    /// Denies a request that could not be read or changed as it has to be, in shadow mode too: it could carry another's identity.
    #[must_use]
    pub fn close(&self, grpc: bool) -> Denial {
        self.deny(&Refusal::new(Reason::Unavailable, None), grpc, None)
    }

    /// The same for one that was allowed, and whose mutations the host did not take.
    #[must_use]
    pub fn close_allowed(&self, mutations: &Mutations) -> Denial {
        self.metrics().add(mutations.counted_as, -1);
        self.close(mutations.grpc)
    }

    /// A request's headers have come. Decides by what is known, on any thread; a worker is needed only where that is not enough.
    pub fn on_request(&self, request: &RequestView<'_>, now: Duration) -> Immediate {
        let RequestView { headers, client } = request;
        let requirement = self.config.rules.requirement(&headers.target);
        let decision = gate::decide(&requirement, &self.config.accepted, headers.authorization);
        let removes_authorization = self.removes_authorization(headers.authorization, &decision);
        let describe = || describe(headers, client());
        let decided = match decision {
            Decision::Pass => Ok(self.allow(headers.grpc, None, None)),
            Decision::Refuse(refusal) => Ok(self.refuse(&refusal, headers.grpc, None, describe, now)),
            Decision::Ask(credential) => match self.state.verdict(&credential.hash, now) {
                Some(verdict) => {
                    self.metrics().increment(Metric::CACHE_HITS);
                    let judged = self.judge(&credential, &requirement.scopes, client, &verdict, now);
                    Ok(self.decided(judged, verdict, headers.grpc, describe, now))
                }
                None => {
                    self.metrics().increment(Metric::CACHE_MISSES);
                    Err(Box::new(Undecided {
                        credential,
                        scopes: Arc::clone(&requirement.scopes),
                        grpc: headers.grpc,
                        client: client(),
                        traceparent: headers.trace.map(|trace| trace.as_str().to_owned()),
                        described: (self.config.mode == Mode::Shadow).then(describe),
                    }))
                }
            },
        };
        Immediate { removes_authorization, decided }
    }

    /// Decides on a request that has waited, on any thread. What is given back has to be carried out.
    pub fn resume(&self, held: Held, now: Duration) -> Decided {
        let Held { request, verdict, .. } = held;
        let Undecided { credential, scopes, grpc, client, described, .. } = request;
        let describe = || described.unwrap_or_default();
        match verdict {
            Some(verdict) => {
                let judged = self.judge(&credential, &scopes, &|| client, &verdict, now);
                self.decided(judged, verdict, grpc, describe, now)
            }
            None => {
                let refusal = Refusal::new(Reason::Unavailable, Some(credential.scheme));
                self.refuse(&refusal, grpc, None, describe, now)
            }
        }
    }

    /// Refuses a request that cannot even wait.
    pub(super) fn overloaded(&self, request: Undecided, now: Duration) -> Decided {
        let refusal = Refusal::new(Reason::Overloaded, Some(request.credential.scheme));
        let described = request.described;
        self.refuse(&refusal, request.grpc, None, || described.unwrap_or_default(), now)
    }

    /// Judges a credential by the verdict on its token, and counts that for the token.
    fn judge(
        &self,
        credential: &Credential,
        scopes: &Arc<[String]>,
        client: &dyn Fn() -> Option<SocketAddr>,
        verdict: &Verdict,
        now: Duration,
    ) -> Result<Arc<Identity>, Refusal> {
        let address = if verdict.is_bound_to_networks() { client() } else { None };
        let judged = gate::judge(credential, scopes, address.map(|it| it.ip()), verdict, now);
        self.state.count(&credential.hash, verdict, judged.is_ok(), now);
        judged
    }

    fn decided(
        &self,
        judged: Result<Arc<Identity>, Refusal>,
        verdict: Verdict,
        grpc: bool,
        describe: impl FnOnce() -> String,
        now: Duration,
    ) -> Decided {
        match judged {
            Ok(identity) => {
                let expires_at = verdict.expires_within(self.config.expiry_warning, now);
                self.allow(grpc, Some(identity), expires_at.map(|expires_at| ExpiryNotice { expires_at }))
            }
            Err(refusal) => self.refuse(&refusal, grpc, Some(verdict), describe, now),
        }
    }

    fn allow(&self, grpc: bool, identity: Option<Arc<Identity>>, expiry: Option<ExpiryNotice>) -> Decided {
        self.metrics().increment(Metric::ALLOWED);
        Decided::Allow(Mutations {
            counted_as: Metric::ALLOWED,
            grpc,
            decision: "allowed".into(),
            identity,
            denied_by: None,
            expiry,
            log_line: None,
        })
    }

    /// Denies a request, unless mode is shadow.
    fn refuse(
        &self,
        refusal: &Refusal,
        grpc: bool,
        denied_by: Option<Verdict>,
        describe: impl FnOnce() -> String,
        now: Duration,
    ) -> Decided {
        let reason = refusal.reason();
        if self.config.mode == Mode::Enforce {
            return Decided::Deny(self.deny(refusal, grpc, denied_by));
        }
        self.metrics().increment(Metric::shadow_denied(reason));
        let admitted = locked(&self.shadow_lines).admit(now);
        Decided::Allow(Mutations {
            counted_as: Metric::shadow_denied(reason),
            grpc,
            decision: format!("shadow_denied:{}", reason.name()).into(),
            identity: None,
            denied_by,
            expiry: None,
            log_line: admitted.map(|left_out| shadow_line(reason, &describe(), left_out)),
        })
    }

    fn deny(&self, refusal: &Refusal, grpc: bool, denied_by: Option<Verdict>) -> Denial {
        self.metrics().increment(Metric::denied(refusal.reason()));
        Denial { reply: self.replies.of(refusal, &self.config, grpc), denied_by }
    }

    /// Whether the credential of a request is removed. Another system's is the upstream's to judge, where the request may pass
    /// without one of ours.
    fn removes_authorization(&self, authorization: Values<'_>, decision: &Decision) -> bool {
        let passes_anyway = matches!(decision, Decision::Pass) || self.config.mode == Mode::Shadow;
        let prefix = self.config.accepted.prefix.as_ref();
        match authorization {
            Values::None => false,
            _ if self.config.forward_authorization => false,
            Values::One(value) => !(passes_anyway && credential::is_foreign(value, prefix)),
            Values::Several => true,
        }
    }

    fn metrics(&self) -> &Metrics {
        self.state.metrics()
    }
}

fn shadow_line(reason: Reason, request: &str, left_out: u64) -> String {
    let reason = reason.name();
    let left_out = if left_out == 0 { String::new() } else { format!("; {left_out} more were not logged") };
    format!("latchkey: shadow mode allowed what would be denied: reason={reason} {request}{left_out}")
}

/// A request for a line of the log: no credential is in it, and no query, where some clients put one.
fn describe(headers: &RequestHeaders<'_>, client: Option<SocketAddr>) -> String {
    let path = headers.target.path.map(headers::without_query);
    let path = headers::loggable(path.unwrap_or_default(), MAX_PATH);
    let request_id = headers::loggable(headers.request_id.unwrap_or_default(), MAX_REQUEST_ID);
    let client = client.map(|client| client.to_string()).unwrap_or_default();
    format!("path={path} client={client} request_id={request_id}")
}
