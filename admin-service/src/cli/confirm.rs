//! Asking before what cannot be undone.

use std::io::{IsTerminal, Write, stderr, stdin};

use super::Failure;

/// Whether to ask.
#[derive(clap::Args)]
pub(super) struct Confirmation {
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

impl Confirmation {
    /// Asks the question that `question` makes, unless `--yes` answers it.
    ///
    /// # Errors
    /// [`Failure::Usage`] where there is no terminal to ask on, [`Failure::Failed`] where the answer is no.
    pub(super) fn ask(&self, question: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return Err(Failure::Usage(
                "this needs your word that you mean it, and there is no terminal to ask on: add --yes. Nothing was changed."
                    .to_owned(),
            ));
        }
        eprint!("{} [y/N] ", question()?);
        let _ = stderr().flush();
        let mut answer = String::new();
        // What cannot be read is no yes.
        let _ = stdin().read_line(&mut answer);
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::Failed("nothing was changed.".to_owned()))
        }
    }
}
