//! One filter configuration. Its worker is behind a mutex, for requests that have to wait; commands, callouts and ticks are the main
//! thread's. No callback of Envoy's is called while the mutex is held, but that which makes a scheduler, before.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchkey::config::Config;
use latchkey::engine::{
    CallId, CalloutResponse, CalloutResult, Command, Decided, Dispatch, Filter, Held, Level,
    MAX_RESPONSE_BODY, StreamId, Undecided, Worker,
};

use crate::host::{self, ConfigHost, ConfigScheduler, StreamHost, StreamScheduler};
use crate::metrics::HostMetrics;
use crate::process::{self, locked, now};
use crate::ticker::Ticker;

/// The main thread is to do what is due.
const WORK: u64 = 0;
/// The same, and to look at the time.
const TICK: u64 = 1;

/// One configuration.
pub struct Configuration {
    pub filter: Arc<Filter>,
    metrics: HostMetrics,
    shared: Mutex<Shared>,
    wakes: Arc<Wakes>,
    ticker: Mutex<Ticking>,
    has_traffic: AtomicBool,
    streams: AtomicU32,
}

/// What its threads share, one at a time.
struct Shared {
    worker: Worker,
    /// The streams that wait.
    waiting: HashMap<StreamId, Arc<Waiting>>,
    /// The callouts in flight, as Envoy names them.
    calls: HashMap<u64, CallId>,
    /// The callout that is being sent, whose name is not known yet.
    sending: Option<CallId>,
}

/// A stream that waits.
pub struct Waiting {
    pub stream: StreamId,
    scheduler: StreamScheduler,
    held: Mutex<Option<Held>>,
}

impl Waiting {
    /// What has become of it, once.
    pub fn take(&self) -> Option<Held> {
        locked(&self.held).take()
    }
}

/// How the main thread is woken: with one event, however many have reason to, until it has come.
struct Wakes {
    scheduler: ConfigScheduler,
    works: AtomicBool,
    ticks: AtomicBool,
    /// Whether the last event has panicked.
    panicked: AtomicBool,
}

impl Wakes {
    fn work(&self) {
        if !self.works.swap(true, Ordering::AcqRel) {
            self.scheduler.wake(WORK);
        }
    }

    fn tick(&self) {
        if !self.ticks.swap(true, Ordering::AcqRel) {
            self.scheduler.wake(TICK);
        }
    }
}

enum Ticking {
    NotYet,
    Since(Ticker),
    Over,
}

impl Configuration {
    /// Reads a configuration as Envoy hands it over, in JSON. `None`: it is refused, and the log says why.
    pub fn new(host: &ConfigHost, json: &[u8]) -> Option<Self> {
        let config = match Config::parse(json, process::env) {
            Ok(config) => config,
            Err(error) => {
                host::log(Level::Error, &format!("latchkey: the configuration is refused: {error}"));
                return None;
            }
        };
        let state = process::state_of(&config);
        let filter = Arc::new(Filter::new(config, state));
        let worker = Worker::new(Arc::clone(&filter), process::enter());
        let wakes = Wakes {
            scheduler: host.scheduler(),
            works: AtomicBool::new(false),
            ticks: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        };
        let shared = Shared { worker, waiting: HashMap::new(), calls: HashMap::new(), sending: None };
        let configuration = Self {
            filter,
            metrics: HostMetrics::define(host),
            shared: Mutex::new(shared),
            wakes: Arc::new(wakes),
            ticker: Mutex::new(Ticking::NotYet),
            has_traffic: AtomicBool::new(false),
            streams: AtomicU32::new(0),
        };
        if locked(&configuration.shared).worker.has_commands() {
            configuration.wakes.work();
        }
        Some(configuration)
    }

    /// Envoy lets go of it, from whatever thread. There is no tick any more when this returns.
    pub fn detach(&self) {
        drop(std::mem::replace(&mut *locked(&self.ticker), Ticking::Over));
        locked(&self.shared).worker.on_detach(now());
        process::leave();
    }

    // On the threads of streams.

    /// Lets a stream wait for a verdict; else what becomes of it at once.
    pub fn wait(&self, host: &StreamHost, request: Undecided) -> Result<Arc<Waiting>, Decided> {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { stream, scheduler: host.scheduler(), held: Mutex::new(None) };
        let waiting = Arc::new(waiting);
        let mut shared = locked(&self.shared);
        if let Some(resume) = shared.worker.wait(stream, request, now()) {
            return Err(resume);
        }
        shared.waiting.insert(stream, Arc::clone(&waiting));
        let is_due = shared.worker.has_commands();
        drop(shared);
        if is_due {
            self.wakes.work();
        }
        Ok(waiting)
    }

    /// A stream that waited is gone.
    pub fn leave(&self, stream: StreamId) {
        let mut shared = locked(&self.shared);
        shared.waiting.remove(&stream);
        shared.worker.on_stream_end(stream);
    }

