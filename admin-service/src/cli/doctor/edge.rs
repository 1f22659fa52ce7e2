//! The edge API of a running service: whether it accepts the secret, hears its database, and is the database's own.

use std::time::Duration;

use latchkey::wire::{CHANGES_PATH, ChangesResponse, VERIFY_PATH};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderName, HeaderValue, StatusCode};

use super::PATIENCE;
use super::finding::Findings;
use crate::cli::remote::{Answer, Http, Method, Unreached};
use crate::domain::changes::Position;

/// How often a service is asked that has yet to hear of the latest change, and the pause between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Asks where the history stands, as an edge does that has just begun.
fn ask(url: &str, secret: Option<&SecretString>) -> Result<Answer, Unreached> {
    let url_of_it = format!("{url}{CHANGES_PATH}");
    Http::to(url, PATIENCE).send(Method::GET, &url_of_it, authorization(secret), String::new())
}

/// Asks for no verdict in particular, which tells whether the secret is accepted. Not for changes: the service notes who asks
/// for these without a secret.
pub(super) fn probe(url: &str, secret: Option<&SecretString>) -> Result<Answer, Unreached> {
    let json = (CONTENT_TYPE, HeaderValue::from_static(latchkey::wire::CONTENT_TYPE));
    let headers = authorization(secret).into_iter().chain([json]);
    Http::to(url, PATIENCE).send(Method::POST, &format!("{url}{VERIFY_PATH}"), headers, "{}".to_owned())
}

fn authorization(secret: Option<&SecretString>) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", secret?.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some((AUTHORIZATION, value))
}

pub(super) fn check(
    url: &str,
    secrets: &[SecretString],
    database: Option<&Position>,
    findings: &mut Findings,
) {
    if check_secrets(url, secrets, findings) {
        check_feed(url, secrets.first(), database, findings);
    }
}

/// Whether the service accepts each secret, or asks for none.
fn check_secrets(url: &str, secrets: &[SecretString], findings: &mut Findings) -> bool {
    const CHECK: &str = "edge secret";
    let accepted = |secret| probe(url, secret).is_ok_and(|answer| answer.status != StatusCode::UNAUTHORIZED);
    if secrets.is_empty() {
        let open = accepted(None);
        if !open {
            findings.problem(
                CHECK,
                format!("the service at {url} asks for one, and none is configured here."),
                "Give the service's by --edge-secret-file.",
            );
        }
        return open;
    }
    let refused: Vec<usize> =
        (1..).zip(secrets).filter(|(_, secret)| !accepted(Some(secret))).map(|(n, _)| n).collect();
    for n in &refused {
        findings.problem(
            CHECK,
            format!("the service at {url} does not accept secret {n} of {}.", secrets.len()),
            "Give it and its edges the same file; it reads a changed one within a second.",
        );
    }
    if refused.is_empty() {
        if accepted(None) {
            findings.warning(
                CHECK,
                format!("the service at {url} accepts it, and edges without any as well."),
                "Start `latchkey serve` with --edge-secret-file.",
            );
        } else {
            findings.ok(CHECK, format!("the service at {url} accepts it."));
        }
    }
    refused.is_empty()
}

/// Whether the service tells of the database's latest change.
fn check_feed(
    url: &str,
    secret: Option<&SecretString>,
    database: Option<&Position>,
    findings: &mut Findings,
) {
    const CHECK: &str = "feed";
    let mut told = Err(String::new());
    for _ in 0..TRIES {
        told = position(url, secret);
        match (&told, database) {
            (Ok(now), Some(database))
                if now.epoch == database.epoch.0 && now.revision < database.revision.0 =>
            {
                std::thread::sleep(PAUSE);
            }
            _ => break,
        }
    }
    match (told, database) {
        (Err(why), _) => findings.problem(
            CHECK,
            format!("the service at {url} does not tell of changes: {why}."),
            "Edges accept revoked tokens until stale.max_ms, and then ask about every request. Its log says why.",
        ),
        (Ok(now), Some(database)) if now.epoch != database.epoch.0 => findings.problem(
            CHECK,
            format!("the service at {url} follows another history than this database's."),
            "Name the service's own database by --database-url; after a restored backup, run `latchkey new-epoch`.",
        ),
        (Ok(now), Some(database)) if now.revision < database.revision.0 => findings.problem(
            CHECK,
            format!("the service at {url} has heard of revision {}, and the database is at {}.", now.revision, database.revision.0),
            "Its log says why it cannot follow its database.",
        ),
        (Ok(now), _) => findings.ok(CHECK, format!("the service at {url} tells of changes up to revision {}.", now.revision)),
    }
}

/// What the service says; or why it does not.
fn position(url: &str, secret: Option<&SecretString>) -> Result<ChangesResponse, String> {
    let answer = ask(url, secret).map_err(|unreached| unreached.why())?;
    if answer.status.is_success() {
        return serde_json::from_str(&answer.text).map_err(|_| "its answer is no edge API's".to_owned());
    }
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
    Err(format!("{} {message}", answer.status).trim_end().to_owned())
}
