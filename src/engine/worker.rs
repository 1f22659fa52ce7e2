//! One worker of one configuration: the streams that wait for verdicts, the callouts in flight, and the change feed if it is this
//! worker that follows it. A shell calls it from one thread at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::StreamId;
use super::callout::{CallId, CalloutEnd, CalloutResult, Dispatch, Purpose, Sent};
use super::command::{Command, Commands, Level};
use super::filter::{Filter, Held, RequestView, Undecided};
use super::gather::Gatherer;
use super::metrics::Metric;
use super::outcome::{Decided, Outcome};
use super::pending::{self, Joined, Limits, PendingVerifies};
use super::state::{Follow, WorkerId};
use super::verdicts::{self, Arrived};
use crate::gate::Verdict;
use crate::throttle::Throttle;
use crate::token::TokenHash;
use crate::wire::{PREFIX_OFFSET, TokenHashes, USAGE_PATH, VERIFY_PATH, VerifyBatchRequest, VerifyRequest};

/// What bounds one worker. A waiting stream takes a few hundred bytes here, and its buffers in Envoy.
const LIMITS: Limits = Limits { waiters: 16_384, waiters_per_token: 4096, tokens: 1024, unknown: 512 };
/// How often deadlines are looked at while streams wait.
const TICK: Duration = Duration::from_millis(50);
/// How often the change feed and the metrics are looked after otherwise.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// How long a callout for verdicts may take at least.
const SHORTEST_CALLOUT: Duration = Duration::from_millis(10);
/// How long after its time the end of a callout may still be reported; then it counts as timed out.
const GRACE: Duration = Duration::from_secs(1);
/// How often an outage is logged at most.
const OUTAGE_LINES: Throttle = Throttle::new(1, Duration::from_secs(10));

/// One worker.
#[derive(Debug)]
pub struct Worker {
    filter: Arc<Filter>,
    id: WorkerId,
    pending: PendingVerifies<Undecided, Verdict>,
    calls: BTreeMap<CallId, Purpose>,
    last_call: u64,
    /// Tokens to be verified that are in no callout yet.
    gatherer: Gatherer,
    commands: Commands,
    /// The time between ticks; zero: there are none yet.
    tick: Duration,
    outage_lines: Throttle,
}

impl Worker {
    /// A worker that other workers with the same state know as `id`.
    #[must_use]
    pub fn new(filter: Arc<Filter>, id: WorkerId) -> Self {
        let pending = PendingVerifies::new(LIMITS, filter.config.service.timeout);
        let mut worker = Self {
            filter,
            id,
            pending,
            calls: BTreeMap::new(),
            last_call: 0,
            gatherer: Gatherer::default(),
            commands: Commands::default(),
            tick: Duration::ZERO,
            outage_lines: OUTAGE_LINES,
        };
        // It takes over from a worker that will go, whether or not it ever has a request.
        if worker.filter.state.is_followed() {
            worker.tick_every(IDLE_TICK);
        }
        worker
    }

    /// What it decides by.
    #[must_use]
    pub fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// A request's headers have come, where decisions are this worker's too.
    pub fn on_request(&mut self, stream: StreamId, request: &RequestView<'_>, now: Duration) -> Outcome {
        let immediate = self.filter.on_request(request, now);
        let decided = match immediate.decided {
            Ok(decided) => Some(decided),
            Err(undecided) => self.wait(stream, *undecided, now),
        };
        self.on_traffic();
        Outcome { removes_authorization: immediate.removes_authorization, decided }
    }

    /// There are requests, whoever decides on them: from now on it is looked after what they need, such as metrics.
    pub fn on_traffic(&mut self) {
        if self.tick.is_zero() {
            self.tick_every(IDLE_TICK);
        }
    }

    /// Lets a stream wait; else what becomes of it, as too many wait already. The change feed is followed from now on: a worker
    /// without such requests has nothing to follow it for.
    pub fn wait(&mut self, stream: StreamId, mut request: Undecided, now: Duration) -> Option<Decided> {
        let traceparent = request.traceparent.take();
        let hash = request.credential.hash;
        let previously_valid = self.filter.state.was_valid(&hash);
        match self.pending.join(stream, hash, previously_valid, now, request) {
            Err(request) => return Some(self.filter.overloaded(request, now)),
            Ok(Joined::Lead) => {
                self.follow(now);
                self.verify(hash, traceparent, now);
            }
            Ok(Joined::Follow) => {}
        }
        None
    }

    /// A stream is gone, whether or not it was decided on.
    pub fn on_stream_end(&mut self, stream: StreamId) {
        self.pending.leave(stream);
    }

