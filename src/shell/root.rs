//! A root context: one configuration in one VM, with its worker. No host call is made while a `RefCell` is borrowed, but those that
//! only read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, MapType};

use super::pairs::Pairs;
use super::stream::{self, Progress, Stream};
use super::{foreign, host, protobuf_struct, vm_state};
use crate::config::{Config, ConfigError};
use crate::engine::{
    CallId, CalloutResponse, CalloutResult, Command, Filter, MAX_RESPONSE_BODY, StreamId, Worker,
};

/// How many waiting streams are released in one callback: each nests a few frames on the VM's stack.
const BATCH: usize = 32;
/// The queue of [`foreign::enter_root`], which no host ever registers.
const COMMANDS: u32 = u32::MAX;

/// What a root context and its streams share.
pub struct RootState {
    id: u32,
    pub worker: RefCell<Worker>,
    pub filter: Arc<Filter>,
    /// The streams that wait.
    pub waiting: RefCell<HashMap<StreamId, Rc<Cell<Progress>>>>,
    /// The callouts in flight, as the host names them.
    calls: RefCell<HashMap<u32, CallId>>,
    /// The queue by which the root context wakes itself.
    queue: Cell<Option<u32>>,
}

/// A root context; without a state until it is configured.
pub struct Root {
    id: u32,
    state: Option<Rc<RootState>>,
}

impl Root {
    /// The root context that the host knows as `id`.
    pub fn new(id: u32) -> Self {
        Self { id, state: None }
    }
}

/// Reads a configuration as Envoy hands it over: a `google.protobuf.Struct`, or a text.
fn read_configuration(configuration: &[u8]) -> Result<Config, ConfigError> {
    match protobuf_struct::decode(configuration) {
        Some(json) => Config::from_json(&json, host::env),
        None => Config::parse(configuration, host::env),
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _trailers: usize) {
        if let Some(state) = &self.state {
            state.end_callout(call, headers > 0, body_size);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match read_configuration(&host::plugin_configuration(size)) {
            Ok(config) => {
                let state = self.state.insert(Rc::new(RootState::new(self.id, config)));
                state.run_commands();
                true
            }
            Err(error) => {
                log::error!("latchkey: the configuration is refused: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(state) = &self.state {
            state.worker.borrow_mut().on_tick(host::now());
            state.run();
            vm_state::publish_metrics();
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let Some(state) = &self.state else { return };
        if queue == COMMANDS {
            state.run_commands();
            // A stream that waits no longer is released in a callback of its own: the one that runs has not even paused yet.
            state.wake_to_release();
        } else if state.queue.get() == Some(queue) && host::dequeue(queue) {
            state.run();
        }
    }

    fn create_http_context(&self, stream: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(stream, self.state.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            state.worker.borrow_mut().on_detach(host::now());
            vm_state::publish_metrics();
        }
    }
}

impl RootState {
    fn new(id: u32, config: Config) -> Self {
        let state = vm_state::state_of(&config);
        let filter = Arc::new(Filter::new(config, state));
        Self {
            id,
            worker: RefCell::new(Worker::new(Arc::clone(&filter), id)),
            filter,
            waiting: RefCell::default(),
            calls: RefCell::default(),
            queue: Cell::new(None),
        }
    }

    /// In the hook of a stream: does what the worker wants done.
    pub fn run_commands_of_stream(&self) {
        if self.worker.borrow().has_commands() {
            foreign::enter_root(self.id, COMMANDS);
        }
    }

    fn end_callout(&self, call: u32, has_headers: bool, body_size: usize) {
        let Some(call) = self.calls.borrow_mut().remove(&call) else { return };
        let map = if has_headers { foreign::header_map(MapType::HttpCallResponseHeaders) } else { None };
        let headers: Option<Vec<_>> = map.as_deref().and_then(Pairs::of).map(Iterator::collect);
        let body = if body_size <= MAX_RESPONSE_BODY { host::callout_body(body_size) } else { None };
        let result = match &headers {
            Some(headers) => CalloutResult::Response(CalloutResponse { headers, body: body.as_deref() }),
            None => CalloutResult::Reset,
        };
        self.worker.borrow_mut().on_callout(call, result, host::now());
        self.run();
    }

    /// In a callback of the root context: does what the worker wants done, and releases streams.
    fn run(&self) {
        self.run_commands();
        self.release();
        vm_state::publish_due_metrics();
    }

    fn run_commands(&self) {
        loop {
            let command = self.worker.borrow_mut().next_command();
            match command {
                None => return,
                Some(Command::SetTick(period)) => host::set_tick_period(period),
                Some(Command::Log(level, line)) => host::log(level, &line),
                Some(Command::Dispatch(dispatch)) => match host::dispatch(&dispatch) {
                    Some(call) => {
                        self.calls.borrow_mut().insert(call, dispatch.call);
                    }
                    None => {
                        let mut worker = self.worker.borrow_mut();
                        worker.on_callout(dispatch.call, CalloutResult::NotSent, host::now());
                    }
                },
            }
        }
    }

    /// Lets streams that wait no longer go on, or denies them.
    fn release(&self) {
        for _ in 0..BATCH {
            let Some(held) = self.worker.borrow_mut().next_resume() else { break };
            let progress = self.waiting.borrow_mut().remove(&held.stream);
            // A stream that is gone has left; if the host knows better, acting would hit another one.
            if let Some(progress) = progress
                && host::act_on(held.stream)
            {
                let resume = self.filter.resume(held, host::now());
                progress.set(stream::carry_out(resume, &self.filter));
                if progress.get().has_passed() {
                    host::resume_request();
                }
            }
        }
        host::act_on(self.id);
        self.wake_to_release();
    }

    /// Wakes the root context for streams that wait no longer. Should the queue fail, the next tick does it.
    fn wake_to_release(&self) {
        if !self.worker.borrow().has_resumes() {
            return;
        }
        if self.queue.get().is_none() {
            let unique = RandomState::new().hash_one(self.id);
            self.queue.set(host::register_queue(&format!("latchkey.{}.{unique:016x}", self.id)));
        }
        if let Some(queue) = self.queue.get() {
            host::enqueue(queue);
        }
    }
}
