//! `latchkey openapi`: prints the description of the management API.

use std::io::Write;

use super::Failure;
use crate::api;

pub(super) fn run() -> Result<(), Failure> {
    let failed = |error: String| Failure::Failed(format!("the description cannot be written: {error}."));
    let text = api::description().to_pretty_json().map_err(|error| failed(error.to_string()))?;
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| failed(error.to_string())),
    }
}
