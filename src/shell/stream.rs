//! One request: its headers are read once, then it goes on, gets a local reply, or waits. Only what has passed goes on, however the
//! host is set up.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use super::pairs::{Pairs, serialise_pairs};
use super::root::RootState;
use super::{foreign, host, vm_state};
use crate::engine::{Decided, Denial, ExpiryNotice, Filter, LocalReply, Mutations, RequestView};
use crate::headers::AUTHORIZATION;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default)]
pub enum Progress {
    /// It was not decided yet, or denied: nothing of it goes on, should the host ask.
    #[default]
    Stopped,
    /// It waits for its decision.
    Waiting,
    /// It passed; what its response is to tell.
    Passed(Option<ExpiryNotice>),
}

impl Progress {
    /// Whether it passed.
    pub fn has_passed(self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

/// One request.
pub struct Stream {
    id: u32,
    /// What it shares with its root context; `None`: that was never configured, and nothing passes.
    root: Option<Rc<RootState>>,
    progress: Rc<Cell<Progress>>,
    grpc: bool,
}

impl Stream {
    /// The stream that the host knows as `id`.
    pub fn new(id: u32, root: Option<Rc<RootState>>) -> Self {
        Self { id, root, progress: Rc::default(), grpc: false }
    }

    fn decide(&mut self, root: &RootState) {
        let map = foreign::header_map(MapType::HttpRequestHeaders);
        let Some(pairs) = map.as_deref().and_then(Pairs::of) else { return self.close(root) };
        let view = RequestView { headers: root.filter.read(pairs), client: &host::client_address };
        self.grpc = view.headers.grpc;
        let outcome = root.worker.borrow_mut().on_request(self.id, &view, host::now());
        let credential = outcome.removes_authorization.then_some(AUTHORIZATION.as_bytes());
        let mut removed = view.headers.spoofed.iter().copied().chain(credential);
        let is_clean = removed.all(|name| host::remove_header(MapType::HttpRequestHeaders, name));
        match outcome.decided {
            Some(decided) if is_clean => self.progress.set(carry_out(decided, &root.filter)),
            Some(decided) => deny(&decided.uncleaned(&root.filter)),
            None if is_clean => {
                self.progress.set(Progress::Waiting);
                root.waiting.borrow_mut().insert(self.id, Rc::clone(&self.progress));
            }
            None => self.close(root),
        }
    }

    /// Denies a request that cannot be read or changed.
    fn close(&self, root: &RootState) {
        self.leave(root);
        deny(&root.filter.close(self.grpc));
    }

    fn leave(&self, root: &RootState) {
        root.waiting.borrow_mut().remove(&self.id);
        root.worker.borrow_mut().on_stream_end(self.id);
    }

    fn act(&self) -> Action {
        if self.progress.get().has_passed() { Action::Continue } else { Action::Pause }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        match self.root.clone() {
            Some(root) => {
                self.decide(&root);
                root.run_commands_of_stream();
                vm_state::publish_due_metrics();
            }
            // Envoy makes no stream without a configured root context. Should it, nothing passes.
            None => reply(&LocalReply::closed()),
        }
        self.act()
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.act()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let Some(root) = &self.root else { return Action::Pause };
        let map = foreign::header_map(MapType::HttpRequestTrailers);
        let is_clean = map.as_deref().and_then(Pairs::of).is_some_and(|mut trailers| {
            trailers.all(|(name, _)| {
                !root.filter.removes_trailer(name) || host::remove_header(MapType::HttpRequestTrailers, name)
            })
        });
        if !is_clean {
            self.progress.set(Progress::Stopped);
            self.close(root);
        }
        self.act()
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        if let Progress::Passed(Some(notice)) = self.progress.get() {
            let (name, value) = notice.header(host::now());
            host::set_response_header(name, &value);
        }
        Action::Continue
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let (Progress::Waiting, Some(root)) = (self.progress.get(), &self.root) {
            self.leave(root);
        }
    }
}

/// Carries a decision out on the current stream, whose headers are still there.
pub fn carry_out(decided: Decided, filter: &Filter) -> Progress {
    match decided {
        Decided::Allow(mutations) => allow(&mutations, filter),
        Decided::Deny(denial) => {
            deny(&denial);
            Progress::Stopped
        }
    }
}

fn allow(mutations: &Mutations, filter: &Filter) -> Progress {
    let taken = mutations
        .headers(&filter.config.identity_headers)
        .all(|(name, value)| host::add_request_header(name, value))
        && mutations.filter_state().all(|(key, value)| host::set_filter_state(key, value));
    if !taken {
        deny(&filter.close_allowed(mutations));
        return Progress::Stopped;
    }
    if let Some(line) = mutations.log_line() {
        log::info!("{line}");
    }
    Progress::Passed(mutations.expiry_notice())
}

fn deny(denial: &Denial) {
    for (key, value) in denial.filter_state() {
        host::set_filter_state(key, value);
    }
    reply(&denial.reply);
}

fn reply(reply: &LocalReply) {
    let encode = |headers: &[(&'static str, String)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        serialise_pairs(&headers)
    };
    if !foreign::send_local_reply(reply.status(), reply.details(), reply.encoded(encode), &reply.body) {
        let reason = reply.reason.name();
        log::error!("latchkey: Envoy did not take a local reply ({reason}); the request stays stopped");
    }
}
