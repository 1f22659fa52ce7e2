//! Whose certificates are trusted for https.

use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Those that this machine trusts, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name; where there are none, as in an empty
/// container, those that Mozilla's programs trust.
pub(super) fn config() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    let roots = if found.is_empty() {
        RootCerts::WebPki
    } else {
        found
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect::<Vec<_>>()
            .into()
    };
    TlsConfig::builder().root_certs(roots).build()
}
