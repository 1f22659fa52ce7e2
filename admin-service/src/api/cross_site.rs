//! Requests that another site has made a browser send, with the credentials that it remembers: none of them changes anything.
//!
//! A browser tells where such a request comes from, by `Origin` (RFC 6454) and `Sec-Fetch-Site` (Fetch Metadata); programs send
//! neither. A sibling site (`same-site`) is another one too: names below one domain often belong to different people.

use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{ApiError, Code};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses requests of other sites that might change something, whoever they are by.
pub async fn refuse(State(app): State<App>, request: Request, next: Next) -> Response {
    if is_safe(request.method()) || !is_cross_site(&request, app.settings.public_url.as_deref()) {
        return next.run(request).await;
    }
    let message = "A page of another site may not change anything here. Where this is the service's own page, name \
                   how users reach it as --public-url";
    ApiError::new(Code::CrossSite, message).into_response()
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

fn is_cross_site(request: &Request, public_url: Option<&str>) -> bool {
    let headers = request.headers();
    let foreign_fetch = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    foreign_fetch || headers.get_all(ORIGIN).iter().any(|origin| !is_own(origin, request, public_url))
}

/// Whether an origin is this service's: that of the public URL, or of the host that the request is for. A proxy may have taken
/// TLS away, so that the scheme of the latter is not known.
fn is_own(origin: &HeaderValue, request: &Request, public_url: Option<&str>) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(Place::of_url) else { return false };
    if public_url.and_then(Place::of_url).is_some_and(|public| public == origin) {
        return true;
    }
    let host = request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        host.to_str().ok()?.parse().ok()
    });
    host.is_some_and(|host| Place::new(origin.scheme, &host).is_some_and(|host| host == origin))
}

/// What makes an origin: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    scheme: &'static str,
    host: String,
    port: u16,
}

impl Place {
    fn of_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = ["http", "https"].into_iter().find(|known| uri.scheme_str() == Some(*known))?;
        Self::new(scheme, uri.authority()?)
    }

    fn new(scheme: &'static str, authority: &Authority) -> Option<Self> {
        let default = if scheme == "https" { 443 } else { 80 };
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse().ok()?,
            _ => default,
        };
        (!authority.as_str().contains('@')).then(|| Self {
            scheme,
            host: authority.host().to_ascii_lowercase(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn cross(lines: &[(&'static str, &str)]) -> bool {
        let request = lines
            .iter()
            .fold(Request::builder().uri("/"), |request, (name, value)| request.header(*name, *value));
        is_cross_site(&request.body(Body::empty()).unwrap(), Some("https://tokens.example.com/base"))
    }

    #[test]
    fn programs_and_the_services_own_pages_are_no_other_site() {
        let host = ("host", "127.0.0.1:8100");
        for lines in [
            &[host][..],
            &[host, ("origin", "http://127.0.0.1:8100")],
            &[host, ("origin", "https://tokens.example.com")],
            &[host, ("origin", "https://TOKENS.example.com:443")],
            &[("host", "latchkey.example"), ("origin", "https://latchkey.example")],
            &[("host", "latchkey.example:80"), ("origin", "http://latchkey.example")],
            &[("host", "[::1]:8100"), ("origin", "http://[::1]:8100")],
            &[host, ("origin", "https://tokens.example.com"), ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(!cross(lines), "{lines:?}");
        }
    }

    #[test]
    fn every_other_origin_and_site_is() {
        let host = ("host", "127.0.0.1:8100");
        for lines in [
            &[host, ("origin", "null")][..],
            &[host, ("origin", "")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "http://127.0.0.1:8101")],
            &[host, ("origin", "http://127.0.0.1")],
            &[host, ("origin", "http://tokens.example.com")],
            &[host, ("origin", "https://tokens.example.com:8443")],
            &[host, ("origin", "https://tokens.example.com.evil.example")],
            &[host, ("origin", "https://tokens.example.com@evil.example")],
            &[host, ("origin", "file://")],
            &[("origin", "http://evil.example")],
            &[host, ("origin", "https://tokens.example.com"), ("origin", "http://evil.example")],
            &[host, ("origin", "https://tokens.example.com"), ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "SAME-ORIGIN")],
        ] {
            assert!(cross(lines), "{lines:?}");
        }
    }
}
