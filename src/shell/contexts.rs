//! The contexts of this VM: the root contexts, one for each configuration, and the streams of which more may come.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::edge::Edge;
use super::host;
use super::http::{self, Action, Stream};
use crate::config::Config;

/// The contexts that Envoy has told of and not deleted.
#[derive(Default)]
pub struct Contexts {
    /// The configured root contexts; hardly ever more than two.
    roots: RefCell<Vec<Rc<Edge>>>,
    /// The stream whose context was made last, and its root context: Envoy hands over its headers next.
    newest: Cell<Option<(u32, u32)>>,
    /// The streams that have not passed, or whose body or trailers are still to come.
    streams: RefCell<HashMap<u32, Stream>>,
}

thread_local! {
    static CONTEXTS: Contexts = Contexts::default();
}

impl Contexts {
    /// Does something with the contexts of this VM.
    pub fn of_this_vm<R>(act: impl FnOnce(&Self) -> R) -> R {
        CONTEXTS.with(act)
    }

    /// Envoy made a context: of a stream, if it has a root context.
    pub fn created(&self, context: u32, root: u32) {
        if root != 0 {
            self.newest.set(Some((context, root)));
        }
    }

    /// Takes the configuration of a root context; `false`: it is refused.
    pub fn configure(&self, root: u32, size: usize) -> bool {
        match Config::parse(&host::plugin_configuration(size), host::env) {
            Ok(config) => {
                let edge = Rc::new(Edge::new(root, config));
                self.roots.borrow_mut().push(edge);
                true
            }
            Err(error) => {
                log::error!("latchkey: the configuration is refused: {error}");
                false
            }
        }
    }

    /// What belongs to a configured root context.
    pub fn edge(&self, root: u32) -> Option<Rc<Edge>> {
        self.roots.borrow().iter().find(|edge| edge.root() == root).map(Rc::clone)
    }

    /// Decides on a request. Of one that passed, and is all there, nothing is kept.
    pub fn request_headers(&self, stream: u32, all_there: bool) -> Action {
        let newest = self.newest.take().filter(|(context, _)| *context == stream);
        // Envoy makes no stream without a configured root context. Should it, nothing passes.
        let Some(edge) = newest.and_then(|(_, root)| self.edge(root)) else {
            return http::closed();
        };
        let mut request = Stream::new(stream, edge);
        let action = request.decide();
        if !(all_there && action == Action::Continue) {
            self.streams.borrow_mut().insert(stream, request);
        }
        action
    }

    /// A part of a request's body: it goes on if the request has passed.
    pub fn request_body(&self, stream: u32) -> Action {
        self.streams.borrow().get(&stream).map_or(Action::Pause, Stream::act)
    }

    /// A request's trailers: they go on, cleaned, if the request has passed.
    pub fn request_trailers(&self, stream: u32) -> Action {
        let Some(request) = self.streams.borrow_mut().remove(&stream) else { return Action::Pause };
        let action = request.clean_trailers();
        self.streams.borrow_mut().insert(stream, request);
        action
    }

    /// The response to a request: it tells of a token that ends soon.
    pub fn response_headers(&self, stream: u32) {
        if let Some(edge) = self.warning(stream) {
            edge.warn(stream);
        }
    }

    /// Who has to warn of the end of a stream's token.
    fn warning(&self, stream: u32) -> Option<Rc<Edge>> {
        self.roots.borrow().iter().find(|edge| edge.warns(stream)).map(Rc::clone)
    }

    /// A context is gone: a stream's, or a root context's.
    pub fn deleted(&self, context: u32) {
        let stream = self.streams.borrow_mut().remove(&context);
        if let Some(edge) = self.warning(context) {
            edge.warn_no_more(context);
        } else if stream.is_none() {
            self.root_deleted(context);
        }
    }

    fn root_deleted(&self, context: u32) {
        let place = self.roots.borrow().iter().position(|edge| edge.root() == context);
        let edge = place.map(|place| self.roots.borrow_mut().swap_remove(place));
        if let Some(edge) = edge {
            edge.leave_root();
        }
    }
}
