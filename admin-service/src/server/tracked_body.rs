//! The body of a response on its way to the client. Its request stays in flight, and keeps its permit, until the last chunk was
//! written to the socket, however long the client delays that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Buf, Frame, SizeHint};

use super::connection_state::{InFlight, UnsentChunk};
use super::quota::RequestPermit;

/// What a request keeps until its response is sent.
pub(super) struct Guards {
    pub in_flight: InFlight,
    pub _permit: Option<RequestPermit>,
}

/// A response body.
pub(super) struct TrackedBody {
    body: Body,
    guards: Arc<Guards>,
}

impl TrackedBody {
    pub fn new(body: Body, guards: Guards) -> Self {
        Self { body, guards: Arc::new(guards) }
    }
}

impl HttpBody for TrackedBody {
    type Data = Chunk;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let chunk = |bytes| {
            let unsent = UnsentChunk::new(self.guards.in_flight.state().clone());
            Chunk { bytes, unsent, _guards: self.guards.clone() }
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A chunk of a response. HTTP/1 and HTTP/2 keep it until they have written all of it.
pub(super) struct Chunk {
    bytes: Bytes,
    unsent: UnsentChunk,
    _guards: Arc<Guards>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.unsent.advance();
    }
}
