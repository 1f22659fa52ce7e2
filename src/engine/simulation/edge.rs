//! One VM: two workers that share a state, of which one enforces and the other does not, behind a host that records.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::TIMEOUT;
use super::callouts::{InFlight, Served, asked, asked_or_none, path_of, verdicts_body};
use super::checks::expected_without_verdict;
use super::knowledge::Knowledge;
use super::request::{Request, configuration, is_secret, token_of};
use super::service::{Judgement, Moment, Service, TOKENS, token_id};
use super::step::Failure;
use super::upstream::AtHost;
use crate::config::Config;
use crate::engine::{
    CallId, CalloutResponse, CalloutResult, Command, Dispatch, Filter, Metrics, RequestView, Seed, States,
    StreamId, Worker,
};
use crate::headers::AUTHORIZATION;
use crate::refusal::Reason;
use crate::wire::{CHANGES_PATH, USAGE_PATH, UsageReport, VERIFY_PATH};

/// A stream that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    at: AtHost,
    pub(super) token: usize,
    pub(super) since: Duration,
}

/// The VM.
pub struct Edge {
    pub(super) metrics: Arc<Metrics>,
    states: States,
    pub(super) workers: [Worker; 2],
    ticks: [bool; 2],
    ids: u32,
    pub(super) streams: BTreeMap<(usize, StreamId), Waiting>,
    pub(super) calls: Vec<InFlight>,
    /// How many callouts the host does not send.
    pub blocked: usize,
    /// Whether it does not remove what it is told to, of the next request.
    pub stubborn: bool,
    pub(super) knows: Knowledge,
    // What was counted.
    pub hits: usize,
    pub(super) latest: Option<Judgement>,
    pub(super) uses: [(u64, u64); TOKENS],
    pub(super) counts: BTreeMap<String, i64>,
}

fn worker(states: &mut States, number: usize, id: u32) -> Worker {
    static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
        [false, true].map(|shadow| Config::parse(configuration(shadow).as_bytes(), |_| None).unwrap())
    });
    let config = CONFIGS[number].clone();
    let state = states.of(&config, Seed([7, u64::from(id)]));
    Worker::new(Arc::new(Filter::new(config, state)), id)
}

impl Edge {
    /// A VM whose identifiers follow `ids`: no other VM has had them.
    pub fn new(ids: u32) -> Self {
        let metrics = Arc::<Metrics>::default();
        let mut states = States::new(Arc::clone(&metrics), 2);
        let workers = [worker(&mut states, 0, ids + 1), worker(&mut states, 1, ids + 2)];
        Self {
            metrics,
            states,
            workers,
            ticks: [false; 2],
            ids: ids + 2,
            streams: BTreeMap::new(),
            calls: Vec::new(),
            blocked: 0,
            stubborn: false,
            knows: Knowledge::default(),
            hits: 0,
            latest: None,
            uses: [(0, 0); TOKENS],
            counts: BTreeMap::new(),
        }
    }

    pub fn latest(&mut self) -> Option<Judgement> {
        self.latest.take()
    }

    /// A request comes.
    pub fn request(&mut self, number: usize, request: Request, service: &Service, now: Duration) {
        self.ids += 1;
        let (stream, mut at) = (self.ids, AtHost::new(request));
        let filter = Arc::clone(self.workers[number].filter());
        let (outcome, removed) = {
            let view =
                RequestView { headers: filter.read(at.pairs()), client: &|| "192.0.2.1:5000".parse().ok() };
            let outcome = self.workers[number].on_request(stream, &view, now);
            let mut removed: Vec<Vec<u8>> = view.headers.spoofed.iter().map(|name| name.to_vec()).collect();
            removed.extend(outcome.removes_authorization.then(|| AUTHORIZATION.as_bytes().to_vec()));
            (outcome, removed)
        };
        if std::mem::take(&mut self.stubborn) && !removed.is_empty() {
            self.deny_uncleaned(number, stream, at, outcome.decided);
            return self.run(number, &BTreeMap::new(), now, service);
        }
        at.remove(&removed);
        match (outcome.decided, expected_without_verdict(request)) {
            (Some(decided), Some(expected)) => {
                assert_eq!(self.carry_out(number, at, decided), expected, "{request:?}");
            }
            (Some(decided), None) => {
                let token = request.token().unwrap();
                self.knows.assert_may_serve(token, now);
                let possible = service.judgements(token, self.knows.told_of(token).unwrap(), now);
                let decided = self.carry_out(number, at, decided);
                self.assert_possible(request, &decided, &possible);
                self.hits += 1;
                self.count("cache_hits");
                self.note(token, &decided);
            }
            (None, expected) => {
                assert_eq!(expected, None, "{request:?} needs no verdict");
                let token = request.token().unwrap();
                assert!(!self.knows.has(token, now), "a known token is not served: {:?}", self.knows);
                self.count("cache_misses");
                self.streams.insert((number, stream), Waiting { at, token, since: now });
            }
        }
        self.run(number, &BTreeMap::new(), now, service);
    }

