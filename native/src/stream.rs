//! One request: its headers are read once, then it goes on, gets a local reply, or waits. Only what has passed goes on.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use latchkey::engine::{Decided, Denial, ExpiryNotice, LocalReply, Mutations, RequestView};
use latchkey::headers::AUTHORIZATION;

use crate::configuration::{Configuration, Waiting};
use crate::host::{Map, StreamHost};
use crate::process::now;

/// How far a request has come.
#[derive(Clone, Copy, Default)]
enum Progress {
    /// It was not decided yet, or denied: nothing of it goes on, should Envoy ask.
    #[default]
    Stopped,
    /// It waits for its decision.
    Waiting,
    /// It passed; what its response is to tell.
    Passed(Option<ExpiryNotice>),
}

/// One request. Its hooks take `&self`, as Envoy may call one from within a callback that another calls.
pub struct Stream {
    configuration: Arc<Configuration>,
    progress: Cell<Progress>,
    grpc: Cell<bool>,
    waiting: RefCell<Option<Arc<Waiting>>>,
}

impl Stream {
    /// A request to this configuration.
    pub fn new(configuration: Arc<Configuration>) -> Self {
        Self { configuration, progress: Cell::default(), grpc: Cell::new(false), waiting: RefCell::default() }
    }

    /// Whether it passed.
    pub fn has_passed(&self) -> bool {
        matches!(self.progress.get(), Progress::Passed(_))
    }

    /// Makes a local reply: nothing of the request goes on any more, and the stream may be gone afterwards.
    pub fn reply(&self, host: StreamHost, reply: &LocalReply) {
        self.progress.set(Progress::Stopped);
        let grpc_status = self.grpc.get().then(|| reply.reason.grpc_status());
        host.reply(reply, grpc_status);
    }

    /// Its headers have come.
    pub fn on_request_headers(&self, mut host: StreamHost) {
        let filter = &self.configuration.filter;
        let decided = host.headers(Map::RequestHeaders, |pairs| {
            let client = || host.client_address();
            let view = RequestView { headers: filter.read(pairs), client: &client };
            let immediate = filter.on_request(&view, now());
            // The names are Envoy's until the first header is removed.
            let spoofed: Vec<Vec<u8>> = view.headers.spoofed.iter().map(|name| name.to_vec()).collect();
            (view.headers.grpc, spoofed, immediate)
        });
        let Some((grpc, spoofed, immediate)) = decided else { return self.close(host) };
        self.grpc.set(grpc);
        let credential = immediate.removes_authorization.then_some(AUTHORIZATION.as_bytes());
        let mut removed = spoofed.iter().map(Vec::as_slice).chain(credential);
        let is_clean = removed.all(|name| host.remove_header(Map::RequestHeaders, name));
        let decided = match immediate.decided {
            Ok(decided) if is_clean => decided,
            Ok(decided) => Decided::Deny(decided.uncleaned(filter)),
            Err(_) if !is_clean => return self.close(host),
            Err(undecided) => match self.configuration.wait(&host, *undecided) {
                Ok(waiting) => {
                    self.progress.set(Progress::Waiting);
                    *self.waiting.borrow_mut() = Some(waiting);
                    return self.configuration.on_decision();
                }
                Err(decided) => decided,
            },
        };
        self.carry_out(decided, host);
    }

    /// It was woken on its thread: it may wait no longer.
    pub fn on_woken(&self, host: StreamHost) {
        let Some(waiting) = self.waiting.take() else { return };
        let Some(held) = waiting.take() else {
            *self.waiting.borrow_mut() = Some(waiting);
            return;
        };
        let resume = self.configuration.filter.resume(held, now());
        if let Some(host) = self.carry_out(resume, host) {
            host.continue_request();
        }
    }

    /// Its trailers have come: these can carry identity headers and credentials too.
    pub fn on_request_trailers(&self, mut host: StreamHost) {
        let filter = &self.configuration.filter;
        let removed = host.headers(Map::RequestTrailers, |trailers| {
            let names = trailers.map(|(name, _)| name).filter(|name| filter.removes_trailer(name));
            names.map(<[u8]>::to_vec).collect::<Vec<_>>()
        });
        let is_clean = removed
            .is_some_and(|names| names.iter().all(|name| host.remove_header(Map::RequestTrailers, name)));
        if !is_clean {
            self.close(host);
        }
    }

    /// The headers of its response have come.
    pub fn on_response_headers(&self, mut host: StreamHost) {
        if let Progress::Passed(Some(notice)) = self.progress.get() {
            let (name, value) = notice.header(now());
            host.set_response_header(name, &value);
        }
    }

    /// Denies a request that cannot be read or changed.
    fn close(&self, host: StreamHost) {
        let denial = self.configuration.filter.close(self.grpc.get());
        self.deny(&denial, host);
    }

    /// Carries a decision out. `None`: the request was denied, and may be gone.
    fn carry_out(&self, resume: Decided, mut host: StreamHost) -> Option<StreamHost> {
        match resume {
            Decided::Allow(mutations) if self.takes(&mutations, &mut host) => {
                self.progress.set(Progress::Passed(mutations.expiry_notice()));
                self.configuration.on_decision();
                Some(host)
            }
            Decided::Allow(mutations) => {
                self.deny(&self.configuration.filter.close_allowed(&mutations), host);
                None
            }
            Decided::Deny(denial) => {
                self.deny(&denial, host);
                None
            }
        }
    }

    /// Whether Envoy takes all that an allowed request takes along.
    fn takes(&self, mutations: &Mutations, host: &mut StreamHost) -> bool {
        let names = &self.configuration.filter.config.identity_headers;
        let taken = mutations.headers(names).all(|(name, value)| host.add_request_header(name, value))
            && set_filter_state(mutations.filter_state(), host);
        if let (true, Some(line)) = (taken, mutations.log_line()) {
            crate::host::log(latchkey::engine::Level::Info, line);
        }
        taken
    }

    fn deny(&self, denial: &Denial, mut host: StreamHost) {
        self.progress.set(Progress::Stopped);
        // For access logs alone.
        set_filter_state(denial.filter_state(), &mut host);
        self.configuration.on_decision();
        self.reply(host, &denial.reply);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.configuration.leave(waiting.stream);
        }
    }
}

/// Sets filter state under the names that the wasm filter's has. Whether Envoy has taken all of it.
fn set_filter_state<'a>(
    mut values: impl Iterator<Item = (&'static str, &'a str)>,
    host: &mut StreamHost,
) -> bool {
    let mut key = String::with_capacity(32);
    values.all(|(name, value)| {
        key.clear();
        key.push_str("wasm.");
        key.push_str(name);
        host.set_filter_state(&key, value)
    })
}
