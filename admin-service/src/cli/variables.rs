//! `LATCHKEY_*` variables that are set and empty. Each is a mistake: a secret that is empty by accident must not count as none.

use std::env::var_os;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::Failure;

/// Refuses the first variable of the command that is run which is set, empty, and not overruled by its flag.
pub(super) fn check(command: &Command, matches: &ArgMatches) -> Result<(), Failure> {
    for argument in command.get_arguments() {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()) else { continue };
        let is_empty = var_os(name).is_some_and(|value| value.to_string_lossy().trim().is_empty());
        let id = argument.get_id().as_str();
        let by_flag = matches.try_contains_id(id).is_ok_and(|known| known)
            && matches.value_source(id) == Some(ValueSource::CommandLine);
        if is_empty && !by_flag {
            return Err(Failure::Usage(empty_variable(name)));
        }
    }
    match matches.subcommand() {
        Some((name, matches)) => {
            command.find_subcommand(name).map_or(Ok(()), |command| check(command, matches))
        }
        None => Ok(()),
    }
}

/// What is said of such a variable.
pub(super) fn empty_variable(name: &str) -> String {
    format!("{name} is set and empty: give it a value, or unset it.")
}
