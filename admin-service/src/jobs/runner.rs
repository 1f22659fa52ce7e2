//! What runs the jobs: a task that sleeps until the job of [`delete_expired`] is due, is asked for it, or the
//! restrictions change, and has [`forget`] run beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::forget::Forgetting;
use super::{delete_expired, forget};
use crate::domain::audit::Origin;
use crate::domain::period::Period;
use crate::domain::time::Timestamp;
use crate::store::{Holder, Lease, Store, StoreError, Trigger};

/// How long a lease holds unless it is renewed, which each batch does.
const LEASE: Period = Period::from_millis(10_000);
/// How long to sleep at most: other replicas may change the restrictions, run the job, or end in the middle of it.
const NAP: Duration = Duration::from_secs(5);

/// How long the database has to take the lease back when the service ends.
const LEAVE: Duration = Duration::from_secs(2);

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Run {
    /// How many tokens it deleted.
    pub deleted: u64,
}

/// Why a run that was asked for did not happen, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another replica is at it, or so many runs are asked for already that one more would change nothing.
    #[error("the scheduler is running already, on {}", .holder.as_ref().map_or("another replica", |holder| &holder.0))]
    Running {
        /// That replica, unless it has just ended.
        holder: Option<Holder>,
    },
    /// The service is ending.
    #[error("the service is ending")]
    Ending,
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

/// A run that is asked for, and where its outcome goes.
type Request = (Origin, oneshot::Sender<Result<Run, RunError>>);

/// Asks the runner for runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RunnerHandle(mpsc::Sender<Request>);

impl RunnerHandle {
    /// Runs the job now, enabled or not, and waits until it is done. What it deletes is recorded as done by `origin`.
    /// If the caller stops waiting, the run goes on.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run_now(&self, origin: Origin) -> Result<Run, RunError> {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send((origin, reply)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => RunError::Running { holder: None },
            mpsc::error::TrySendError::Closed(_) => RunError::Ending,
        })?;
        outcome.await.unwrap_or(Err(RunError::Ending))
    }
}

/// The task that runs the jobs.
#[derive(Debug)]
pub struct Runner {
    store: Store,
    lease: Lease,
    forgetting: Forgetting,
    requests: mpsc::Receiver<Request>,
    changes: watch::Receiver<()>,
    /// Whether the job is due and waits for the clock.
    held: bool,
}

impl Runner {
    /// A runner in the name of `holder`, and the handle to ask it by.
    #[must_use]
    pub fn new(store: Store, holder: Holder) -> (Self, RunnerHandle) {
        let (handle, requests) = mpsc::channel(16);
        let changes = store.restrictions_changes();
        let forgetting = Forgetting {
            store: store.clone(),
            lease: forget::lease(holder.clone(), LEASE),
            audit_kept: None,
            asked: Arc::default(),
        };
        let lease = Lease { job: delete_expired::JOB, holder, lasts: LEASE };
        (Self { store, lease, forgetting, requests, changes, held: false }, RunnerHandle(handle))
    }

    /// The same, which deletes entries of the audit log that are older than that; `None`: none.
    #[must_use]
    pub fn keeping_audit_for(mut self, kept: Option<Period>) -> Self {
        self.forgetting.audit_kept = kept;
        self
    }

