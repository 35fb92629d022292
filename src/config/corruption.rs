//! The flags of the checks whether all members have the same keys.

use std::time::Duration;

use super::{args::Given, error::ConfigError, values};

/// When this member's keys are compared with those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptCheck {
    /// `--experimental-initial-corrupt-check`: before the member serves anybody.
    pub initial: bool,
    /// `--experimental-corrupt-check-time`: how often, while it leads; `None` for never.
    pub period: Option<Duration>,
    /// `--experimental-compact-hash-check-time`, if `--experimental-compact-hash-check-enabled`:
    /// how often the leader looks whether there was a compaction.
    pub compaction: Option<Duration>,
}

/// Reads the flags.
pub(super) fn corrupt_check(given: &Given) -> Result<CorruptCheck, ConfigError> {
    let named = |new, old| if given.has(new) { new } else { old };
    let period = named("corrupt-check-time", "experimental-corrupt-check-time");
    let period = values::duration(given.text(period));
    let flag = named("compact-hash-check-time", "experimental-compact-hash-check-time");
    let compaction = values::duration(given.text(flag));
    if compaction.is_zero() {
        let value = given.text(flag).to_owned();
        return Err(ConfigError::CompactHashCheckTime { flag, value });
    }
    let is_enabled = given.boolean("experimental-compact-hash-check-enabled");
    Ok(CorruptCheck {
        initial: given.boolean("experimental-initial-corrupt-check"),
        period: Some(period).filter(|period| !period.is_zero()),
        compaction: Some(compaction).filter(|_| is_enabled),
    })
}
