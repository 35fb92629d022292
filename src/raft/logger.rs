//! Carries raft-rs's log lines, which go through `slog`, to `tracing`.

use slog::{Drain, Level, Logger, OwnedKVList, Record, o};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::info!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => tracing::debug!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        let max = tracing::level_filters::LevelFilter::current();
        match level {
            Level::Critical | Level::Error => tracing::Level::ERROR <= max,
            Level::Warning => tracing::Level::WARN <= max,
            Level::Info => tracing::Level::INFO <= max,
            Level::Debug | Level::Trace => tracing::Level::DEBUG <= max,
        }
    }
}

/// The `slog` logger that raft-rs is given.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}