    pub(super) fn count(&mut self, name: &str) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    /// A client goes away while its request waits.
    pub fn end_stream(&mut self, which: usize) {
        if let Some(key) = self.streams.keys().nth(which % self.streams.len().max(1)).copied() {
            self.streams.remove(&key);
            self.workers[key.0].on_stream_end(key.1);
        }
    }

    /// The service takes up a callout.
    pub fn serve(&mut self, which: usize, page: usize, service: &mut Service, now: Duration) {
        let length = self.calls.len().max(1);
        let Some(call) = self.calls.get_mut(which % length).filter(|call| call.served.is_none()) else {
            return;
        };
        call.serve(page, service, now);
    }

    /// A response arrives.
    pub fn deliver(&mut self, which: usize, service: &Service, now: Duration) {
        let served = self.calls.iter().enumerate().filter(|(_, call)| call.served.is_some());
        let served: Vec<usize> = served.map(|(place, _)| place).collect();
        let Some(place) = served.get(which % served.len().max(1)).copied() else { return };
        let InFlight { worker, dispatch, sent_at, served } = self.calls.remove(place);
        let (status, body) = served.as_ref().unwrap().response();
        self.end(worker, dispatch.call, status, &body, now);
        let mut answered = BTreeMap::new();
        match served.unwrap() {
            Served::Verdicts(responses, at) => {
                for response in responses {
                    let token = token_of(response.token_hash.prefix());
                    let moment = Service::moment(&response.epoch, response.revision);
                    self.knows.keep(token, &response, now, sent_at);
                    answered.insert(token, (moment, at));
                }
                self.count("callouts.ok");
            }
            Served::Changes(response) => self.knows.tell(&response, now),
            Served::Usage(_) => {}
        }
        self.run(worker, &answered, now, service);
    }

    fn end(&mut self, worker: usize, call: CallId, status: &str, body: &[u8], now: Duration) {
        let headers: [(&[u8], &[u8]); 2] =
            [(b":status", status.as_bytes()), (b"content-type", b"application/json")];
        let response = CalloutResponse { headers: &headers, body: Some(body) };
        self.workers[worker].on_callout(call, CalloutResult::Response(response), now);
    }

    /// A callout fails.
    pub fn fail(&mut self, which: usize, failure: Failure, service: &Service, now: Duration) {
        if self.calls.is_empty() {
            return;
        }
        let place = which % self.calls.len();
        let is_verify = self.calls[place].is_verify();
        if is_verify && failure == Failure::Silence {
            // Until the engine gives it up; see `tick`.
            self.calls[place].served = None;
            return;
        }
        let InFlight { worker, dispatch, .. } = self.calls.remove(place);
        // The verdict on another token, in the place of the last one.
        let mut others: Vec<_> = asked_or_none(&dispatch).unwrap_or_else(|| vec![0]);
        *others.last_mut().unwrap() = (others.last().unwrap() + 1) % TOKENS;
        let others: Vec<_> = others.into_iter().map(|token| service.verify(token, now)).collect();
        let status = match failure {
            Failure::Reset => {
                self.workers[worker].on_callout(dispatch.call, CalloutResult::Reset, now);
                None
            }
            Failure::Status(status) => Some((status, b"{}".to_vec())),
            Failure::Garbage => Some(("200", b"no JSON".to_vec())),
            Failure::OtherToken => Some(("200", verdicts_body(&others))),
            Failure::Silence => Some(("504", Vec::new())),
        };
        if let Some((status, body)) = status {
            self.end(worker, dispatch.call, status, &body, now);
            if matches!(status, "400" | "413") && path_of(&dispatch) == USAGE_PATH {
                self.drop_report(&serde_json::from_slice(&dispatch.body).unwrap(), service);
            }
        }
        self.run(worker, &BTreeMap::new(), now, service);
    }

    /// A service that does not understand a report never counts it.
    fn drop_report(&mut self, report: &UsageReport, service: &Service) {
        if !service.has_counted(report) {
            for usage in &report.usage {
                let token = (0..TOKENS).find(|it| token_id(*it) == usage.token_id).unwrap();
                let (allowed, denied) = &mut self.uses[token];
                (*allowed, *denied) = (*allowed - usage.allowed, *denied - usage.denied);
            }
        }
    }

