//! The limits over routers of their own, in time that passes by itself.

use std::future::pending;
use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post};
use tower::ServiceExt;

use super::*;
use crate::server::ClientAddress;

/// Who asks, by a header.
struct User;

impl FromRequestParts<()> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, (): &()) -> Result<Self, ApiError> {
        if let Some(Ok(user)) = parts.headers.get("x-user").map(|user| user.to_str().unwrap().parse()) {
            RequestPermit::attribute_to(parts, &user)?;
        }
        Ok(Self)
    }
}

async fn length(_: User, body: Bytes) -> String {
    body.len().to_string()
}

async fn never(_: User) {
    pending::<()>().await;
}

fn routes() -> Router {
    Router::new()
        .route("/slow", get(never))
        .route("/upload", post(length))
        .route("/api/v1/tokens/{id}", delete(length))
        .route("/api/v1/users/{name}", delete(length).patch(length))
}

fn router() -> Router {
    limited(routes(), Bounds::SHARED, Beyond::answer)
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
    let router = limited(routes(), Bounds::TOGETHER, Beyond::answer);
    let slow = || Request::get("/slow").body(Body::empty()).unwrap();
    let most = Bounds::TOGETHER.max;
    let permit = hold(&router, most, slow).await;
    let (status, body) = ask(&router, slow()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""code":"overloaded""#) && body.contains("4096"), "{body}");
    let ended = permit.join_all().await;
    assert_eq!(ended, vec![StatusCode::SERVICE_UNAVAILABLE; most]);
    let whole = ask(&router, Request::post("/upload").body(Body::from("four")).unwrap()).await;
    assert_eq!(whole.0, StatusCode::OK, "places are not given back");
}

/// Sends this many requests, and waits until they are under way.
async fn hold(
    router: &Router,
    number: usize,
    request: impl Fn() -> axum::http::Request<Body>,
) -> tokio::task::JoinSet<StatusCode> {
    let mut permit = tokio::task::JoinSet::new();
    for _ in 0..number {
        let (router, request) = (router.clone(), request());
        permit.spawn(async move { ask(&router, request).await.0 });
    }
    for _ in 0..number {
        tokio::task::yield_now().await;
    }
    permit
}

/// A request of this user, or of nobody, from this address.
fn from(address: &str, user: &str, request: axum::http::request::Builder, body: Body) -> Request {
    let mut request = request.header("x-user", user).body(body).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    request.extensions_mut().insert(ClientAddress(address.ip()));
    request
}

const HERE: &str = "192.0.2.1:1000";

fn stalled(user: &str) -> Request {
    from(HERE, user, Request::post("/upload"), Body::new(Stalled(false)))
}

fn upload(user: &str) -> Request {
    from(HERE, user, Request::post("/upload"), Body::from("four"))
}

fn slow(user: &str) -> Request {
    from(HERE, user, Request::get("/slow"), Body::empty())
}

#[tokio::test(start_paused = true)]
async fn uploads_that_do_not_come_take_no_place_from_others_and_one_user_has_an_eighth_of_them() {
    let router = router();
    let each = Bounds::SHARED.per_caller;
    let permit = hold(&router, each, || stalled("mallory")).await;
    let (status, body) = ask(&router, stalled("mallory")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""limit":128"#) && body.contains("of this caller"), "{body}");
    for user in ["alice", "bob"] {
        assert_eq!(ask(&router, upload(user)).await, (StatusCode::OK, "4".to_owned()), "{user}");
    }
    assert_eq!(permit.join_all().await, vec![StatusCode::REQUEST_TIMEOUT; each]);
    assert_eq!(ask(&router, upload("mallory")).await.0, StatusCode::OK, "places are given back");
}

#[tokio::test(start_paused = true)]
async fn a_user_has_an_eighth_of_the_places_whatever_the_address_and_the_next_upload_is_not_begun() {
    let router = router();
    let each = Bounds::SHARED.per_caller;
    let _held = hold(&router, each, || slow("mallory")).await;
    let elsewhere = from("192.0.2.2:1", "mallory", Request::get("/slow"), Body::empty());
    assert_eq!(ask(&router, elsewhere).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (status, body) = ask(&router, upload("mallory")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains(r#""code":"overloaded""#) && body.contains(r#""limit":128"#), "{body}");
    assert_eq!(ask(&router, upload("alice")).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn an_address_has_an_eighth_of_the_places_for_those_whom_nobody_knows() {
    let router = router();
    let _held = hold(&router, Bounds::SHARED.per_caller, || slow("")).await;
    assert_eq!(ask(&router, slow("")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let elsewhere = from("192.0.2.2:1", "alice", Request::post("/upload"), Body::from("four"));
    assert_eq!(ask(&router, elsewhere).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_has_a_place_when_there_is_none_for_anything_else() {
    let router = router();
    let most = Bounds::SHARED.max;
    let mut permit = Vec::new();
    for number in 0..8 {
        let user = format!("user{number}");
        permit.push(hold(&router, Bounds::SHARED.per_caller, || slow(&user)).await);
        permit.push(hold(&router, Bounds::SHARED.per_caller, || stalled(&user)).await);
    }
    let (status, body) = ask(&router, upload("alice")).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains(&most.to_string()), "{body}");
    for (method, path) in [
        (Method::DELETE, "/api/v1/tokens/some"),
        (Method::DELETE, "/api/v1/users/some"),
        (Method::PATCH, "/api/v1/users/some"),
    ] {
        let builder = Request::builder().method(method.clone()).uri(path);
        let body = if method == Method::PATCH { Body::from("four") } else { Body::empty() };
        // A user who guards an eighth of everything else, too.
        let answer = ask(&router, from(HERE, "user1", builder, body)).await;
        assert_eq!(answer.0, StatusCode::OK, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_keeps_the_place_of_its_user_until_it_is_dropped_and_a_stranger_s_short_one_does_not() {
    let router = router();
    let each = Bounds::SHARED.per_caller;
    let answers = |user: &'static str| {
        let router = router.clone();
        async move {
            let mut answers = Vec::new();
            for _ in 0..each {
                answers.push(router.clone().oneshot(upload(user)).await.unwrap());
            }
            answers
        }
    };
    let strangers = answers("").await;
    assert_eq!(ask(&router, upload("")).await.0, StatusCode::OK);
    let send_timeout = answers("alice").await;
    assert_eq!(ask(&router, upload("alice")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop((strangers, send_timeout));
    assert_eq!(ask(&router, upload("alice")).await.0, StatusCode::OK);
}
