//! `lean <list of exports> <module> <lean module>`: see the library beside this.

use std::fs;
use std::process::ExitCode;

use latchkey_lean::{lean, listed};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [list, from, to] => run(list, from, to),
        _ => Err("usage: lean <list of exports> <module> <lean module>".to_owned()),
    };
    match result {
        Ok(told) => {
            eprintln!("{told}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Makes a lean module of another; tells how much smaller it is.
fn run(list: &str, from: &str, to: &str) -> Result<String, String> {
    let names = fs::read_to_string(list).map_err(|error| format!("{list}: {error}"))?;
    let before = fs::read(from).map_err(|error| format!("{from}: {error}"))?;
    let after = lean(&before, &listed(&names)).map_err(|error| format!("{from}: {error}"))?;
    fs::write(to, &after).map_err(|error| format!("{to}: {error}"))?;
    Ok(format!("{} bytes as built, {} bytes lean", before.len(), after.len()))
}
