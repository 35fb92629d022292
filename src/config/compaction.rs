//! The flags of compaction: whether it is automatic, and in which portions it works.

use std::time::Duration;

use super::{args::Given, error::ConfigError, values};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Rows deleted per batch (etcd: defaultCompactBatchLimit).
const BATCH_DEFAULT: usize = 1000;
/// The pause between two batches (etcd: minimumBatchInterval).
const PAUSE_DEFAULT: Duration = Duration::from_millis(10);
/// `--auto-compaction-mode` by time (etcd: CompactorModePeriodic).
const PERIODIC: &str = "periodic";
/// `--auto-compaction-mode` by number of revisions (etcd: CompactorModeRevision).
const REVISION: &str = "revision";

/// The history that automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Revisions younger than this.
    Periodic(Duration),
    /// This many of the newest revisions.
    Revision(i64),
}

/// When and how revisions are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// `--auto-compaction-mode` with `--auto-compaction-retention`; `None` for a retention of 0.
    pub auto: Option<AutoCompaction>,
    /// `--experimental-compaction-batch-limit`: the most rows, or keys of the index, of one step.
    pub batch_limit: usize,
    /// `--experimental-compaction-sleep-interval`: the pause after a step.
    pub pause: Duration,
}

/// Reads the flags of compaction.
pub(super) fn compaction(given: &Given) -> Result<Compaction, ConfigError> {
    let auto = auto(given.text("auto-compaction-mode"), given.text("auto-compaction-retention"))?;
    let named = |new, old| if given.has(new) { new } else { old };
    let batch = named("compaction-batch-limit", "experimental-compaction-batch-limit");
    let pause = named("compaction-sleep-interval", "experimental-compaction-sleep-interval");
    Ok(Compaction {
        auto,
        batch_limit: match usize::try_from(given.int(batch)) {
            Ok(0) | Err(_) => BATCH_DEFAULT,
            Ok(limit) => limit,
        },
        pause: match values::duration(given.text(pause)) {
            Duration::ZERO => PAUSE_DEFAULT,
            pause => pause,
        },
    })
}

/// etcd: `parseCompactionRetention`. A bare number is of hours or of revisions; anything else is
/// a duration, whose nanoseconds are, in revision mode, revisions.
fn auto(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, ConfigError> {
    if !matches!(mode, "" | PERIODIC | REVISION) {
        return Err(ConfigError::AutoCompactionMode(mode.to_owned()));
    }
    let number = decimal(retention).filter(|number| 0 <= *number);
    let (number, period) = match number {
        _ if retention.is_empty() => (0, Duration::ZERO),
        Some(_) if mode.is_empty() => return Err(ConfigError::NoAutoCompactionMode),
        Some(number) => (number, HOUR.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))),
        None => {
            let ns = values::duration_ns(retention)
                .map_err(|_| ConfigError::Retention(complaint(retention)))?;
            // etcd takes it, and then compacts without a pause.
            let positive = u64::try_from(ns)
                .map_err(|_| ConfigError::NegativeRetention(retention.to_owned()))?;
            (ns, Duration::from_nanos(positive))
        }
    };
    Ok(match (mode, number) {
        (_, 0) | ("", _) => None,
        (REVISION, number) => Some(AutoCompaction::Revision(number)),
        _ => Some(AutoCompaction::Periodic(period)),
    })
}

/// A decimal number with an optional sign (Go: `strconv.Atoi`).
fn decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The error text of Go's `time.ParseDuration`.
fn complaint(text: &str) -> String {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let number_len = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(is_number).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if number.parse::<f64>().is_err() {
            break;
        }
        match unit {
            "" => return format!("time: missing unit in duration {text:?}"),
            "ns" | "us" | "\u{b5}s" | "\u{3bc}s" | "ms" | "s" | "m" | "h" => rest = after,
            _ => return format!("time: unknown unit {unit:?} in duration {text:?}"),
        }
    }
    format!("time: invalid duration {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_of_hours_or_of_revisions_and_nothing_is_off() {
        let table = [
            ("periodic", "0", None),
            ("periodic", "", None),
            ("", "0s", None),
            ("revision", "0", None),
            ("periodic", "1", Some(AutoCompaction::Periodic(HOUR))),
            ("periodic", "+72", Some(AutoCompaction::Periodic(72 * HOUR))),
            ("periodic", "5m30s", Some(AutoCompaction::Periodic(Duration::from_secs(330)))),
            ("periodic", "0.5h", Some(AutoCompaction::Periodic(HOUR / 2))),
            ("revision", "1000", Some(AutoCompaction::Revision(1000))),
            // As in etcd, a duration counts as its nanoseconds.
            ("revision", "5us", Some(AutoCompaction::Revision(5000))),
        ];
        for (mode, retention, expected) in table {
            assert_eq!(auto(mode, retention).unwrap(), expected, "{mode} {retention}");
        }
    }

    /// The texts of the first five are those of etcd 3.5.1; etcd takes a negative duration.
    #[test]
    fn meaningless_retentions_are_refused_in_etcds_words() {
        let table = [
            ("foo", "1", "unknown auto-compaction-mode \"foo\""),
            (
                "periodic",
                "abc",
                "error parsing CompactionRetention: time: invalid duration \"abc\"",
            ),
            (
                "periodic",
                "-1",
                "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
            ),
            ("revision", "x", "error parsing CompactionRetention: time: invalid duration \"x\""),
            (
                "periodic",
                "1d",
                "error parsing CompactionRetention: time: unknown unit \"d\" in duration \"1d\"",
            ),
            ("", "1", "--auto-compaction-mode is undefined"),
            ("periodic", "-1h", "--auto-compaction-retention must not be negative (set to -1h)"),
        ];
        for (mode, retention, expected) in table {
            assert_eq!(auto(mode, retention).unwrap_err().to_string(), expected);
        }
    }
}
