//! The `latchkey` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    latchkey_admin::cli::run()
}
