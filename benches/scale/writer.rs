//! Another writer: a client that makes tokens one after the other, and how long each takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::report::sorted;
use crate::support::Admin;
use crate::support::wait::now;

/// A writer at work.
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<f64>>,
}

impl Writer {
    pub fn start(admin: &Admin) -> Self {
        let (stop, admin) = (Arc::new(AtomicBool::new(false)), admin.clone());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = now();
                let spec = Some(json!({"name": "of the writer"}));
                admin.expect(201, Method::POST, "/users/admin/tokens", spec).await;
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
        Self { stop, task }
    }

    /// How long each of its requests took, in milliseconds, from the shortest on.
    pub async fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        sorted(self.task.await.expect("the writer writes"))
    }

    /// What it takes with nothing else going on.
    pub async fn alone(admin: &Admin) -> Vec<f64> {
        let writer = Self::start(admin);
        tokio::time::sleep(Duration::from_secs(3)).await;
        writer.stop().await
    }
}
