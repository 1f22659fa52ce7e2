//! What requests may cost that are answered as soon as can be, which are all but those of the change feed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Semaphore;

use crate::error::{ApiError, Code};

/// How long a request may take; one that is under way when the service ends is finished by then too.
pub const TIME_LIMIT: Duration = Duration::from_secs(7);
/// How many requests of one kind are worked on at a time; more wait.
const AT_A_TIME: usize = 1024;
/// How many there may be, those that wait included; more are refused at once.
const AT_MOST: usize = 4 * AT_A_TIME;

/// What the service does not do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Work on it, beside so many others.
    Number,
    /// Wait any longer for the rest of its body.
    Upload,
    /// Try any longer to answer it.
    Time,
}

impl Beyond {
    /// The answer in the management API's words.
    pub fn answer(self) -> Response {
        let error = match self {
            Self::Number => {
                let message = format!("The service works on {AT_MOST} requests already; try again");
                ApiError::new(Code::Overloaded, message).with("limit", AT_MOST)
            }
            Self::Upload => {
                let seconds = TIME_LIMIT.as_secs();
                let message = format!("The body did not arrive within {seconds} s");
                ApiError::new(Code::RequestTimeout, message).with("limit", seconds)
            }
            Self::Time => ApiError::unavailable("The service took too long to answer; try again"),
        };
        error.into_response()
    }
}

/// Sets a router's requests, all together, these limits; `answer` is what is said to those beyond.
pub fn limited(router: Router, answer: fn(Beyond) -> Response) -> Router {
    let room = Room { places: Semaphore::new(AT_MOST), slots: Semaphore::new(AT_A_TIME), answer };
    router.layer(from_fn_with_state(Arc::new(room), within_limits))
}

struct Room {
    places: Semaphore,
    slots: Semaphore,
    answer: fn(Beyond) -> Response,
}

async fn within_limits(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let Ok(_place) = room.places.try_acquire() else { return (room.answer)(Beyond::Number) };
    let awaited = Arc::<AtomicBool>::default();
    let request = request.map(|body| Body::new(Upload { body, awaited: Arc::clone(&awaited) }));
    let answer = async {
        // Never closed, so this only waits.
        let _slot = room.slots.acquire().await;
        next.run(request).await
    };
    let done = tokio::time::timeout(TIME_LIMIT, answer).await;
    done.unwrap_or_else(|_| {
        let upload = awaited.load(Ordering::Relaxed);
        (room.answer)(if upload { Beyond::Upload } else { Beyond::Time })
    })
}

/// A body that says whether its next part is awaited from the client.
struct Upload {
    body: Body,
    awaited: Arc<AtomicBool>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.awaited.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;

    fn router() -> Router {
        let routes = Router::new()
            .route("/slow", get(|| async { pending::<()>().await }))
            .route("/upload", post(|body: Bytes| async move { body.len().to_string() }));
        limited(routes, Beyond::answer)
    }

    async fn ask(router: &Router, request: axum::http::Request<Body>) -> (StatusCode, String) {
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A body of which one part comes, and then no more.
    struct Stalled(bool);

    impl HttpBody for Stalled {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            match std::mem::replace(&mut self.0, true) {
                false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part"))))),
                true => Poll::Pending,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_too_long_and_a_body_that_does_not_come_are_told_apart() {
        let router = router();
        let slow = ask(&router, Request::get("/slow").body(Body::empty()).unwrap()).await;
        assert_eq!(slow.0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(slow.1.contains(r#""code":"unavailable""#), "{}", slow.1);
        let stalled = Request::post("/upload").body(Body::new(Stalled(false))).unwrap();
        let stalled = ask(&router, stalled).await;
        assert_eq!(stalled.0, StatusCode::REQUEST_TIMEOUT);
        assert!(stalled.1.contains(r#""code":"request_timeout","message""#), "{}", stalled.1);
        let whole = ask(&router, Request::post("/upload").body(Body::from("four")).unwrap()).await;
        assert_eq!(whole, (StatusCode::OK, "4".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_most_are_refused_at_once_and_others_wait_for_their_turn() {
        let router = router();
        let slow = || Request::get("/slow").body(Body::empty()).unwrap();
        let mut held = tokio::task::JoinSet::new();
        for _ in 0..AT_MOST {
            let router = router.clone();
            held.spawn(async move { ask(&router, slow()).await.0 });
        }
        for _ in 0..AT_MOST {
            tokio::task::yield_now().await;
        }
        let (status, body) = ask(&router, slow()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""code":"overloaded""#) && body.contains("4096"), "{body}");
        let ended = held.join_all().await;
        assert_eq!(ended, vec![StatusCode::SERVICE_UNAVAILABLE; AT_MOST]);
        let whole = ask(&router, Request::post("/upload").body(Body::from("four")).unwrap()).await;
        assert_eq!(whole.0, StatusCode::OK, "places are not given back");
    }
}
