//! Limits of all requests but those of the change feed, which are long polls.
//!
//! A request holds a permit until its response is sent. Until its body has arrived the permit is one for uploads, so that stalled
//! uploads take none from other requests. Revocations have a quota of their own.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::quota::{Claimant, Quota, RequestPermit};
use crate::error::{ApiError, Code};

/// How long a request may take; one that is under way when the service ends is finished by then too.
pub const TIME_LIMIT: Duration = Duration::from_secs(7);
/// How many requests of one kind are worked on at a time; more wait.
const AT_A_TIME: usize = 1024;
/// How many revocations may be in flight: more than other callers can start at a time.
const MAX_REVOCATIONS: usize = 4096;
/// The largest response, in bytes, that costs no more than the stream that it waits on.
const SMALL: u64 = 4096;

/// How many requests a router's callers may have at a time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All together.
    max: usize,
    /// One source or user of them.
    per_caller: usize,
}

impl Bounds {
    /// For callers who know a secret, or are monitoring: 1,024 requests are worked on, 3,072 more may wait, whoever sends them.
    pub const TOGETHER: Self = Self { max: 4 * AT_A_TIME, per_caller: usize::MAX };
    /// For users: 1,024 requests, and an eighth of them for each.
    pub const SHARED: Self = Self { max: AT_A_TIME, per_caller: AT_A_TIME / 8 };
    /// For what is requested now and then and costs much.
    pub const FEW: Self = Self { max: 64, per_caller: 8 };
}

/// What the service does not do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Work on it, beside so many others.
    Number(usize),
    /// Work on it, beside so many of the same caller.
    Share(usize),
    /// Wait any longer for the rest of its body.
    Upload,
    /// Try any longer to answer it.
    Time,
}

impl Beyond {
    /// The answer in the management API's words.
    pub fn answer(self) -> Response {
        self.error().into_response()
    }

    /// Whether there are too many requests.
    #[must_use]
    pub fn is_overload(self) -> bool {
        matches!(self, Self::Number(_) | Self::Share(_))
    }

    /// The error in the management API's words.
    #[must_use]
    pub fn error(self) -> ApiError {
        match self {
            Self::Number(most) => {
                let message = format!("The service works on {most} requests already; try again");
                ApiError::new(Code::Overloaded, message).with("limit", most)
            }
            Self::Share(each) => {
                let message = format!(
                    "{each} requests of this caller are in flight, which is the limit for one caller; retry when \
                     one has ended"
                );
                ApiError::new(Code::Overloaded, message).with("limit", each)
            }
            Self::Upload => {
                let seconds = TIME_LIMIT.as_secs();
                let message = format!("The body did not arrive within {seconds} s");
                ApiError::new(Code::RequestTimeout, message).with("limit", seconds)
            }
            Self::Time => ApiError::unavailable("The service took too long to answer; try again"),
        }
    }
}

/// Sets a router's requests, all together, these limits; `answer` is what is said to those beyond.
pub fn limited(router: Router, bounds: Bounds, answer: fn(Beyond) -> Response) -> Router {
    let Bounds { max, per_caller } = bounds;
    let room = RequestLimits {
        working: Quota::new(max, per_caller),
        uploads: Quota::new(max, per_caller),
        revocations: Quota::new(MAX_REVOCATIONS, per_caller),
        slots: Arc::new(Semaphore::new(AT_A_TIME)),
        has_shares: per_caller < max,
        answer,
    };
    router.layer(from_fn_with_state(Arc::new(room), within_limits))
}

struct RequestLimits {
    working: Arc<Quota>,
    /// For requests whose bodies are still to come.
    uploads: Arc<Quota>,
    revocations: Arc<Quota>,
    slots: Arc<Semaphore>,
    has_shares: bool,
    answer: fn(Beyond) -> Response,
}

impl RequestLimits {
    /// The first permit of a request.
    fn permit(&self, request: &Request) -> Result<RequestPermit, Beyond> {
        // Counted for its user once it is authenticated, and for no address: others at the same one may have used that up.
        if is_revocation(request) {
            return self.revocations.take(Claimant::Anybody).map(RequestPermit::new);
        }
        let claimant = if self.has_shares { Claimant::source_of(request) } else { Claimant::Anybody };
        let kind = if request.body().is_end_stream() { &self.working } else { &self.uploads };
        kind.take(claimant).map(RequestPermit::new)
    }
}