    /// Runs the jobs whenever they are due or asked for, until `shutdown` is done. A batch under way is given up then: it
    /// is one transaction, and whoever runs the job next does it again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let forgetting = self.forgetting.clone();
        tokio::select! {
            () = shutdown => {}
            () = self.work() => {}
            () = forget::keep_running(&forgetting) => {}
        }
        let released = async {
            self.store.release_lease(&self.lease).await.and(self.store.release_lease(&forgetting.lease).await)
        };
        if !matches!(tokio::time::timeout(LEAVE, released).await, Ok(Ok(()))) {
            tracing::warn!("the scheduler's leases could not be given back; they end by themselves");
        }
    }

    async fn work(&mut self) {
        loop {
            let nap = self.run_if_due().await;
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                Ok(()) = self.changes.changed() => {}
                Some((origin, reply)) = self.requests.recv() => {
                    self.forgetting.asked.notify_one();
                    // Nobody may be waiting any more, which is no reason not to run.
                    let _ = reply.send(self.run_job(&origin, Trigger::Demand).await);
                }
            }
        }
    }

    /// Runs the job if it is due, and says how long to sleep at most.
    async fn run_if_due(&mut self) -> Duration {
        let left = match self.time_left().await {
            Ok(Some(Duration::ZERO)) => self.is_sure().await.map(|sure| sure.then_some(Duration::ZERO)),
            left => left,
        };
        match left {
            Ok(Some(Duration::ZERO)) => {}
            Ok(left) => return left.map_or(NAP, |left| left.min(NAP)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the scheduler cannot tell whether it is due"
                );
                return NAP;
            }
        }
        match self.run_job(&Origin::scheduler(), Trigger::Time).await {
            Ok(_) => self.time_left().await.ok().flatten().map_or(NAP, |left| left.min(NAP)),
            Err(_) => NAP,
        }
    }

    /// Whether the clock is to be believed by which the job is due. Says so once where it is not.
    async fn is_sure(&mut self) -> Result<bool, StoreError> {
        self.store.look_at_clock().await?;
        let hold = self.store.clock_hold();
        if let Some(hold) = hold.filter(|_| !self.held) {
            tracing::warn!("the scheduler waits: {hold}");
        }
        self.held = hold.is_some();
        Ok(!self.held)
    }

    /// How long until the job is due; `None`: it is disabled.
    async fn time_left(&self) -> Result<Option<Duration>, StoreError> {
        let now = self.store.sources().now();
        let next = self.store.scheduler_state(self.lease.job).await?.next_run_at(now);
        Ok(next.map(|next| until(now, next)))
    }

    /// Takes the lease, runs the job, and notes how it went.
    async fn run_job(&self, origin: &Origin, trigger: Trigger) -> Result<Run, RunError> {
        match self.store.acquire_lease(&self.lease).await {
            Ok(()) => {}
            Err(StoreError::LeaseLost) => return Err(self.running_elsewhere().await),
            Err(error) => return Err(RunError::Store(error)),
        }
        let mut run = Run { deleted: 0 };
        // Another replica may have run it between the look at the clock and the lease.
        let ended = if trigger == Trigger::Time
            && self.time_left().await.is_ok_and(|left| left != Some(Duration::ZERO))
        {
            self.store.release_lease(&self.lease).await
        } else {
            self.run_held(origin, trigger, &mut run.deleted).await
        };
        match ended {
            Ok(()) => Ok(run),
            Err(StoreError::LeaseLost) => Err(self.running_elsewhere().await),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    deleted = run.deleted,
                    "the scheduler failed"
                );
                Err(RunError::Store(error))
            }
        }
    }

    /// Runs the job under the lease, and notes how it went.
    async fn run_held(&self, origin: &Origin, trigger: Trigger, deleted: &mut u64) -> Result<(), StoreError> {
        let ran = delete_expired::run(&self.store, &self.lease, origin, trigger, deleted).await;
        if matches!(ran, Err(StoreError::LeaseLost)) {
            return ran;
        }
        let error = ran.as_ref().err().map(ToString::to_string);
        let noted = self.store.finish_run(&self.lease, *deleted, error.as_deref()).await;
        if *deleted > 0 {
            tracing::info!(deleted = *deleted, "the scheduler deleted expired tokens");
        }
        ran.and(noted)
    }

    async fn running_elsewhere(&self) -> RunError {
        let state = self.store.scheduler_state(self.lease.job).await;
        RunError::Running { holder: state.ok().and_then(|state| state.holder) }
    }
}

/// The time from `now` to `then`, none if that is past.
fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}
