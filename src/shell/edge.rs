//! What one root context and its streams share: the configuration, the look-ups under way, and how decisions are carried out.
//!
//! No host call is made while a `RefCell` is borrowed, so nothing that the host does within a call can find one borrowed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::callout::{self, CalloutEnd, Ended};
use super::host;
use super::metrics::Metrics;
use super::refusals::Answers;
use super::shared::Shared;
use crate::config::Config;
use crate::credential::Credential;
use crate::gate::{self, Identity, Verdict};
use crate::headers::EXPIRES_IN;
use crate::lookups::{CallId, Joined, Limits, Lookups, Outcome, Release, WaiterId};
use crate::refusal::{Reason, Refusal};
use crate::throttle::Throttle;
use crate::token::TokenHash;
use crate::trace::Traceparent;
use crate::wire::{VERIFY_PATH, VerifyRequest, VerifyResponse};

pub use settle::DECISION;

mod settle;

/// What bounds one root context. A waiting stream takes a few hundred bytes here, and its buffers in Envoy.
const LIMITS: Limits = Limits { waiters: 16_384, waiters_per_token: 4096, callouts: 1024, strangers: 512 };
/// How many waiting streams are released in one callback: each nests a few frames on the VM's stack.
const BATCH: usize = 32;
/// How often the deadlines of waiting streams are looked at, while callouts are under way.
const TICK: Duration = Duration::from_millis(50);
/// How often the root context looks after the change feed and the metrics otherwise.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How often an outage is logged at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// How many requests are logged that pass in shadow mode alone: so many in each such time.
const SHADOW_LINES: Throttle = Throttle::new(10, Duration::from_secs(1));

/// What is kept of a request while it waits for a verdict.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What the client presented.
    pub credential: Credential,
    /// The scopes that the request needs.
    pub scopes: Arc<[String]>,
    /// Whether it is a gRPC request.
    pub grpc: bool,
    /// Where its stream learns whether it passed.
    pub passed: Rc<Cell<bool>>,
}

/// What one root context and its streams share.
pub struct Edge {
    /// The configuration.
    pub config: Config,
    root: u32,
    metrics: Rc<Metrics>,
    shared: Rc<Shared>,
    lookups: RefCell<Lookups<Waiting, Verdict>>,
    /// The queue by which the root context wakes itself.
    queue: Cell<Option<u32>>,
    /// The time between ticks; zero: there are none.
    tick: Cell<Duration>,
    last_complaint: Cell<Option<Duration>>,
    shadow_lines: Cell<Throttle>,
    answers: Answers,
    /// When the tokens end of those streams whose responses are to tell of it.
    expiring: RefCell<HashMap<u32, Duration>>,
}

impl Edge {
    /// What root context `root` shares with its streams under `config`.
    pub fn new(root: u32, config: Config) -> Self {
        let lookups = RefCell::new(Lookups::new(LIMITS, config.service.timeout));
        Self {
            shared: Shared::of(&config),
            config,
            root,
            metrics: Metrics::of_this_vm(),
            lookups,
            queue: Cell::new(None),
            tick: Cell::new(Duration::ZERO),
            last_complaint: Cell::new(None),
            shadow_lines: Cell::new(SHADOW_LINES),
            answers: Answers::default(),
            expiring: RefCell::default(),
        }
    }

    /// The root context.
    pub fn root(&self) -> u32 {
        self.root
    }

    /// Judges the current stream's request by the verdict that is kept on its token; `None`: none is, or it does not serve.
    pub fn judge(
        &self,
        stream: u32,
        credential: &Credential,
        scopes: &Arc<[String]>,
    ) -> Option<Result<Arc<Identity>, Refusal>> {
        let now = host::now();
        let verdict = self.shared.verdict(&credential.hash, now)?;
        self.metrics.cache_hit();
        Some(self.judge_by(&verdict, stream, credential, scopes, now))
    }

    fn judge_by(
        &self,
        verdict: &Verdict,
        stream: u32,
        credential: &Credential,
        scopes: &Arc<[String]>,
        now: Duration,
    ) -> Result<Arc<Identity>, Refusal> {
        let judgement = gate::judge(credential, scopes, client_address(verdict), verdict, now);
        self.shared.used(verdict, judgement.is_ok(), now);
        if judgement.is_err() {
            settle::name_denied(verdict);
        }
        if judgement.is_ok()
            && let Some(end) = verdict.expires_within(self.config.expiry_warning, now)
        {
            self.expiring.borrow_mut().insert(stream, end);
        }
        judgement
    }