    /// A request was decided on: what was counted is told where that should not wait, before the client has its response.
    pub fn on_decision(&self) {
        let is_first =
            !self.has_traffic.load(Ordering::Relaxed) && !self.has_traffic.swap(true, Ordering::Relaxed);
        if is_first {
            locked(&self.shared).worker.on_traffic();
        }
        if is_first || process::metrics().is_due() {
            self.wakes.work();
        }
    }

    // On the main thread.

    /// It was woken.
    pub fn on_event(&self, host: &ConfigHost, event: u64) {
        if event == TICK {
            self.wakes.ticks.store(false, Ordering::Release);
            locked(&self.shared).worker.on_tick(now());
        }
        self.run(host);
        self.wakes.panicked.store(false, Ordering::Relaxed);
    }

    /// What it was woken for has panicked: it can be woken again, and is at once, but for the second time in a row.
    pub fn on_panic(&self) {
        self.wakes.works.store(false, Ordering::Release);
        self.wakes.ticks.store(false, Ordering::Release);
        if !self.wakes.panicked.swap(true, Ordering::Relaxed) {
            self.wakes.work();
        }
    }

    /// A callout has ended. `None`: with no response.
    pub fn on_callout(&self, host: &ConfigHost, id: u64, response: Option<&Response<'_>>) {
        let body = response.and_then(Response::body);
        let result = match response {
            Some(Response { headers, .. }) => {
                CalloutResult::Response(CalloutResponse { headers, body: body.as_deref() })
            }
            None => CalloutResult::Reset,
        };
        let mut shared = locked(&self.shared);
        let sent = shared.calls.remove(&id);
        // Envoy may tell the end before it has named the callout; then what follows is done by what sends it.
        let is_being_sent = sent.is_none();
        let Some(call) = sent.or_else(|| shared.sending.take()) else { return };
        shared.worker.on_callout(call, result, now());
        drop(shared);
        if !is_being_sent {
            self.run(host);
        }
    }

    /// Does what the worker wants done, wakes streams, and tells what was counted.
    fn run(&self, host: &ConfigHost) {
        // First, so that what comes meanwhile is either seen here or wakes again.
        self.wakes.works.swap(false, Ordering::AcqRel);
        loop {
            let command = locked(&self.shared).worker.next_command();
            match command {
                None => break,
                Some(Command::SetTick(period)) => self.tick_every(period),
                Some(Command::Log(level, line)) => host::log(level, &line),
                Some(Command::Dispatch(dispatch)) => self.send(host, &dispatch),
            }
        }
        self.release();
        self.metrics.tell(host);
    }

    fn send(&self, host: &ConfigHost, dispatch: &Dispatch) {
        locked(&self.shared).sending = Some(dispatch.call);
        let sent = host.send(dispatch);
        let mut shared = locked(&self.shared);
        // Otherwise it has ended already.
        if let Some(call) = shared.sending.take() {
            match sent {
                Some(id) => {
                    shared.calls.insert(id, call);
                }
                None => shared.worker.on_callout(call, CalloutResult::NotSent, now()),
            }
        }
    }

    /// Hands streams that wait no longer over to their threads.
    fn release(&self) {
        loop {
            let mut shared = locked(&self.shared);
            let Some(held) = shared.worker.next_resume() else { return };
            let waiting = shared.waiting.remove(&held.stream);
            drop(shared);
            // A stream that is gone has left.
            if let Some(waiting) = waiting {
                *locked(&waiting.held) = Some(held);
                waiting.scheduler.wake();
            }
        }
    }

    fn tick_every(&self, period: Duration) {
        let mut ticker = locked(&self.ticker);
        match &*ticker {
            Ticking::Over => {}
            Ticking::Since(ticker) => ticker.every(period),
            Ticking::NotYet => {
                let wakes = Arc::clone(&self.wakes);
                match Ticker::start(period, move || wakes.tick()) {
                    Ok(started) => *ticker = Ticking::Since(started),
                    // The feed is not followed then, so no verdict serves for long; it is tried again when the period changes.
                    Err(error) => {
                        host::log(Level::Error, &format!("latchkey: there is no thread for ticks: {error}"));
                    }
                }
            }
        }
    }
}

/// The response to a callout, as Envoy has it.
pub struct Response<'a> {
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    pub chunks: Vec<&'a [u8]>,
}

impl<'a> Response<'a> {
    /// Its body. `None`: it is too long.
    fn body(&self) -> Option<Cow<'a, [u8]>> {
        match self.chunks[..] {
            _ if self.chunks.iter().map(|chunk| chunk.len()).sum::<usize>() > MAX_RESPONSE_BODY => None,
            [chunk] => Some(chunk.into()),
            _ => Some(self.chunks.concat().into()),
        }
    }
}
