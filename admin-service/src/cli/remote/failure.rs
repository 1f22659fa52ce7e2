//! What went wrong between here and the service, as a sentence for a person.

use std::io::ErrorKind;

use serde::Deserialize;
use ureq::http::StatusCode;

use crate::cli::Failure;
use crate::cli::show::{harmless, with_flags};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(in crate::cli) struct Unreached(#[from] ureq::Error);

impl From<ureq::http::Error> for Unreached {
    fn from(error: ureq::http::Error) -> Self {
        Self(error.into())
    }
}

impl Unreached {
    /// What happened, as what follows "the service cannot be reached:".
    pub(in crate::cli) fn why(&self) -> String {
        match &self.0 {
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                "nothing listens there".to_owned()
            }
            ureq::Error::HostNotFound => "its name is not known".to_owned(),
            ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => {
                "it did not answer in time".to_owned()
            }
            ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
            error if is_about_tls(error) => {
                format!("no TLS with it ({error}); SSL_CERT_FILE can name the certificates to trust")
            }
            error => harmless(&error.to_string()).into_owned(),
        }
    }

    /// Whether the request may have reached the service.
    fn may_have_arrived(&self) -> bool {
        match &self.0 {
            error if is_about_tls(error) => false,
            ureq::Error::Io(error) => error.kind() != ErrorKind::ConnectionRefused,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => false,
            ureq::Error::Timeout(timeout) => {
                !matches!(timeout, ureq::Timeout::Connect | ureq::Timeout::Resolve)
            }
            _ => true,
        }
    }
}

/// Whether no connection came about because of TLS: a certificate that is not trusted, or a peer that speaks none.
fn is_about_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() == ErrorKind::InvalidData,
        error => matches!(error, ureq::Error::Rustls(_) | ureq::Error::Tls(_)),
    }
}

/// The service cannot be reached.
pub(super) fn unreached(url: &str, unreached: &Unreached, only_reads: bool) -> Failure {
    let doubt = if only_reads || !unreached.may_have_arrived() {
        ""
    } else {
        " Whether it has done what was asked for is not known: look before you try again."
    };
    Failure::Failed(format!(
        "the service at {url} cannot be reached: {}. Check that it runs, and that --url (or LATCHKEY_URL) is where its \
         management API is.{doubt}",
        unreached.why()
    ))
}

/// What the API says of an error.
#[derive(Deserialize)]
struct ErrorBody {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    code: String,
    message: String,
}

/// An answer that is no success: what the API says, with its code; or, where it is not the API that has answered, what
/// has.
pub(super) fn refused(
    url: &str,
    token_source: &str,
    status: StatusCode,
    location: Option<&str>,
    text: &str,
) -> Failure {
    if let Ok(ErrorBody { error }) = serde_json::from_str(text) {
        let advice = if error.code == "api_key_invalid" {
            format!(": the token of {token_source} is expired, revoked, or not of {url}")
        } else {
            String::new()
        };
        let (message, code) = (with_flags(&harmless(&error.message)), harmless(&error.code));
        return Failure::Failed(format!("{} ({code}){advice}.", message.trim_end_matches('.')));
    }
    let said = match location {
        Some(location) => format!("{status}, which leads to {}", harmless(location)),
        None => status.to_string(),
    };
    Failure::Failed(format!(
        "{url} answered {said}, and not as Latchkey does. Check that --url (or LATCHKEY_URL) is where the management API is."
    ))
}

/// A success that says something else than this program knows.
pub(super) fn not_understood(url: &str) -> Failure {
    // The reader's own words could repeat a token.
    Failure::Failed(format!(
        "{url} answered what this version of latchkey does not understand. Check that --url (or LATCHKEY_URL) is where the \
         management API is."
    ))
}