    /// Whether the response to a stream's request is to tell that its token ends soon.
    pub fn warns(&self, stream: u32) -> bool {
        self.expiring.borrow().contains_key(&stream)
    }

    /// In the callback of its response's headers: tells a client when its token ends.
    pub fn warn(&self, stream: u32) {
        let end = self.expiring.borrow_mut().remove(&stream);
        if let Some(end) = end {
            let left = end.saturating_sub(host::now()).as_secs();
            host::set_response_header(EXPIRES_IN, &left.to_string());
        }
    }

    /// A stream is gone, perhaps before its response.
    pub fn warn_no_more(&self, stream: u32) {
        self.expiring.borrow_mut().remove(&stream);
    }

    /// Lets a stream wait for a verdict, and sees to it that the change feed is followed: a VM that is asked nothing has nothing
    /// to follow it for. `false`: too many wait already, and it does not. Who asks first has the callout be a part of its `trace`.
    pub fn ask(&self, stream: WaiterId, waiting: Waiting, trace: Option<Traceparent<'_>>) -> bool {
        let (hash, now) = (waiting.credential.hash, host::now());
        self.metrics.cache_missed();
        let familiar = self.shared.is_familiar(&hash);
        let joined = self.lookups.borrow_mut().join(stream, hash, familiar, now, waiting);
        if joined == Ok(Joined::Ask) {
            self.shared.follow(self.root);
            self.send_callout(hash, trace);
            // Whoever cannot be served is released in a callback of its own: this stream has not even paused yet.
            self.wake_for_the_rest();
        }
        joined.is_ok()
    }

    /// A stream is gone.
    pub fn leave(&self, stream: WaiterId) {
        self.lookups.borrow_mut().leave(stream);
    }

    fn send_callout(&self, hash: TokenHash, trace: Option<Traceparent<'_>>) {
        let service = &self.config.service;
        let body = serde_json::to_vec(&VerifyRequest { token_hash: hash }).unwrap_or_default();
        let sent = callout::post(service, &service.cluster, VERIFY_PATH, trace, &body);
        if let Some(call) = sent {
            self.lookups.borrow_mut().sent(hash, call);
            self.metrics.callout_sent();
            self.tick_every(TICK);
        } else {
            self.lookups.borrow_mut().not_sent(hash);
            self.metrics.callout_not_sent();
            self.complain(CalloutEnd::NotSent);
        }
    }

    /// A callout ended.
    pub fn callout_ended(&self, ended: Ended) {
        if self.shared.takes(ended) {
            self.shared.follow(self.root);
            return;
        }
        let Some(hash) = self.lookups.borrow().asked(ended.call) else { return };
        let (outcome, end) = match self.read_verdict(hash, ended) {
            Ok(outcome) => (outcome, CalloutEnd::Ok),
            Err(CalloutEnd::Timeout) => (Outcome::Timeout, CalloutEnd::Timeout),
            Err(end) => (Outcome::Failed, end),
        };
        self.end_callout(ended.call, outcome, end);
        self.release();
        self.shared.follow(self.root);
    }

    /// What the service says about `hash`. Envoy's own answers and anything that is not a verdict on this token are none.
    fn read_verdict(&self, hash: TokenHash, ended: Ended) -> Result<Outcome<Verdict>, CalloutEnd> {
        let answer = callout::answer::<VerifyResponse>(ended, b"200", MAX_ANSWER)?;
        let now = host::now();
        let verdict = Verdict::of(&answer, hash, now).ok_or(CalloutEnd::BadAnswer)?;
        // What is kept ends with its token, however long the answer was under way: then the service's word counts.
        let asked = self.lookups.borrow().asked_at(ended.call).unwrap_or(now);
        let kept = Verdict::of(&answer, hash, asked).ok_or(CalloutEnd::BadAnswer)?;
        let believed = self.shared.keep(&answer, &kept, now);
        Ok(if believed { Outcome::Answer(verdict) } else { Outcome::Outdated })
    }