    /// A callout has ended. One that is not in flight, or not any more, changes nothing.
    pub fn on_callout(&mut self, call: CallId, result: CalloutResult<'_>, now: Duration) {
        match self.calls.remove(&call) {
            Some(Purpose::Verify(hashes, sent)) => self.on_verdicts(&hashes, sent, result, now),
            Some(Purpose::Changes) => self.filter.state.on_changes(result, now, &mut self.commands),
            Some(Purpose::Usage) => self.filter.state.on_usage(result, now, &mut self.commands),
            None => return,
        }
        self.send_gathered(now);
        // What could not be sent at all is tried again at a tick.
        if !matches!(result, CalloutResult::NotSent) {
            self.follow(now);
        }
    }

    /// Looks at deadlines, and after the change feed, usage and metrics.
    pub fn on_tick(&mut self, now: Duration) {
        self.pending.sweep(now);
        let overdue = self.calls.iter().filter_map(|(call, purpose)| match purpose {
            Purpose::Verify(_, sent) if sent.until.saturating_add(GRACE) <= now => Some(*call),
            _ => None,
        });
        for call in overdue.collect::<Vec<_>>() {
            if let Some(Purpose::Verify(hashes, sent)) = self.calls.remove(&call) {
                self.end_verify(&hashes, sent, CalloutEnd::Timeout, now);
            }
        }
        self.send_gathered(now);
        self.follow(now);
        if let Some(report) = self.filter.state.report(self.id, now) {
            self.send_follow(report);
        }
        self.filter.state.observe(self.id, now);
        if self.pending.is_idle() && !self.filter.state.asks_soon(now) {
            self.tick_every(IDLE_TICK);
        }
    }

    /// The worker goes, and its callouts with it.
    pub fn on_detach(&mut self, now: Duration) {
        let active = i64::try_from(self.verifies_in_flight()).unwrap_or(0);
        self.filter.state.metrics().add(Metric::CALLOUTS_ACTIVE, -active);
        self.calls.clear();
        self.filter.state.leave(self.id, now);
    }

