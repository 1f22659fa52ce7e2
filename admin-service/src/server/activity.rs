//! What happens on one connection: the requests under way, the answers that its client has yet to take, and who it is. It is
//! written for every request, so nobody is woken by it: the listener looks at it from time to time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, Semaphore};

use crate::domain::user::UserName;

/// What is asked and answered on a connection.
pub(super) struct Activity {
    under_way: AtomicUsize,
    /// How many requests have ended.
    ended: AtomicUsize,
    /// Whether a request has succeeded.
    succeeded: AtomicBool,
    /// Whether the client has shown that it may be here.
    known: AtomicBool,
    /// The user that it has shown to be, by the first request that was authenticated.
    user: OnceLock<UserName>,
    /// Whether it has shown to be several: then it is a proxy.
    is_proxy: AtomicBool,
    /// How often the listener has looked whether answers are taken.
    turn: AtomicUsize,
    /// How many pieces of answers wait to be taken that have moved in this turn, and in the one before: even and odd turns.
    untaken: [AtomicUsize; 2],
    /// Places for requests at a time. More are there once the client is known.
    streams: Semaphore,
    /// Tells the connection to end.
    pub close: Notify,
}

impl Activity {
    /// That of a connection on which so many requests may be under way until its client is known.
    pub fn new(streams: usize) -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            succeeded: AtomicBool::new(false),
            known: AtomicBool::new(false),
            user: OnceLock::new(),
            is_proxy: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            untaken: [AtomicUsize::new(0), AtomicUsize::new(0)],
            streams: Semaphore::new(streams),
            close: Notify::new(),
        }
    }

    /// Whether a request is under way, its answer included.
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Relaxed) > 0
    }

    /// How many requests have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }

    /// Whether a request has succeeded.
    pub fn has_succeeded(&self) -> bool {
        self.succeeded.load(Relaxed)
    }

    /// Whether the client has shown that it may be here.
    pub fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    /// The user that the client has shown to be, and no other.
    pub fn user(&self) -> Option<&UserName> {
        self.user.get().filter(|_| !self.is_proxy.load(Relaxed))
    }

    /// Notes that a request has succeeded.
    pub fn succeed(&self) {
        self.succeeded.store(true, Relaxed);
    }

    /// Notes that the client may be here, and who it is; `more` requests may be under way from now on.
    pub fn know(&self, user: Option<UserName>, more: usize) {
        if let Some(user) = user
            && *self.user.get_or_init(|| user.clone()) != user
        {
            self.is_proxy.store(true, Relaxed);
        }
        if !self.known.swap(true, Relaxed) {
            self.streams.add_permits(more);
        }
    }

    /// Begins the next turn; tells whether something was there throughout the one that ends, and nothing of it was taken.
    pub fn turn(&self) -> bool {
        let next = self.turn.load(Relaxed) + 1;
        self.turn.store(next, Relaxed);
        self.waiting_since(next).load(Relaxed) > 0
    }

    /// The count of the pieces that have moved last in this turn; those of a turn two before it are all gone.
    fn waiting_since(&self, turn: usize) -> &AtomicUsize {
        let [even, odd] = &self.untaken;
        if turn.is_multiple_of(2) { even } else { odd }
    }
}

/// A request under way, until it is dropped: its client may go away before it is answered.
pub(super) struct UnderWay {
    activity: Arc<Activity>,
    has_stream: bool,
}

impl UnderWay {
    pub fn begin(activity: Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Relaxed);
        Self { activity, has_stream: false }
    }

    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Waits until one more request may be under way on this connection. Where it has to, it takes one of the listener's
    /// places to `wait`; `None`: there is none.
    pub async fn stream(mut self, wait: &Semaphore) -> Option<Self> {
        let streams = &self.activity.streams;
        let stream = match streams.try_acquire() {
            Ok(stream) => stream,
            Err(_) => {
                let _waits = wait.try_acquire().ok()?;
                streams.acquire().await.ok()?
            }
        };
        stream.forget();
        self.has_stream = true;
        Some(self)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.has_stream {
            self.activity.streams.add_permits(1);
        }
        self.activity.ended.fetch_add(1, Relaxed);
        self.activity.under_way.fetch_sub(1, Relaxed);
    }
}

/// A piece of an answer that waits to be taken, until it is dropped.
pub(super) struct Untaken {
    activity: Arc<Activity>,
    /// In which turn some of it was taken last.
    moved: usize,
}

impl Untaken {
    pub fn new(activity: Arc<Activity>) -> Self {
        let moved = activity.turn.load(Relaxed);
        activity.waiting_since(moved).fetch_add(1, Relaxed);
        Self { activity, moved }
    }

    /// Notes that some of it was taken.
    pub fn advance(&mut self) {
        let now = self.activity.turn.load(Relaxed);
        if now != self.moved {
            self.activity.waiting_since(self.moved).fetch_sub(1, Relaxed);
            self.moved = now;
            self.activity.waiting_since(now).fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.activity.waiting_since(self.moved).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_for_a_whole_turn_is_told_and_what_moves_is_not() {
        let activity = Arc::new(Activity::new(1));
        assert!(!activity.turn() && !activity.turn());
        let mut moves = Untaken::new(activity.clone());
        for _ in 0..5 {
            assert!(!activity.turn(), "it has moved in the turn that ends");
            moves.advance();
        }
        let _stuck = Untaken::new(activity.clone());
        assert!(!activity.turn());
        moves.advance();
        assert!(activity.turn(), "another one moves, and one does not");
    }

    #[tokio::test]
    async fn strangers_have_few_requests_under_way_and_who_is_known_has_more() {
        let (activity, wait) = (Arc::new(Activity::new(2)), Semaphore::new(1));
        let begin = || UnderWay::begin(activity.clone()).stream(&wait);
        let (first, _second) = (begin().await.unwrap(), begin().await.unwrap());
        let mut third = Box::pin(begin());
        assert!(at_once(&mut third).is_none(), "it waits");
        assert!(begin().await.is_none(), "there is no place to wait");
        drop(first);
        let _third = third.await.unwrap();
        activity.know(None, 2);
        activity.know(None, 2);
        let _more = (begin().await.unwrap(), begin().await.unwrap());
        let mut beyond = Box::pin(begin());
        assert!(at_once(&mut beyond).is_none(), "known only once");
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
