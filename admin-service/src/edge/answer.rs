//! What a gateway is told: the identity in headers, or the refusal that its client gets, word for word.

use axum::Json;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use latchkey::credential::Schemes;
use latchkey::gate::Identity;
use latchkey::headers::{AUTHORIZATION, IdentityHeaders};
use latchkey::refusal::{Realm, Refusal};
use serde_json::json;

use crate::domain::changes::Position;

/// Has Envoy's `ext_authz` take headers out of the request before it goes on; others do not know it.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// The answer that lets a request pass. Each identity header is there, empty or not, so that a gateway which copies them
/// leaves none of the client's.
pub fn passed(identity: &Identity, at: &Position) -> Response<Body> {
    let body = Json(json!({"epoch": at.epoch, "revision": at.revision}));
    let mut response = body.into_response();
    response.headers_mut().insert(TO_REMOVE, HeaderValue::from_static(AUTHORIZATION));
    let identity_headers = IdentityHeaders::default();
    let headers = identity_headers.of(identity);
    add(&mut response, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    response
}

/// The refusal. Of a gRPC request it is the message alone: what gateways make of it is the status's `grpc-message`.
pub fn refused(refusal: &Refusal, realm: &Realm, schemes: Schemes, grpc: bool) -> Response<Body> {
    let (body, content_type) = if grpc {
        (refusal.reason().message().to_owned(), "application/grpc")
    } else {
        (refusal.body(), latchkey::wire::CONTENT_TYPE)
    };
    let mut response = Response::new(Body::from(body));
    // Every reason's status is one.
    *response.status_mut() =
        StatusCode::from_u16(refusal.reason().status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let headers = refusal.headers(realm, schemes).into_iter();
    add(&mut response, headers.map(|(name, value)| (name.to_owned(), value)));
    response
}

/// Adds headers, each as a line of its own; all are visible ASCII.
fn add(response: &mut Response<Body>, headers: impl Iterator<Item = (String, String)>) {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
}
