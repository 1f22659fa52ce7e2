//! The command line: one file per command.

mod audit;
mod backup;
mod bootstrap;
mod completions;
mod confirm;
mod doctor;
mod me;
mod moment;
mod new_epoch;
mod openapi;
mod remote;
mod restore;
mod restrictions;
mod scheduler;
mod serve;
mod show;
mod stats;
mod token;
mod user;
mod variables;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::ConfigError;
use crate::server::BindError;
use crate::store::OpenError;
use crate::telemetry::TelemetryError;

/// How long work that cannot be cancelled may go on after a command is done.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// API tokens for Envoy: the admin service and its command line.
#[derive(Parser)]
#[command(name = "latchkey", version, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  latchkey serve                               on SQLite in ./latchkey.db, loopback addresses only
  latchkey bootstrap --out admin-token         the first administrator's token
  export LATCHKEY_TOKEN_FILE=admin-token       and what it opens, also over the network (--url):
  latchkey user create bob
  latchkey token create ci --user bob
  latchkey doctor                              what is wrong, and what to do about it
  latchkey backup latchkey-backup.db           a copy of the SQLite database while the service runs; restore puts it back
  latchkey new-epoch                           after a PostgreSQL database was restored from a backup
  latchkey openapi > openapi.json              the management API's description

Flags of what runs beside the database are variables too: --database-url is LATCHKEY_DATABASE_URL. Exit codes: 0 done, 1 failed, 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the service: management API, edge API, metrics
    Serve(serve::Args),
    /// Makes the first administrator and prints its token, once
    Bootstrap(bootstrap::Args),
    /// Copies a SQLite database while the service runs
    Backup(backup::Args),
    /// Puts a backup in the place of a SQLite database while no service runs
    Restore(restore::Args),
    /// Makes every edge forget its verdicts: after a backup was restored
    NewEpoch(new_epoch::Args),
    /// Tells whose token you have, and what it permits
    Me(me::Args),
    /// Users: list, show, create, update, disable, enable, delete
    User(user::Args),
    /// Tokens: list, create, show, revoke and more
    Token(token::Args),
    /// The limits: show and set them
    Restrictions(restrictions::Args),
    /// The deletion of expired tokens: how it goes, and run it now
    Scheduler(scheduler::Args),
    /// How many users and tokens there are, and requests by hour
    Stats(stats::Args),
    /// Who did what
    Audit(audit::Args),
    /// Checks configuration, database, clock, edge secret and a running service, and says what to do
    Doctor(doctor::Args),
    /// Prints the OpenAPI description of the management API
    Openapi,
    /// Prints what your shell needs to complete commands and flags
    Completions(completions::Args),
}

/// Why a command did not do what it was asked to; one sentence for a person.
enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2: other flags, variables or files are needed.
    Usage(String),
    /// Exit code 0: whoever reads stdout has seen enough, as `head` has.
    Unread,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Failed(format!("{error}."))
    }
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let parsed =
        Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    match parsed {
        Ok((cli, matches)) => {
            end(variables::check(&Cli::command(), &matches).and_then(|()| carry_out(cli.command)))
        }
        Err(error) => explain(&error),
    }
}

/// Does what a command asks for.
fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Bootstrap(args) => bootstrap::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::NewEpoch(args) => new_epoch::run(&args),
        Command::Me(args) => me::run(&args),
        Command::User(args) => user::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Restrictions(args) => restrictions::run(&args),
        Command::Scheduler(args) => scheduler::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Openapi => openapi::run(),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Says what went wrong, if something did.
fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("latchkey: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("latchkey: {message}");
            ExitCode::from(2)
        }
    }
}

/// Says what is wrong with the arguments. A value that cannot be is one sentence; the rest is as clap writes it.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::ArgumentConflict
    ) {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = show::with_flags(first.trim_start_matches("error: ").trim_end_matches('.'));
        let possible = match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                format!(": it must be {}", one_of(values))
            }
            _ => String::new(),
        };
        eprintln!("latchkey: {first}{possible}.");
    } else {
        // Fails only where nobody reads.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Names in a sentence, one of which is to be chosen.
fn one_of(names: &[String]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        names => names.concat(),
    }
}

/// Runs `work` to its end on a runtime of its own.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}.")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LEFTOVERS);
    outcome
}