    fn end_callout(&self, call: CallId, outcome: Outcome<Verdict>, end: CalloutEnd) {
        self.metrics.callout_ended(end);
        if end != CalloutEnd::Ok {
            self.complain(end);
        }
        let now = host::now();
        self.shared.lookup_ended(end == CalloutEnd::Ok, now);
        let again = self.lookups.borrow_mut().ended(call, outcome, now);
        if let Some(hash) = again {
            self.send_callout(hash, None);
        }
    }

    /// Looks at the deadlines, and after the change feed.
    pub fn tick(&self) {
        let now = host::now();
        self.lookups.borrow_mut().sweep(now);
        let lost = self.lookups.borrow().lost(now);
        for call in lost {
            self.end_callout(call, Outcome::Timeout, CalloutEnd::Timeout);
        }
        self.release();
        self.shared.follow(self.root);
        self.shared.report(self.root);
        self.shared.observe(self.root);
        self.shared.publish();
        self.metrics.tell();
        if self.lookups.borrow().is_idle() && !self.shared.asks_soon(now) {
            self.tick_every(IDLE_TICK);
        }
    }

    fn tick_every(&self, period: Duration) {
        if self.tick.replace(period) != period {
            host::set_tick_period(period);
        }
    }

    /// The root context goes.
    pub fn leave_root(&self) {
        self.shared.leave(self.root);
    }

    /// Something was put into a queue: if it is the one by which the root context wakes itself, others are released.
    pub fn woken(&self, queue: u32) {
        if self.queue.get() == Some(queue) && host::dequeue(queue).is_some() {
            self.release();
        }
    }

    /// In a callback of the root context: lets streams whose waiting is over go on, or refuses them.
    fn release(&self) {
        let batch = self.lookups.borrow_mut().release(BATCH);
        for release in batch {
            // A stream that is gone has left; if the host knows better, acting would hit another one.
            if host::act_on(release.waiter) {
                self.settle_waiting(&release);
            }
        }
        host::act_on(self.root);
        self.wake_for_the_rest();
    }

    fn settle_waiting(&self, release: &Release<Waiting, Verdict>) {
        let Waiting { credential, scopes, grpc, passed } = &release.request;
        let verdict = match &release.answer {
            Some(verdict) => self.judge_by(verdict, release.waiter, credential, scopes, host::now()),
            None => Err(Refusal::new(Reason::Unavailable, Some(credential.scheme))),
        };
        if self.settle(verdict.map(Some), *grpc) {
            passed.set(true);
            host::resume_request();
        }
    }

    /// Wakes the root context for those whom [`Edge::release`] left. Should the queue fail, the next tick does it.
    fn wake_for_the_rest(&self) {
        if !self.lookups.borrow().has_ready() {
            return;
        }
        if self.queue.get().is_none() {
            let unique = RandomState::new().hash_one(self.root);
            self.queue.set(host::register_queue(&format!("latchkey.{}.{unique:016x}", self.root)));
        }
        let woken = self.queue.get().is_some_and(host::enqueue);
        if !woken {
            self.tick_every(TICK);
        }
    }

    /// Logs an outage, once in a while.
    fn complain(&self, end: CalloutEnd) {
        let now = host::now();
        let recent = |last: Duration| now.saturating_sub(last) < COMPLAINT_INTERVAL;
        if !self.last_complaint.get().is_some_and(recent) {
            self.last_complaint.set(Some(now));
            let (cluster, end) = (&self.config.service.cluster, end.name());
            log::warn!("latchkey: no verdict from cluster {cluster} ({end}); requests that need one get 503");
        }
    }
}

impl Drop for Edge {
    /// With its root context go the callouts that it sent: nobody hears of their end.
    fn drop(&mut self) {
        self.metrics.callouts_abandoned(self.lookups.get_mut().under_way());
        self.metrics.tell();
    }
}

/// The address of the client, where the token is bound to networks: it costs a host call.
fn client_address(verdict: &Verdict) -> Option<IpAddr> {
    if !verdict.is_bound_to_networks() {
        return None;
    }
    let address: SocketAddr = peer()?.parse().ok()?;
    Some(address.ip())
}

/// Where the current stream comes from, as Envoy sees it: address and port.
fn peer() -> Option<String> {
    String::from_utf8(host::property("source\0address")?).ok()
}