/// Whether a request may end what a token permits. A change of a user may, and only administrators can make one.
fn is_revocation(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match path.and_then(|path| path.strip_prefix(crate::api::BASE)) {
        Some("/tokens/{id}" | "/tokens/self") => request.method() == Method::DELETE,
        Some("/users/{name}") => [Method::DELETE, Method::PATCH].contains(request.method()),
        _ => false,
    }
}

async fn within_limits(State(room): State<Arc<RequestLimits>>, mut request: Request, next: Next) -> Response {
    let permit = match room.permit(&request) {
        Ok(permit) => permit,
        Err(beyond) => return (room.answer)(beyond),
    };
    request.extensions_mut().insert(permit.clone());
    let work = Arc::<Work>::default();
    let stage = if request.body().is_end_stream() { Stage::Received } else { Stage::Receiving };
    // A revocation does not wait for other requests.
    let waits = matches!(stage, Stage::Received) && !permit.is_of(&room.revocations);
    let request = request.map(|body| {
        Body::new(Upload { body, stage, work: work.clone(), room: room.clone(), permit: permit.clone() })
    });
    let answer = async {
        if waits {
            work.begin(room.slots.clone().acquire_owned().await.ok());
        }
        next.run(request).await
    };
    let done = tokio::time::timeout(TIME_LIMIT, answer).await;
    work.begin(None);
    let response = match (work.beyond.get(), done) {
        (Some(beyond), _) => (room.answer)(*beyond),
        (None, Ok(response)) => response,
        (None, Err(_)) => {
            let upload = work.awaits_body.load(Ordering::Relaxed);
            (room.answer)(if upload { Beyond::Upload } else { Beyond::Time })
        }
    };
    keep_permit(response, permit)
}

/// Has the response keep the permit until it is sent, unless it is a short one to an unauthenticated caller: with those, one
/// caller would use up the quota of everybody at its address.
fn keep_permit(mut response: Response, permit: RequestPermit) -> Response {
    let is_small = response.body().size_hint().exact().is_some_and(|size| size <= SMALL);
    if !is_small || permit.user().is_some() {
        response.extensions_mut().insert(permit);
    }
    response
}

/// The work on a request.
#[derive(Default)]
struct Work {
    /// What it needs to be worked on.
    slot: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether the next part of its body is awaited from the client.
    awaits_body: AtomicBool,
    /// Why it is not worked on, although it was begun.
    beyond: OnceLock<Beyond>,
}

impl Work {
    /// Goes on with this slot, and gives back the one before.
    fn begin(&self, slot: Option<OwnedSemaphorePermit>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot;
    }
}

/// A body on its way in. Where the last of it has come, its request takes its turn among those that are worked on.
struct Upload {
    body: Body,
    stage: Stage,
    work: Arc<Work>,
    room: Arc<RequestLimits>,
    permit: RequestPermit,
}

enum Stage {
    Receiving,
    /// All of it is here, and many others are worked on.
    Waiting(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Received,
}

impl Upload {
    /// What comes after the end of the body: the request's turn.
    fn wait(&mut self) -> Result<(), axum::Error> {
        let RequestLimits { working, revocations, slots, .. } = &*self.room;
        if self.permit.is_of(revocations) {
            self.stage = Stage::Received;
            return Ok(());
        }
        self.permit.exchange_for(working).map_err(|beyond| {
            let _ = self.work.beyond.set(beyond);
            axum::Error::new(TooMany)
        })?;
        let slots = slots.clone();
        self.stage = Stage::Waiting(Box::pin(async move { slots.acquire_owned().await.ok() }));
        Ok(())
    }
}

/// Why the body of a request cannot be read. Its answer says more.
#[derive(Debug, thiserror::Error)]
#[error("too many requests are under way")]
struct TooMany;

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if matches!(self.stage, Stage::Receiving) {
            let polled = Pin::new(&mut self.body).poll_frame(context);
            self.work.awaits_body.store(polled.is_pending(), Ordering::Relaxed);
            if let Some(frame) = ready!(polled) {
                return Poll::Ready(Some(frame));
            }
            if let Err(error) = self.wait() {
                return Poll::Ready(Some(Err(error)));
            }
        }
        if let Stage::Waiting(slot) = &mut self.stage {
            let slot = ready!(slot.as_mut().poll(context));
            self.work.begin(slot);
            self.stage = Stage::Received;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Received) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
