//! Envoy's log, behind the macros of the `log` crate, and the last words of a panic: it kills the VM, and its message is all
//! that tells why.

use std::panic;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::host::{self, LogLevel};

struct Logger;

/// Makes the macros of the `log` crate, and panics, write to Envoy's log.
pub fn start() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    panic::set_hook(Box::new(|panic| host::log(LogLevel::Critical, &panic.to_string())));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info | Level::Debug | Level::Trace => LogLevel::Info,
        };
        host::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
