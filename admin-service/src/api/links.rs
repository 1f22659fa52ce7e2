//! The links in answers: with the public URL, or where none is set with the address that the service listens on. An address such as
//! 0.0.0.0 leads nowhere: then it is the name by which the caller has reached the service.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;

use crate::app::App;

/// What the links of one answer begin with.
pub struct Links(String);

impl Links {
    /// The whole URL of a path such as `/api/v1/users/alice`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromRequestParts<App> for Links {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let settings = &app.settings;
        let base = match &settings.public_url {
            Some(url) => url.clone(),
            None => match host(parts).filter(|_| settings.listen.ip().is_unspecified()) {
                Some(host) => format!("http://{host}"),
                None => format!("http://{}", settings.listen),
            },
        };
        Ok(Self(base))
    }
}

/// The host that a request is for, if that is one and nothing else.
fn host(parts: &Parts) -> Option<Authority> {
    let named = || parts.headers.get(HOST)?.to_str().ok()?.parse().ok();
    let host: Authority = parts.uri.authority().cloned().or_else(named)?;
    (!host.as_str().contains('@')).then_some(host)
}
