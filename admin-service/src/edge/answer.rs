//! What a gateway is told: the identity in headers, or the refusal that its client gets, word for word.

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use latchkey::credential::Schemes;
use latchkey::gate::Identity;
use latchkey::headers::{AUTHORIZATION, IdentityHeaders};
use latchkey::refusal::{Realm, Refusal};
use serde_json::json;

use crate::domain::changes::Position;
use crate::error::Code;
use crate::rate::TooMany;

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

/// The refusal.
pub fn refused(refusal: &Refusal, realm: &Realm, schemes: Schemes, grpc: bool) -> Response<Body> {
    let reason = refusal.reason();
    // Every reason's status is one.
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = answer(status, reason.body(), reason.message(), grpc);
    let headers = refusal.headers(realm, schemes).into_iter();
    add(&mut response, headers.map(|(name, value)| (name.to_owned(), value)));
    response
}

/// The refusal of a failed attempt whose source has failed too often.
pub fn too_many(too_many: &TooMany, grpc: bool) -> Response<Body> {
    let message = "Too many failed attempts";
    let body = json!({"error": {"status": "ERROR", "message": message}}).to_string();
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, body, message, grpc);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(too_many.again_in_seconds()));
    response.extensions_mut().insert(Code::TooManyFailures);
    response
}

/// An answer that says no: of a gRPC request with the message alone, of which gateways make the status's `grpc-message`.
fn answer(status: StatusCode, json: String, message: &'static str, grpc: bool) -> Response<Body> {
    let (body, content_type) = if grpc {
        (Body::from(message), "application/grpc")
    } else {
        (Body::from(json), latchkey::wire::CONTENT_TYPE)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
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
