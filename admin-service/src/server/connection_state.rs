//! The state of one connection: its requests in flight, the chunks of responses that its client has yet to receive, and who
//! authenticated on it. Every request writes it, so it wakes nobody: the listener sweeps all connections from time to time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, Semaphore};

use crate::domain::user::UserName;

/// The state of a connection, shared by its requests and the listener.
pub(super) struct ConnectionState {
    in_flight: AtomicUsize,
    /// How many requests have ended.
    ended: AtomicUsize,
    /// Whether a request has succeeded.
    succeeded: AtomicBool,
    authenticated: AtomicBool,
    /// The user of the first authenticated request.
    user: OnceLock<UserName>,
    /// Whether requests of several users came: then the client is a proxy.
    is_proxy: AtomicBool,
    /// Counts the periods of the send timeout.
    epoch: AtomicUsize,
    /// The unsent chunks whose latest progress was in an even epoch, and in an odd one: in this one, and in the one before.
    unsent: [AtomicUsize; 2],
    /// Permits for concurrent requests. Authentication adds some.
    streams: Semaphore,
    /// Tells the connection to end.
    pub close: Notify,
}

impl ConnectionState {
    /// That of a new connection, with this many concurrent requests until one is authenticated.
    pub fn new(streams: usize) -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            succeeded: AtomicBool::new(false),
            authenticated: AtomicBool::new(false),
            user: OnceLock::new(),
            is_proxy: AtomicBool::new(false),
            epoch: AtomicUsize::new(0),
            unsent: [AtomicUsize::new(0), AtomicUsize::new(0)],
            streams: Semaphore::new(streams),
            close: Notify::new(),
        }
    }

    /// Whether a request is in flight, its response included.
    pub fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// How many requests have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }

    /// Whether a request has succeeded.
    pub fn has_succeeded(&self) -> bool {
        self.succeeded.load(Relaxed)
    }

    /// Whether a request was authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Relaxed)
    }

    /// The one user of all authenticated requests.
    pub fn user(&self) -> Option<&UserName> {
        self.user.get().filter(|_| !self.is_proxy.load(Relaxed))
    }

    /// Notes that a request has succeeded.
    pub fn succeed(&self) {
        self.succeeded.store(true, Relaxed);
    }

    /// Records an authenticated request; the first one allows `more` concurrent requests.
    pub fn authenticate(&self, user: Option<UserName>, more: usize) {
        if let Some(user) = user
            && *self.user.get_or_init(|| user.clone()) != user
        {
            self.is_proxy.store(true, Relaxed);
        }
        if !self.authenticated.swap(true, Relaxed) {
            self.streams.add_permits(more);
        }
    }

    /// Begins the next epoch; returns whether a chunk was pending for the whole of the one that ends, without progress.
    pub fn next_epoch(&self) -> bool {
        let next = self.epoch.load(Relaxed) + 1;
        self.epoch.store(next, Relaxed);
        self.unsent_since(next).load(Relaxed) > 0
    }

    /// The number of chunks whose latest progress was in this epoch. A connection with chunks from two epochs before is closed.
    fn unsent_since(&self, epoch: usize) -> &AtomicUsize {
        let [even, odd] = &self.unsent;
        if epoch.is_multiple_of(2) { even } else { odd }
    }
}

/// A request in flight, until it is dropped: its client may disconnect before the response is sent.
pub(super) struct InFlight {
    state: Arc<ConnectionState>,
    has_stream: bool,
}

impl InFlight {
    pub fn begin(state: Arc<ConnectionState>) -> Self {
        state.in_flight.fetch_add(1, Relaxed);
        Self { state, has_stream: false }
    }

    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Waits for one of the connection's concurrent requests to end, where there are too many. `queue` limits how many wait on
    /// the whole listener; `None`: it is full.
    pub async fn stream(mut self, queue: &Semaphore) -> Option<Self> {
        let streams = &self.state.streams;
        let stream = match streams.try_acquire() {
            Ok(stream) => stream,
            Err(_) => {
                let _queued = queue.try_acquire().ok()?;
                streams.acquire().await.ok()?
            }
        };
        stream.forget();
        self.has_stream = true;
        Some(self)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.has_stream {
            self.state.streams.add_permits(1);
        }
        self.state.ended.fetch_add(1, Relaxed);
        self.state.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A chunk of a response that is not sent yet, until it is dropped.
pub(super) struct UnsentChunk {
    state: Arc<ConnectionState>,
    /// The epoch of its latest progress.
    epoch: usize,
}

impl UnsentChunk {
    pub fn new(state: Arc<ConnectionState>) -> Self {
        let epoch = state.epoch.load(Relaxed);
        state.unsent_since(epoch).fetch_add(1, Relaxed);
        Self { state, epoch }
    }

    /// Records that some of it was sent.
    pub fn advance(&mut self) {
        let now = self.state.epoch.load(Relaxed);
        if now != self.epoch {
            self.state.unsent_since(self.epoch).fetch_sub(1, Relaxed);
            self.epoch = now;
            self.state.unsent_since(now).fetch_add(1, Relaxed);
        }
    }
}

impl Drop for UnsentChunk {
    fn drop(&mut self) {
        self.state.unsent_since(self.epoch).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_without_progress_for_a_whole_epoch_is_reported_and_one_with_progress_is_not() {
        let state = Arc::new(ConnectionState::new(1));
        assert!(!state.next_epoch() && !state.next_epoch());
        let mut moves = UnsentChunk::new(state.clone());
        for _ in 0..5 {
            assert!(!state.next_epoch(), "it has made progress in the epoch that ends");
            moves.advance();
        }
        let _stuck = UnsentChunk::new(state.clone());
        assert!(!state.next_epoch());
        moves.advance();
        assert!(state.next_epoch(), "another one moves, and one does not");
    }

    #[tokio::test]
    async fn an_unauthenticated_client_has_few_concurrent_requests_and_an_authenticated_one_more() {
        let (state, queue) = (Arc::new(ConnectionState::new(2)), Semaphore::new(1));
        let begin = || InFlight::begin(state.clone()).stream(&queue);
        let (first, _second) = (begin().await.unwrap(), begin().await.unwrap());
        let mut third = Box::pin(begin());
        assert!(at_once(&mut third).is_none(), "it waits");
        assert!(begin().await.is_none(), "the queue is full");
        drop(first);
        let _third = third.await.unwrap();
        state.authenticate(None, 2);
        state.authenticate(None, 2);
        let _more = (begin().await.unwrap(), begin().await.unwrap());
        let mut beyond = Box::pin(begin());
        assert!(at_once(&mut beyond).is_none(), "authentication adds permits once");
    }

    /// What a future gives at once.
    fn at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
