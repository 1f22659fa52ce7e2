//! Listeners that ask for no secret because they are on loopback: what protects them from web pages.
//!
//! A page in a browser on this machine can reach loopback by a name of its own that it has pointed there ("DNS rebinding"), and
//! may then read what is answered. The browser sends that name as the `Host`. So these listeners answer loopback hosts alone: an
//! address of loopback, `localhost`, and names without a dot, such as `latchkey`, which filters, health checks and proxies send
//! and no public name is like. Who can make up names in this machine's own network can do more than this protects from.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use crate::error::{ApiError, Code};

/// Has a router answer requests for loopback hosts alone, if `only`.
pub fn for_loopback_hosts(router: Router, only: bool) -> Router {
    if only { router.layer(from_fn(refuse_others)) } else { router }
}

async fn refuse_others(request: Request, next: Next) -> Response {
    let named = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    // Without any it comes from no browser.
    if named.chain(authority).all(is_loopback) {
        return next.run(request).await;
    }
    let message = "This listener asks for no secret, so it answers requests for loopback hosts alone: use 127.0.0.1, \
                   [::1] or localhost, or a name without a dot";
    ApiError::new(Code::HostNotAllowed, message).into_response()
}

/// Whether a host, with or without a port, is an address of loopback, `localhost`, or a name without a dot.
fn is_loopback(host: &[u8]) -> bool {
    let authority = std::str::from_utf8(host).ok().and_then(|text| text.parse::<Authority>().ok());
    let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
        return false;
    };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_and_names_without_a_dot_are_loopback_hosts() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8101",
            "127.9.9.9",
            "[::1]",
            "[::1]:8101",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LocalHost:8102",
            "latchkey",
            "latchkey_feed:8101",
            "x",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8101",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "[2001:db8::1]",
            "0.0.0.0",
            "latchkey.",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "a b",
            ":8101",
            "127.0.0.1:x:y",
            "::1",
            "*",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
    }
}
