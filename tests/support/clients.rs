//! Clients that go on asking with a valid token while something happens to what they ask.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use tokio::task::JoinSet;

use super::client::{Answer, Caller};
use super::wait;

const CLIENTS: usize = 4;

/// One request: when it was sent and when it was answered, and with what; 0 stands for no answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub sent: Instant,
    pub answered: Instant,
    pub status: u16,
}

/// The clients, and what they were answered.
pub struct Clients {
    ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts some, which ask for `path` with a token.
    pub fn start(gateway: &Caller, path: &'static str, token: &str) -> Self {
        let (gateway, token) = (gateway.clone(), token.to_owned());
        Self::sending(move || gateway.get(path).bearer_auth(&token))
    }

    /// Starts some, which send such requests.
    pub fn sending(request: impl Fn() -> RequestBuilder + Clone + Send + 'static) -> Self {
        let mut clients = Self { ended: Arc::default(), seen: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..CLIENTS {
            let request = request.clone();
            let (ended, seen) = (Arc::clone(&clients.ended), Arc::clone(&clients.seen));
            clients.tasks.spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let sent = wait::now();
                    let answer = Answer::try_to(request()).await;
                    let status = answer.map_or(0, |answer| answer.status);
                    seen.lock().expect("the answers").push(Seen { sent, answered: wait::now(), status });
                    tokio::task::yield_now().await;
                }
            });
        }
        clients
    }

    /// Every answer so far, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the answers").clone()
    }

    /// How long the longest of those answered by `when` took.
    pub fn slowest(&self, when: Instant) -> Duration {
        let seen = self.seen();
        let took = seen.iter().filter(|it| it.answered <= when).map(|it| it.answered - it.sent);
        took.max().unwrap_or_default()
    }

    /// Waits until this status has come some more times.
    pub async fn see(&self, status: u16) {
        let count = || self.seen.lock().expect("the answers").iter().filter(|it| it.status == status).count();
        let before = count();
        let what = format!("clients are answered {status}");
        wait::until(&what, async || (count() >= before + 3 * CLIENTS).then_some(())).await;
    }

    /// Ends them; gives all their answers, which must have been nothing but these.
    pub async fn assert_saw_only(mut self, statuses: &[u16]) -> Vec<Seen> {
        self.ended.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client ended well");
        }
        let seen = self.seen();
        let found: BTreeSet<u16> = seen.iter().map(|it| it.status).collect();
        assert!(found.iter().all(|status| statuses.contains(status)), "answers: {found:?}");
        seen
    }
}
