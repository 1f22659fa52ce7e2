//! The root context: takes the configuration, sends the callouts and hears their answers.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use super::callout::Ended;
use super::edge::Edge;
use super::host;
use super::http::Stream;
use crate::config::Config;
use crate::refusal::{Reason, Refusal};
use crate::wire::CONTENT_TYPE;

/// One root context: one configuration in one worker's VM.
pub struct Root {
    id: u32,
    edge: Option<Rc<Edge>>,
}

impl Root {
    /// The root context `id`, not yet configured.
    pub fn new(id: u32) -> Self {
        Self { id, edge: None }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(edge) = &self.edge {
            edge.leave_root();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _: usize) {
        if let Some(edge) = &self.edge {
            edge.callout_ended(Ended { call, has_headers: headers > 0, body_size });
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match Config::parse(&host::plugin_configuration(size), host::env) {
            Ok(config) => {
                self.edge = Some(Rc::new(Edge::new(self.id, config)));
                true
            }
            Err(error) => {
                log::error!("latchkey: the configuration is refused: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(edge) = &self.edge {
            edge.tick();
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let Some(edge) = &self.edge else { return };
        if queue == host::ENTER_ROOT {
            edge.send_callouts();
        } else if edge.is_queue(queue) && host::dequeue(queue).is_some() {
            edge.release();
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.edge {
            Some(edge) => Box::new(Stream::new(id, Rc::clone(edge))),
            None => Box::new(Closed),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A stream of a root context without a configuration, which Envoy does not make. Should it, nothing passes.
struct Closed;

impl Context for Closed {}

impl HttpContext for Closed {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let reason = Reason::Unavailable;
        let headers = [("retry-after", "1"), ("content-type", CONTENT_TYPE)];
        let body = Refusal::new(reason, None).body();
        host::send_local_response(reason.status(), reason.details(), &headers, &body);
        Action::Pause
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        Action::Pause
    }
}