    /// Does what a worker wants done. `answered`: the tokens whose verdicts have just arrived, and
    /// as of when.
    fn run(
        &mut self,
        number: usize,
        answered: &BTreeMap<usize, (Moment, Duration)>,
        now: Duration,
        service: &Service,
    ) {
        while let Some(command) = self.workers[number].next_command() {
            match command {
                Command::SetTick(period) => self.ticks[number] = !period.is_zero(),
                Command::Log(_, line) => assert!(!is_secret(&line), "{line}"),
                Command::Dispatch(dispatch) => self.dispatch(number, dispatch, now),
            }
        }
        while let Some(held) = self.workers[number].next_resume() {
            let stream = held.stream;
            let resume = self.workers[number].filter().resume(held, now);
            let Waiting { at, token, .. } = self.streams.remove(&(number, stream)).expect("it waits");
            let request = at.request;
            let decided = self.carry_out(number, at, resume);
            if decided == Err(Reason::Unavailable) {
                self.latest = Some(Err(Reason::Unavailable));
                continue;
            }
            let (moment, at) = answered.get(&token).copied().expect("without a verdict nothing but 503");
            let told = self.knows.told_of(token).filter(|told| told.history == moment.history);
            let possible = match told {
                Some(told) => service.judgements(token, told, at),
                None => service.judgements(token, moment, at).drain(..1).collect(),
            };
            self.assert_possible(request, &decided, &possible);
            self.note(token, &decided);
        }
        assert!(!self.workers[number].has_resumes());
    }

    /// Secret, Contained: a callout is sent.
    fn dispatch(&mut self, worker: usize, dispatch: Dispatch, now: Duration) {
        for (name, value) in &dispatch.headers {
            assert_eq!(is_secret(value), *name == AUTHORIZATION, "{name}");
        }
        assert!(!is_secret(&format!("{dispatch:?}")) && !is_secret(&String::from_utf8_lossy(&dispatch.body)));
        let path = path_of(&dispatch);
        let is_same = |call: &&InFlight| path_of(&call.dispatch).split('?').next() == path.split('?').next();
        if path == VERIFY_PATH {
            let wanted = asked(&dispatch);
            let same = self.calls.iter().filter(is_same).filter(|call| call.worker == worker);
            let same =
                same.filter(|call| asked(&call.dispatch).iter().any(|token| wanted.contains(token))).count();
            assert_eq!(same, 0, "two callouts for one token");
        } else {
            assert_eq!(self.calls.iter().filter(is_same).count(), 0, "two workers follow");
        }
        if path.starts_with(CHANGES_PATH) {
            self.knows.follower = Some(worker);
        }
        if self.blocked > 0 {
            self.blocked -= 1;
            self.workers[worker].on_callout(dispatch.call, CalloutResult::NotSent, now);
        } else {
            self.calls.push(InFlight { worker, dispatch, sent_at: now, served: None });
        }
    }

    /// The workers tick; and what the host never ends is given up.
    pub fn tick(&mut self, service: &Service, now: Duration) {
        for number in 0..self.workers.len() {
            if self.ticks[number] {
                let is_over = |call: &InFlight| {
                    call.worker == number
                        && call.is_verify()
                        && call.sent_at + call.dispatch.timeout + Duration::from_secs(1) <= now
                };
                let over: Vec<InFlight> = self.calls.extract_if(.., |call| is_over(call)).collect();
                self.workers[number].on_tick(now);
                self.run(number, &BTreeMap::new(), now, service);
                for call in over {
                    // The word of its end comes too late, and changes nothing.
                    self.workers[number].on_callout(call.dispatch.call, CalloutResult::Reset, now);
                    assert!(
                        self.workers[number].next_command().is_none() && !self.workers[number].has_resumes()
                    );
                }
                let late =
                    |key: &&(usize, StreamId)| key.0 == number && self.streams[key].since + TIMEOUT <= now;
                assert_eq!(self.streams.keys().find(late), None, "it waits beyond its deadline");
            }
        }
    }

    /// A configuration is replaced: a new worker comes, then the old one goes, and Envoy cancels what it has in flight.
    pub fn reload(&mut self, number: usize, now: Duration, service: &Service) {
        self.ids += 1;
        let is_followed = self.knows.follower.is_some();
        let new = worker(&mut self.states, number, self.ids);
        let mut old = std::mem::replace(&mut self.workers[number], new);
        old.on_detach(now);
        assert!(self.workers[number].has_commands() || !is_followed, "it is not ready to take over");
        self.ticks[number] = false;
        self.calls.retain(|call| call.worker != number);
        self.streams.retain(|(worker, _), _| *worker != number);
        if self.knows.follower == Some(number) {
            self.knows.follower = None;
        }
        self.run(number, &BTreeMap::new(), now, service);
    }

    /// The VM dies, with all that it has counted; another takes its place.
    pub fn die(&mut self, service: &Service) {
        *self = Self { hits: self.hits, uses: service.counted, ..Self::new(self.ids) };
    }
}
