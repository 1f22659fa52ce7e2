//! The edge secret: whether it can be read, by whom, and whether it could be guessed.

use secrecy::{ExposeSecret, SecretString};

use super::finding::Findings;
use crate::config::ServeArgs;
use crate::edge::secret::{SecretSource, cover, exposure};

const CHECK: &str = "edge secret";
/// The fewest characters of a secret: so many of base64 hold 128 bits.
const SHORTEST: usize = 22;

/// The secrets, if they can be read: none where none is asked for.
pub(super) fn check(serve: &ServeArgs, findings: &mut Findings) -> Vec<SecretString> {
    let Some(source) = serve.secret_source() else {
        findings.ok(CHECK, "none is configured, so edges are served on loopback addresses only.");
        return Vec::new();
    };
    let secrets = match source.secrets() {
        Ok(secrets) => secrets,
        Err(error) => {
            findings.problem(
                CHECK,
                error.to_string(),
                "Write one secret per line: (umask 077; openssl rand -hex 32 > FILE)",
            );
            return Vec::new();
        }
    };
    let before = findings.problems();
    if let SecretSource::File(path) = &source
        && let Some(exposed) = exposure(path)
    {
        findings.problem(CHECK, format!("{exposed}."), format!("{}.", cover(path)));
    }
    for (n, secret) in (1..).zip(&secrets) {
        let length = secret.expose_secret().len();
        if length < SHORTEST {
            findings.problem(
                CHECK,
                format!("secret {n} of {} has {length} characters, and can be guessed.", secrets.len()),
                format!("Use at least {SHORTEST}: openssl rand -hex 32. Add it as a line, give it to the edges, then remove the old one."),
            );
        }
    }
    if findings.problems() == before {
        findings.ok(
            CHECK,
            match secrets.len() {
                1 => "one is accepted.".to_owned(),
                n => format!("{n} are accepted."),
            },
        );
    }
    secrets
}
