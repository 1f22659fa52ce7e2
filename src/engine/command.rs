//! What a worker wants done, which its shell does.

use std::collections::VecDeque;
use std::time::Duration;

use super::callout::Dispatch;

/// One thing to do, in the worker's own context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a callout. Where it cannot be sent, say so at once with [`Worker::on_callout`](super::Worker::on_callout).
    Dispatch(Dispatch),
    /// Call [`Worker::on_tick`](super::Worker::on_tick) so often from now on.
    SetTick(Duration),
    /// Write a line to the host's log.
    Log(Level, String),
}

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// Something does not work for now.
    Warn,
    /// Somebody has to do something.
    Error,
}

/// Commands, in order.
#[derive(Debug, Default)]
pub(super) struct Commands(VecDeque<Command>);

impl Commands {
    pub fn push(&mut self, command: Command) {
        self.0.push_back(command);
    }

    pub fn log(&mut self, level: Level, line: String) {
        self.push(Command::Log(level, line));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn next(&mut self) -> Option<Command> {
        self.0.pop_front()
    }
}
