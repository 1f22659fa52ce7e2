//! Writing to the terminal: answers to stdout, everything else to stderr.

use std::io::{ErrorKind, Write, stdout};

use super::fields;
use crate::cli::Failure;
use crate::cli::remote::{Answer, Service};

/// Writes an answer to stdout.
///
/// # Errors
/// [`Failure::Unread`] where nobody reads any more, as after `| head`.
pub(in crate::cli) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("the answer could not be written to stdout ({error}).")),
    })
}

/// Tells a person what was done. It is a sentence without its full stop.
pub(in crate::cli) fn note(sentence: &str) {
    eprintln!("latchkey: {sentence}.");
}

/// Writes an answer that is one object: field by field for people, as it is for programs.
pub(in crate::cli) fn object(service: &Service, answer: &Answer) -> Result<(), Failure> {
    print(if service.json { format!("{}\n", answer.text.trim_end()) } else { fields(&answer.text) })
}
