//! The body of an answer on its way to the client. The request counts as under way, and keeps its place, until the last piece of
//! its answer has left for the operating system, however long the client lets it wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Buf, Frame, SizeHint};

use super::activity::{UnderWay, Untaken};
use super::places::Held;

/// What a request holds until its answer is sent.
pub(super) struct Holds {
    pub under_way: UnderWay,
    pub _place: Option<Held>,
}

/// An answer's body.
pub(super) struct Sent {
    body: Body,
    holds: Arc<Holds>,
}

impl Sent {
    pub fn new(body: Body, holds: Holds) -> Self {
        Self { body, holds: Arc::new(holds) }
    }
}

impl HttpBody for Sent {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let piece = |bytes| {
            let untaken = Untaken::new(self.holds.under_way.activity().clone());
            Piece { bytes, untaken, _holds: self.holds.clone() }
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer. The protocols keep it until they have written the whole of it.
pub(super) struct Piece {
    bytes: Bytes,
    untaken: Untaken,
    _holds: Arc<Holds>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.untaken.advance();
    }
}