    /// What is to be done next, at once and in the worker's own context.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.next()
    }

    /// Whether [`Worker::next_command`] has one.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// The next stream that waits no longer. One that the host still has is to be [resumed](Filter::resume); it is not decided on
    /// before, as what is decided is counted.
    pub fn next_resume(&mut self) -> Option<Held> {
        let pending::Release { waiter, request, answer } = self.pending.release()?;
        Some(Held { stream: waiter, request, verdict: answer })
    }

    /// Whether [`Worker::next_resume`] may have a stream to name.
    #[must_use]
    pub fn has_resumes(&self) -> bool {
        self.pending.has_ready()
    }

    fn tick_every(&mut self, period: Duration) {
        if self.tick != period {
            self.tick = period;
            self.commands.push(Command::SetTick(period));
        }
    }

    fn new_call(&mut self, purpose: Purpose) -> CallId {
        self.last_call += 1;
        let call = CallId(self.last_call);
        self.calls.insert(call, purpose);
        call
    }

    /// Follows the change feed, unless another worker does.
    fn follow(&mut self, now: Duration) {
        if let Some(question) = self.filter.state.follow(self.id, now) {
            self.send_follow(question);
        }
        if self.filter.state.asks_soon(now) {
            self.tick_every(TICK);
        }
    }

    fn send_follow(&mut self, follow: Follow) {
        let purpose = match follow {
            Follow::Changes(_) => Purpose::Changes,
            Follow::Usage(_) => Purpose::Usage,
        };
        let call = self.new_call(purpose);
        let service = &self.filter.config.service;
        let dispatch = match follow {
            Follow::Changes(question) => {
                let mut dispatch = Dispatch::get(call, service, &service.feed_cluster, question.path);
                dispatch.headers.push((PREFIX_OFFSET, question.offset.to_string()));
                Dispatch { timeout: question.wait.saturating_add(service.timeout), ..dispatch }
            }
            Follow::Usage(report) => {
                let body = serde_json::to_vec(&report).unwrap_or_default();
                Dispatch::post(call, service, &service.usage_cluster, USAGE_PATH, body)
            }
        };
        self.commands.push(Command::Dispatch(dispatch));
    }

    fn verifies_in_flight(&self) -> usize {
        self.calls.values().filter(|purpose| matches!(purpose, Purpose::Verify(..))).count()
    }

    /// Sees to it that a token is verified: at once, or where enough callouts are in flight already, with others in one.
    fn verify(&mut self, hash: TokenHash, traceparent: Option<String>, now: Duration) {
        self.gatherer.add(hash, now);
        if self.gatherer.is_alone()
            && let Some(hashes) = self.gatherer.take(self.verifies_in_flight(), now)
        {
            self.send_verify(hashes, traceparent, now);
        }
        self.send_gathered(now);
    }

    /// Asks for tokens that were gathered, if it is time.
    fn send_gathered(&mut self, now: Duration) {
        while let Some(hashes) = self.gatherer.take(self.verifies_in_flight(), now) {
            self.send_verify(hashes, None, now);
        }
    }

    fn send_verify(&mut self, hashes: TokenHashes, traceparent: Option<String>, now: Duration) {
        let body = match hashes.as_slice() {
            [token_hash] => serde_json::to_vec(&VerifyRequest { token_hash: *token_hash }),
            _ => serde_json::to_vec(&VerifyBatchRequest { token_hashes: hashes.clone() }),
        };
        // It ends with the streams that wait for it, or who comes next would follow a callout that is over for all others.
        let timeout = self.filter.config.service.timeout;
        let awaited_until = self.pending.awaited_until(hashes.as_slice()).unwrap_or(now);
        let timeout = awaited_until.saturating_sub(now).clamp(SHORTEST_CALLOUT.min(timeout), timeout);
        let sent = Sent { at: now, until: now.saturating_add(timeout) };
        let call = self.new_call(Purpose::Verify(hashes, sent));
        let service = &self.filter.config.service;
        let body = body.unwrap_or_default();
        let dispatch = Dispatch::post(call, service, &service.cluster, VERIFY_PATH, body).traced(traceparent);
        let dispatch = Dispatch { timeout, ..dispatch };
        self.commands.push(Command::Dispatch(dispatch));
        self.filter.state.metrics().increment(Metric::CALLOUTS_ACTIVE);
        self.tick_every(TICK);
    }

    fn on_verdicts(&mut self, hashes: &TokenHashes, sent: Sent, result: CalloutResult<'_>, now: Duration) {
        match verdicts::read(result, hashes, sent.at, now) {
            Ok(arrived) => {
                self.count_end(CalloutEnd::Ok, now);
                for Arrived { response, cached, verdict } in arrived {
                    let believed = self.filter.state.keep(&response, cached, now);
                    let outcome =
                        if believed { pending::Outcome::Answer(verdict) } else { pending::Outcome::Outdated };
                    self.resolve(response.token_hash, outcome, now);
                }
            }
            // A service of an earlier version: each token is asked for by itself from now on.
            Err(CalloutEnd::Refused) if hashes.as_slice().len() > 1 => {
                self.count_end(CalloutEnd::Refused, now);
                self.gatherer.ask_singly();
                for hash in hashes.as_slice() {
                    self.verify(*hash, None, now);
                }
            }
            Err(end @ (CalloutEnd::Unreachable | CalloutEnd::BadAnswer)) if hashes.as_slice().len() > 1 => {
                self.count_end(end, now);
                self.verify_halves(hashes.as_slice(), now);
            }
            Err(end) => self.end_verify(hashes, sent, end, now),
        }
    }

    /// One token of many on which there is no word must not leave the others without theirs: those for which a stream still has
    /// time are asked for again, in two callouts.
    fn verify_halves(&mut self, hashes: &[TokenHash], now: Duration) {
        let (awaited, over): (Vec<TokenHash>, Vec<TokenHash>) =
            hashes.iter().partition(|hash| self.pending.is_awaited(hash, now));
        for hash in over {
            self.resolve(hash, pending::Outcome::Failed, now);
        }
        let (one, other) = awaited.split_at(awaited.len() / 2);
        for half in [one, other] {
            if let Ok(half) = TokenHashes::try_from(half.to_vec()) {
                self.send_verify(half, None, now);
            }
        }
    }

    /// A callout for verdicts has brought none.
    fn end_verify(&mut self, hashes: &TokenHashes, sent: Sent, end: CalloutEnd, now: Duration) {
        self.count_end(end, now);
        let outcome = match end {
            CalloutEnd::Timeout => pending::Outcome::Timeout(sent.until),
            _ => pending::Outcome::Failed,
        };
        for hash in hashes.as_slice() {
            self.resolve(*hash, outcome.clone(), now);
        }
    }

    fn resolve(&mut self, hash: TokenHash, outcome: pending::Outcome<Verdict>, now: Duration) {
        if self.pending.resolve(hash, outcome, now) {
            self.verify(hash, None, now);
        }
    }

    fn count_end(&mut self, end: CalloutEnd, now: Duration) {
        let state = &self.filter.state;
        state.metrics().increment(Metric::callouts(end));
        state.metrics().add(Metric::CALLOUTS_ACTIVE, -1);
        state.on_verify_end(end == CalloutEnd::Ok, now);
        if end != CalloutEnd::Ok && self.outage_lines.admit(now).is_some() {
            let (cluster, end) = (&self.filter.config.service.cluster, end.name());
            self.commands.log(
                Level::Warn,
                format!(
                    "latchkey: no verdict from cluster {cluster} ({end}); requests that need one get 503"
                ),
            );
        }
    }
}
