//! Clients that go on asking with a valid token while something happens to what they ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::client::{Answer, Caller};
use super::wait;

const CLIENTS: usize = 4;

/// The clients, and what they were answered; 0 stands for no answer.
pub struct Clients {
    ended: Arc<AtomicBool>,
    answers: Arc<Mutex<BTreeMap<u16, usize>>>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts some, which ask for `path`.
    pub fn start(gateway: &Caller, path: &'static str, token: &str) -> Self {
        let mut clients = Self { ended: Arc::default(), answers: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..CLIENTS {
            let (gateway, token) = (gateway.clone(), token.to_owned());
            let (ended, answers) = (Arc::clone(&clients.ended), Arc::clone(&clients.answers));
            clients.tasks.spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let answer = Answer::try_to(gateway.get(path).bearer_auth(&token)).await;
                    let status = answer.map_or(0, |answer| answer.status);
                    *answers.lock().expect("the counts").entry(status).or_default() += 1;
                    tokio::task::yield_now().await;
                }
            });
        }
        clients
    }

    fn count(&self, status: u16) -> usize {
        self.answers.lock().expect("the counts").get(&status).copied().unwrap_or(0)
    }

    /// Waits until this status has come some more times.
    pub async fn see(&self, status: u16) {
        let before = self.count(status);
        let what = format!("clients are answered {status}");
        wait::until(&what, async || (self.count(status) >= before + 3 * CLIENTS).then_some(())).await;
    }

    /// Ends them; they must have been answered with nothing but these.
    pub async fn assert_saw_only(mut self, statuses: &[u16]) {
        self.ended.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client ended well");
        }
        let answers = self.answers.lock().expect("the counts").clone();
        assert!(answers.keys().all(|status| statuses.contains(status)), "answers by status: {answers:?}");
    }
}
